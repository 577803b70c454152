// A stream that is asked of two routes, of the second one when the first has no content after a while: the
// first with content answers, the other is cut off. Only the one that answers is relayed, metered and
// charged; what came of it until then is kept and read again.
#include "async/completion.hpp"
#include "async/deadline.hpp"
#include "gateway/chat.hpp"
#include "gateway/framer.hpp"

namespace nebula::gateway {
namespace {

constexpr std::size_t padding = 64;  // that parsers may read behind a piece

// An answer of which some has been read already.
class Replayed final : public http::ClientResponse {
   public:
    Replayed(std::string early, std::unique_ptr<http::ClientResponse> rest)
        : early_(std::move(early)), size_(early_.size()), rest_(std::move(rest)) {
        early_.append(padding, '\0');
    }
    int status() const override { return rest_->status(); }
    std::optional<std::string_view> header(std::string_view name) const override {
        return rest_->header(name);
    }
    std::span<const http::Header> headers() const override { return rest_->headers(); }
    std::optional<std::uint64_t> content_length() const override { return rest_->content_length(); }
    bool ends_with_connection() const override { return rest_->ends_with_connection(); }
    Async<Result<std::string_view>> read() override {
        if (std::size_t size = std::exchange(size_, 0); size > 0)
            co_return std::string_view(early_).substr(0, size);
        if (!early_.empty()) std::string().swap(early_);
        co_return co_await rest_->read();
    }
    void detach(std::chrono::milliseconds rest) override { rest_->detach(rest); }

   private:
    std::string early_;
    std::size_t size_;  // of what is still to be read again
    std::unique_ptr<http::ClientResponse> rest_;
};

// Looks for the first content of a stream as the relay does.
class ContentFinder {
   public:
    ContentFinder(const Call& call)
        : kind_(*call.kind),
          is_native_(call.is_native),
          bounds_(call.bounds),
          framer_(kind_.streams_lines(), event_bytes_max) {}

    enum class Seen { nothing, content, nonsense };
    Seen push(std::string_view piece, Translator* translator) {
        if (!framer_.push(piece)) return Seen::nonsense;
        Seen seen = Seen::nothing;
        for (auto event = framer_.next(); !event.empty() && seen == Seen::nothing; event = framer_.next()) {
            std::string_view data = kind_.streams_lines() ? event : http::sse_data(event, scratch_);
            seen = translator != nullptr ? look(data, *translator) : judge(data);
        }
        return seen;
    }

   private:
    Seen look(std::string_view data, Translator& translator) {
        lines_.clear();
        if (!data.empty() && !translator.event(data, lines_)) return Seen::nonsense;
        for (std::size_t at = 0; at < lines_.size();) {
            std::size_t end = lines_.find('\n', at);
            Seen seen = judge(std::string_view(lines_).substr(at, end - at));
            if (seen != Seen::nothing) return seen;
            at = end + 1;
        }
        return is_native_ && translator.has_begun() ? Seen::content : Seen::nothing;
    }
    Seen judge(std::string_view data) const {
        Completion chunk = read_chunk(data, bounds_);
        if (chunk.kind == Completion::Kind::comment) return Seen::nothing;
        if (chunk.kind != Completion::Kind::chunk) return Seen::nonsense;  // an end without content, too
        return chunk.has_content || chunk.has_finish ? Seen::content : Seen::nothing;
    }

    const Provider& kind_;
    bool is_native_;
    UsageBounds bounds_;
    Framer framer_;
    std::string scratch_, lines_;
};

// Those that say something about the provider leave it to the other one to answer.
bool is_final(int status) {
    return status < 500 && status != 429 && status != 401 && status != 403 && status != 404 && status != 408;
}

}  // namespace

/// One of the two. Lives in the frame of attempt_hedged(), which ends after it.
struct Chat::Runner {
    Runner(const catalog::Route& route, Upstream& upstream, routing::RouteState& state, const Clock& clock)
        : trial(route, upstream, state, clock),
          leave(upstream, trial.started),
          slot(leave ? Slot(upstream, route.provider->concurrency_max) : Slot()) {}
    bool has_won() const { return has_answer && is_final(response->status()); }

    Trial trial;
    Attempted leave;
    Slot slot;
    http::CancelToken token;
    std::size_t attempt = 0;  // its place in the trail
    bool is_running = false;
    bool has_answer = false;  // content, or a head that is no stream's
    const Provider* kind = nullptr;
    bool is_native = false;
    std::unique_ptr<http::ClientResponse> response;
    std::string early;
    Error error;
};

/// The two, and the coroutine that waits for them; all on the thread of the call.
struct Chat::Race {
    explicit Race(IoThread& of) : thread(of) {}

    IoThread& thread;
    std::optional<Runner> first, second;
    nebula::Completion<bool>* waiting = nullptr;

    bool is_running() const { return first->is_running || (second && second->is_running); }
    void notify() {
        if (auto* one = std::exchange(waiting, nullptr)) one->set(true);
    }
    /// Until a runner stops, or until then.
    Async<void> wait(std::optional<Ticks> until = {}) {
        nebula::Completion<bool> happened;
        Deadline timer(thread.deadlines(), [](void* race) { static_cast<Race*>(race)->notify(); }, this);
        waiting = &happened;
        if (until) timer.arm(*until);
        co_await happened;
    }
};

bool Chat::may_hedge(const Call& call, const catalog::Route& route) const {
    const EndpointInfo endpoint = info(call.endpoint);
    if (!call.request.stream || !endpoint.has_output || endpoint.is_media) return false;
    // What runs at the provider may do something, and costs by the use.
    if (call.request.tool_calls_max > 0) return false;
    // A local model's turn is dear.
    return !route.provider->is_runtime() && call.trail.attempt_count + 2 <= Trail::attempts_max;
}

Async<void> Chat::open_stream(Call& call, Race& race, Runner& runner) {
    struct Done {
        Race& race;
        Runner& runner;
        ~Done() {  // an exception, too, is an end
            runner.is_running = false;
            race.notify();
        }
    } done{race, runner};
    const catalog::Route& route = runner.trial.route;
    runner.error = {.code = Code::upstream_failed,
                    .message = "the provider sent an invalid event",
                    .detail = "no content"};
    auto body = prepare(call, route);
    if (!body) {
        runner.error = std::move(body.error());
        co_return;
    }
    runner.kind = call.kind;
    runner.is_native = call.is_native;
    const std::size_t early_bytes_max = call.unsent_bytes_max();
    ContentFinder finder(call);
    std::unique_ptr<Translator> translator = std::move(call.translator);
    // Until it first waits, send() reads what prepare() left in the call; the other runner overwrites that.
    auto response = co_await send(call, route, route.provider->origin, std::move(*body), &runner.token);
    if (!response) {
        runner.error = std::move(response.error());
        co_return;
    }
    runner.response = std::move(*response);
    runner.trial.upstream.observe(runner.trial.waited_us());
    int status = runner.response->status();
    runner.has_answer = status < 200 || status >= 300;
    while (!runner.has_answer) {
        auto piece = co_await runner.response->read();
        if (!piece) {
            runner.error = std::move(piece.error());
            co_return;
        }
        if (piece->empty() || runner.early.size() + piece->size() > early_bytes_max) co_return;
        auto seen = finder.push(*piece, translator.get());
        if (seen == ContentFinder::Seen::nonsense) co_return;
        runner.early += *piece;
        runner.has_answer = seen == ContentFinder::Seen::content;
    }
}

void Chat::start(Call& call, Race& race, Runner& runner) {
    runner.is_running = true;
    call.trail.begin_attempt(runner.trial.route, runner.trial.started);
    runner.attempt = call.trail.told_attempt;
    if (background_.spawn(race.thread, open_stream(call, race, runner))) return;
    runner.is_running = false;
    runner.error = {.code = Code::overloaded, .message = "the server is shutting down"};
}

void Chat::count_hedge(const char* result) {
    services_.metrics
        .counter("nebula_hedges_total",
                 "Streams that were to be asked of a second route, by what came of it.", {{"result", result}})
        .add();
}

// Where the second one cannot be asked now, or was asked too often of late, the first goes on alone.
void Chat::enter_second(Call& call, Race& race, const catalog::Route& other) {
    routing::RouteState& state = upstreams_.of(other);
    if (state.limited_for_ms(services_.clock.ticks()) > 0) return count_hedge("unavailable");
    if (!upstreams_.of(race.first->trial.route).take_hedge()) return count_hedge("over_share");
    race.second.emplace(other, upstreams_.of(*other.provider), state, services_.clock);
    if (!race.second->slot) {
        race.second.reset();
        return count_hedge("unavailable");
    }
    call.race[1] = &race.second->token;
    start(call, race, *race.second);
}

// Null when none has an answer; then both have ended.
Async<Chat::Runner*> Chat::run_race(Call& call, Race& race, const catalog::Route& other) {
    Ticks hedge_at = race.first->trial.started + call.model->hedge;
    start(call, race, *race.first);
    while (race.first->is_running && services_.clock.ticks() < hedge_at) co_await race.wait(hedge_at);
    if (race.first->is_running && !is_over(call)) enter_second(call, race, other);
    while (true) {
        if (race.first->has_won()) co_return &*race.first;
        if (race.second && race.second->has_won()) co_return &*race.second;
        if (!race.is_running()) break;
        co_await race.wait();
    }
    if (race.second && race.second->has_answer) co_return &*race.second;
    co_return race.first->has_answer ? &*race.first : nullptr;
}

// What is to be learnt of the one that does not answer. That it was slower is no failure.
void Chat::note_loser(Call& call, Runner& runner, bool is_outrun) {
    call.trail.told_attempt = runner.attempt;
    if (is_outrun) {
        runner.trial.outrun();
        runner.error = {.code = Code::cancelled, .message = "another route was faster"};
    } else if (runner.has_answer) {
        call.trail.attempt().status = runner.response->status();
        note_status(call, *runner.response, runner.trial);
        runner.error = call.error;
    } else if (runner.error.code != Code::cancelled) {
        call.error = runner.error;
        if (runner.error.code == Code::upstream_failed || runner.error.code == Code::timeout)
            fail_trial(call, runner.trial);
        else
            call.failure = "untranslatable";
    }
    call.trail.end_attempt(services_.clock.ticks(), &runner.error);
}

Async<Chat::Attempt> Chat::attempt_hedged(Call& call, const catalog::Route& route,
                                          const catalog::Route& other, bool& is_other_tried) {
    routing::RouteState& state = upstreams_.of(route);
    state.note_stream(call.model->hedge_percent_max);
    Race race(call.exchange.thread());
    race.first.emplace(route, upstreams_.of(*route.provider), state, services_.clock);
    if (!race.first->slot || state.limited_for_ms(race.first->trial.started) > 0) {
        race.first.reset();
        co_return co_await attempt(call, route);
    }
    note_fallback(call);
    call.race[0] = &race.first->token;
    Runner* winner = co_await run_race(call, race, other);
    is_other_tried = race.second.has_value();
    if (is_other_tried) {
        const char* word = winner == nullptr || !winner->has_won() ? "none"
                           : winner == &*race.first                ? "first"
                                                                   : "second";
        count_hedge(word);
    }
    for (std::size_t i = 0; i < call.race.size(); ++i) {
        std::optional<Runner>& one = i == 0 ? race.first : race.second;
        if (!one || &*one == winner) continue;
        bool is_outrun = winner != nullptr && (one->is_running || one->has_won());
        one->token.cancel();
        while (one->is_running) co_await race.wait();
        note_loser(call, *one, is_outrun);
        call.race[i] = nullptr;
        one.reset();  // others may have its slot while the winner streams
    }
    Attempt result = Attempt::try_next;
    if (winner != nullptr) {
        call.trail.told_attempt = winner->attempt;
        call.kind = winner->kind;
        call.is_native = winner->is_native;
        call.translator =
            call.kind->translate(call.endpoint, call.exchange.id().text(), services_.clock.now());
        auto answer = std::make_unique<Replayed>(std::move(winner->early), std::move(winner->response));
        result = co_await take_answer(call, winner->trial, std::move(answer));
        call.trail.end_attempt(services_.clock.ticks(), result == Attempt::answered ? nullptr : &call.error);
    }
    call.race = {};
    co_return result;
}

}  // namespace nebula::gateway
