#include <utility>

#include "gateway/call.hpp"
#include "gateway/framer.hpp"
#include "gateway/openrouter/answer.hpp"
#include "http/sse.hpp"

namespace nebula::gateway {
namespace {

constexpr std::size_t media_event_bytes_max = 64 * 1024 * 1024;  // an image is one event

Error broken(const char* message, const char* detail) {
    return {.code = Code::upstream_failed, .message = message, .detail = detail};
}

// One stream from one provider to one client.
class Relay {
   public:
    Relay(Call& call, http::ClientResponse& upstream, std::string content_type, const Clock& clock)
        : call_(call),
          upstream_(upstream),
          content_type_(std::move(content_type)),
          clock_(clock),
          is_media_(info(call.endpoint).is_media),
          framer_(call.kind->streams_lines(), is_media_ ? media_event_bytes_max : event_bytes_max) {}

    Async<StreamEnd> run() {
        while (true) {
            auto piece = co_await upstream_.read();
            if (!piece) co_return failure(std::move(piece.error()));
            if (piece->empty()) {
                StreamEnd end = clean_end();
                if (end.kind == StreamEnd::Kind::done) co_await flush();  // what rails held back
                co_return end;
            }
            if (!framer_.push(*piece)) {
                co_return failure(
                    broken("the provider sent an event that is too large", "event above the limit"));
            }
            std::optional<StreamEnd> end = read_events();
            bool sent = co_await flush();
            if (!sent) co_return StreamEnd{.kind = StreamEnd::Kind::client_left};
            if (end) co_return std::move(*end);
        }
    }

   private:
    StreamEnd failure(Error error) {
        if (error.code == Code::cancelled && call_.is_client_gone)
            return {.kind = StreamEnd::Kind::client_left};
        return {.kind = StreamEnd::Kind::failed, .error = std::move(error)};
    }

    // The body ended as HTTP says it should, but without [DONE].
    StreamEnd clean_end() {
        // Events of images and sound say themselves which one is the last.
        bool whole = finished_ && !framer_.pending() && (is_media_ || !upstream_.ends_with_connection());
        if (!whole) return failure(broken("the provider's stream ended early", "end without [DONE]"));
        if (is_media_) return {.kind = StreamEnd::Kind::done, .last_event = take_held()};
        if (is_guarded() && !finish_guarded())
            return failure(broken("the provider sent an invalid event", "chunk cannot be told"));
        // A client of the provider's own API has had the last event by now.
        return {.kind = StreamEnd::Kind::done, .last_event = call_.is_native ? "" : "data: [DONE]\n\n"};
    }

    // Looks at every complete event of the piece; what may be passed on is queued for flush().
    std::optional<StreamEnd> read_events() {
        for (auto event = framer_.next(); !event.empty(); event = framer_.next()) {
            if (call_.cache) call_.cache->record(event);
            std::string_view data = call_.kind->streams_lines() ? event : http::sse_data(event, scratch_);
            auto end = call_.translator ? read_foreign(event, data) : read_openai(event, data);
            if (end) return end;
            if (!started_ && unsent_.size() > call_.unsent_bytes_max())
                return failure(
                    broken("the provider's stream has no content", "too much before the first content"));
        }
        return std::nullopt;
    }

    // An event of another API: each chunk that it becomes is metered; what the client gets is the event
    // itself when it speaks that API, else the chunks.
    std::optional<StreamEnd> read_foreign(std::string_view event, std::string_view data) {
        lines_.clear();
        if (!data.empty() && !call_.translator->event(data, lines_))
            return failure(broken("the provider sent an invalid event", "event of another shape"));
        for (std::size_t at = 0; at < lines_.size();) {
            std::size_t line_end = lines_.find('\n', at);
            auto end = read_openai(event, std::string_view(lines_).substr(at, line_end - at));
            if (end) return end;
            at = line_end + 1;
        }
        if (call_.is_native) {
            started_ = started_ || call_.translator->has_begun();
            queue_native(event, data);
        }
        return std::nullopt;
    }

    std::optional<StreamEnd> read_openai(std::string_view event, std::string_view data) {
        Completion chunk = is_media_ ? read_media_event(data, call_.bounds)
                                     : read_chunk(data, call_.bounds, call_.answer_tokens.get());
        switch (chunk.kind) {
            case Completion::Kind::malformed:
                return failure(broken("the provider sent an invalid event", "event is not a chunk"));
            case Completion::Kind::error:
                return failure(broken("the provider reported an error", "error event"));
            case Completion::Kind::done:
                if (!started_ && !finished_)
                    return failure(broken("the provider sent an empty stream", "[DONE] without content"));
                if (is_guarded() && !finish_guarded())
                    return failure(broken("the provider sent an invalid event", "chunk cannot be told"));
                return StreamEnd{.kind = StreamEnd::Kind::done,
                                 .last_event = take_held() + last_event(event)};
            case Completion::Kind::comment:
                if (!call_.client) queue(event);
                break;
            case Completion::Kind::chunk:
                take(chunk);
                if (!is_guarded()) call_.trail.keep_output(data);
                if (is_media_) {
                    queue_media(event, chunk);
                    break;
                }
                if (call_.is_native) break;
                if (call_.is_openrouter && is_usage(chunk)) {
                    call_.usage_chunk = data;  // waits for the charge
                    break;
                }
                if (is_guarded()) {
                    if (!read_guarded(chunk, data))
                        return failure(
                            broken("the provider sent an invalid event", "chunk cannot be judged"));
                } else if (call_.client) {
                    if (!call_.client->chunk(data, unsent_))
                        return failure(broken("the provider sent an invalid event", "chunk cannot be told"));
                } else if (is_ours(chunk)) {
                    break;
                } else if (call_.is_openrouter && openrouter::tells_thoughts(data)) {
                    if (!run_.empty()) unsent_ += std::exchange(run_, {});
                    unsent_.append("data: ").append(openrouter::with_thoughts(data)).append("\n\n");
                } else if (call_.translator) {
                    unsent_.append("data: ").append(data).append("\n\n");
                } else {
                    queue(event);
                }
                break;
        }
        return std::nullopt;
    }

    bool is_guarded() const { return call_.guard && call_.guard->output; }

    // What the rails leave of a chunk, told as the client reads it. False: it cannot be judged or told.
    bool read_guarded(const Completion& chunk, std::string_view data) {
        call_.guard->lines.clear();
        if (!call_.guard->output->chunk(data, call_.guard->lines)) return false;
        return is_ours(chunk) && !call_.client ? true : tell_guarded();
    }
    bool finish_guarded() {
        call_.guard->lines.clear();
        call_.guard->output->finish(call_.guard->lines);
        return tell_guarded();
    }
    bool tell_guarded() {
        if (!run_.empty()) unsent_ += std::exchange(run_, {});
        std::string_view lines = call_.guard->lines;
        for (std::size_t at = 0; at < lines.size();) {
            std::size_t line_end = lines.find('\n', at);
            std::string_view line = lines.substr(at, line_end - at);
            call_.trail.keep_output(line);
            if (!call_.client && call_.is_openrouter && openrouter::tells_thoughts(line))
                unsent_.append("data: ").append(openrouter::with_thoughts(line)).append("\n\n");
            else if (!call_.client)
                unsent_.append("data: ").append(line).append("\n\n");
            else if (!call_.client->chunk(line, unsent_))
                return false;
            at = line_end + 1;
        }
        return true;
    }

    std::string last_event(std::string_view event) const {
        bool is_foreign = call_.translator && !call_.is_native;
        return is_foreign ? "data: [DONE]\n\n" : std::string(event);
    }

    bool is_usage(const Completion& chunk) const {
        bool has_usage = chunk.usage.state != ReportedUsage::State::absent || finished_;
        return !chunk.has_choices && has_usage;
    }

    // The usage chunk was asked for by us, not by the client. Some providers send it empty.
    bool is_ours(const Completion& chunk) const {
        bool may_be_ours = call_.key != nullptr || call_.translator;
        return may_be_ours && !call_.request.include_usage && is_usage(chunk);
    }

    void take(const Completion& chunk) {
        if (chunk.usage.state != ReportedUsage::State::absent || chunk.usage.seconds > 0)
            call_.usage = chunk.usage;
        finished_ = finished_ || chunk.has_finish;
        if (chunk.has_finish || call_.trail.upstream_id.empty())
            call_.trail.note(chunk.raw_id, chunk.raw_finish);
        if (chunk.has_content) {
            if (call_.content_events++ == 0) {
                auto waited = clock_.ticks() - call_.exchange.started();
                call_.first_token_us = std::chrono::duration_cast<std::chrono::microseconds>(waited).count();
            }
            call_.content_bytes += chunk.content_bytes;
        }
        started_ = started_ || chunk.has_content || chunk.has_finish;
    }

    // The end of an image or text waits for the next event, or for the charge: it may be the last one.
    void queue_media(std::string_view event, const Completion& chunk) {
        if (!held_.empty()) {
            if (unsent_.empty()) unsent_ = run_;
            run_ = {};
            unsent_ += take_held();
        }
        if (chunk.has_finish) {
            held_ = event;
            held_images_ = chunk.images;
            if (!chunk.size.empty()) call_.image_size = chunk.size;
            if (!chunk.quality.empty()) call_.image_quality = chunk.quality;
        } else {
            queue(event);
        }
    }
    std::string take_held() {
        call_.images += std::exchange(held_images_, 0);
        return std::exchange(held_, {});
    }

    void queue_native(std::string_view event, std::string_view data) {
        marked_.clear();
        if (!call_.client->native_event(data, marked_)) return queue(event);
        if (!run_.empty()) unsent_ += std::exchange(run_, {});
        unsent_ += marked_;
    }

    // Neighbouring events leave in one write without being copied; others are copied behind what waits.
    void queue(std::string_view event) {
        if (!unsent_.empty()) {
            unsent_ += event;
        } else if (run_.empty()) {
            run_ = event;
        } else if (run_.data() + run_.size() == event.data()) {
            run_ = {run_.data(), run_.size() + event.size()};
        } else {
            unsent_ = run_;
            unsent_ += event;
            run_ = {};
        }
    }

    // False when the client is gone and nobody wants the rest.
    Async<bool> flush() {
        std::string_view out = unsent_.empty() ? run_ : std::string_view(unsent_);
        if (!started_) {
            // Nothing the client could not do without yet: keep it, another route may still answer.
            if (unsent_.empty()) unsent_ = run_;
            run_ = {};
            co_return !call_.is_client_gone || wants_rest();
        }
        bool ok = true;
        if (!out.empty() && !call_.is_client_gone) {
            if (!call_.exchange.has_begun()) {
                call_.mark_own_key();
                call_.exchange.begin_stream(200, stream_type());
            }
            auto written = co_await call_.exchange.write(out);
            if (!written) call_.is_client_gone = true;
        }
        if (call_.is_client_gone) ok = wants_rest();
        unsent_.clear();
        run_ = {};
        co_return ok;
    }

    std::string_view stream_type() const {
        if (call_.is_native) return content_type_;
        if (call_.client) return call_.client->stream_type();
        return call_.translator ? std::string_view("text/event-stream; charset=utf-8") : content_type_;
    }

    bool wants_rest() const { return call_.disconnect() == catalog::Disconnect::drain; }

    Call& call_;
    http::ClientResponse& upstream_;
    std::string content_type_;
    const Clock& clock_;
    const bool is_media_;
    Framer framer_;
    std::string scratch_;
    std::string lines_;     // what an event of another API becomes
    std::string marked_;    // an event of the client's own API that is not told as it came
    std::string unsent_;    // events that wait, copied
    std::string_view run_;  // neighbouring events of the current piece
    std::string held_;      // the end of an image or text, until it is paid for or not the last
    std::int64_t held_images_ = 0;
    bool started_ = false;   // content or a finish reason was seen
    bool finished_ = false;  // a finish reason was seen
};

}  // namespace

Async<StreamEnd> relay_stream(Call& call, http::ClientResponse& upstream, std::string content_type,
                              const Clock& clock) {
    Relay relay(call, upstream, std::move(content_type), clock);
    co_return co_await relay.run();
}

}  // namespace nebula::gateway
