// Writing the request log in batches, and reading it.
#include <pthread.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/log.hpp"
#include "base/text.hpp"
#include "records/deflate.hpp"
#include "records/entry.hpp"
#include "records/log_impl.hpp"
#include "records/redact.hpp"

namespace nebula::records {
namespace {

namespace json = boost::json;

constexpr std::int64_t segment_entries_max = 500;
constexpr std::size_t body_bytes_waiting_max = 64 * 1024 * 1024;
constexpr std::size_t wake_at = 2'000;    // entries that wait: the writer does not wait any longer
constexpr std::int64_t around_page = 32;  // segments looked through at once
constexpr std::int64_t upstream_segments_max = 512;
constexpr std::int64_t list_segments_max = 64;
// A request's id is of the time it began, its segment of the time it ended.
constexpr std::uint64_t request_span = std::uint64_t{2 * 3'600'000} << 22;
constexpr std::int64_t delete_rows = 500;

std::vector<std::string_view> lines_of(std::string_view entries) {
    std::vector<std::string_view> lines = split(entries, '\n');
    std::erase_if(lines, [](std::string_view line) { return line.empty(); });
    return lines;
}

// The line that holds the text at `at`.
std::string line_at(std::string_view entries, std::size_t at) {
    std::size_t from = entries.rfind('\n', at);
    from = from == std::string_view::npos ? 0 : from + 1;
    return std::string(entries.substr(from, entries.find('\n', at) - from));
}

bool matches(std::string_view line, const RequestLog::Filter& filter) {
    boost::system::error_code failed;
    json::value value = json::parse(line, failed);
    if (failed || !value.is_object()) return false;
    const json::object& entry = value.get_object();
    auto has = [&](const char* name, const std::string& wanted) {
        const json::value* found = entry.if_contains(name);
        return wanted.empty() || (found != nullptr && found->is_string() && found->get_string() == wanted);
    };
    if (!has("m", filter.model) || !has("k", filter.key)) return false;
    if (filter.status.empty()) return true;
    const json::value* status = entry.if_contains("s");
    const json::value* error = entry.if_contains("e");
    bool is_error = error != nullptr && !error->is_null();
    if (filter.status == "ok") return !is_error;
    if (filter.status == "error") return is_error;
    std::int64_t number = status != nullptr && status->is_int64() ? status->get_int64() : 200;
    return std::to_string(number) == filter.status;
}

}  // namespace

void RequestLogSettings::describe(settings::Visitor& v) {
    v.field(
        {.name = "enabled",
         .help =
             "Keep what is told of each request beside its bill: model, provider, attempts, times, error. "
             "Never keys, and no bodies unless asked for."},
        enabled);
    v.field({.name = "retention_days",
             .help = "Entries and bodies older than this are deleted.",
             .min = 1,
             .max = 3650},
            retention_days);
    v.field(
        {.name = "queue_max",
         .help =
             "Entries waiting to be written; further ones are dropped and counted. Bills are not affected.",
         .min = 1,
         .max = 1'000'000},
        queue_max);
    v.field({.name = "flush_ms",
             .help = "How long an entry waits for others before it is written, in milliseconds.",
             .min = 1,
             .max = 60'000},
            flush);
    v.field(
        {.name = "bodies",
         .help =
             "Keep prompts and answers too, for GET /api/v1/generation/content. They are personal data of "
             "your customers."},
        bodies);
    v.field({.name = "body_bytes_max",
             .help = "Larger prompts and answers are not kept, in bytes each.",
             .min = 1,
             .max = 16 * 1024 * 1024},
            body_bytes_max);
    v.field(
        {.name = "redact",
         .help = "JSON members of kept bodies whose values are replaced by \"[redacted]\", at any depth."},
        redact);
}

RequestLog::Impl::Impl(const RequestLogSettings& the_settings, store::Db& the_db, const Clock& the_clock,
                       metrics::Registry& metrics)
    : settings(the_settings),
      db(the_db),
      clock(the_clock),
      written(metrics.counter("nebula_request_log_entries_total", "Entries written to the request log.")),
      dropped(
          metrics.counter("nebula_request_log_dropped_total", "Entries lost because the queue was full.")),
      dropped_bodies(
          metrics.counter("nebula_request_log_bodies_dropped_total", "Bodies lost for lack of room.")),
      failures(
          metrics.counter("nebula_request_log_failures_total", "Batches that could not be written yet.")),
      depth(metrics.gauge("nebula_request_log_queue", "Entries waiting to be written.")) {
    metrics.gauge("nebula_request_log_queue_max", "Limit of waiting entries.").set(settings.queue_max);
}

void RequestLog::Impl::Batch::clear() {
    items.clear();
    text.clear();
    bodies.clear();
}

void RequestLog::Impl::Batch::take(Batch& more) {
    if (items.empty()) {
        std::swap(*this, more);
    } else {
        for (Item item : more.items) {
            item.at += text.size();
            items.push_back(item);
        }
        text += more.text;
        bodies.insert(bodies.end(), std::make_move_iterator(more.bodies.begin()),
                      std::make_move_iterator(more.bodies.end()));
    }
    more.clear();
}

void RequestLog::Impl::run() {
    Batch batch;
    std::unique_lock lock(mutex);
    while (true) {
        wake.wait_for(lock, settings.flush, [this] { return is_stopping || queue.items.size() >= wake_at; });
        bool is_last = is_stopping;
        batch.take(queue);
        body_bytes = 0;
        // What could not be written before counts against the limit, too.
        waiting_elsewhere = batch.items.size();
        lock.unlock();
        bool done = batch.items.empty() || write(batch);
        if (done) batch.clear();
        lock.lock();
        waiting_elsewhere = batch.items.size();
        depth.set(static_cast<std::int64_t>(queue.items.size() + batch.items.size()));
        if (is_last && queue.items.empty()) {
            dropped.add(batch.items.size());
            return;
        }
        // While the database is away, it is not asked more often than the writer would write.
        if (!done && !is_stopping) wake.wait_for(lock, settings.flush, [this] { return is_stopping; });
    }
}

// By account, in the order in which they ended.
std::vector<Segment> RequestLog::Impl::segments_of(const Batch& batch) {
    std::vector<const Batch::Item*> order;
    order.reserve(batch.items.size());
    for (const Batch::Item& one : batch.items) order.push_back(&one);
    std::ranges::sort(order, [](const Batch::Item* a, const Batch::Item* b) {
        return a->account != b->account ? a->account < b->account : std::less<>()(a, b);
    });
    std::vector<Segment> segments;
    for (const Batch::Item* one : order) {
        bool is_new = segments.empty() || segments.back().account != one->account ||
                      segments.back().count >= segment_entries_max;
        if (is_new) segments.push_back({one->account, one->id, one->id, 0, {}});
        Segment& segment = segments.back();
        segment.last = std::max(segment.last, one->id);
        segment.first = std::min(segment.first, one->id);
        segment.entries.append(batch.text, one->at, one->length) += '\n';
        ++segment.count;
    }
    return segments;
}

bool RequestLog::Impl::write(const Batch& batch) {
    std::vector<Segment> segments = segments_of(batch);
    std::vector<Body> bodies;
    for (const Batch::Kept& one : batch.bodies) {
        std::string text = R"({"input":)" + redacted(one.bodies.input, settings.redact) + R"(,"output":)" +
                           redacted(one.bodies.output, settings.redact) + "}";
        bodies.push_back({one.account, one.id, deflated(text)});
    }
    auto work = [&](store::Tx& tx) -> Result<bool> {
        insert_segments(tx, segments, clock.now());
        insert_bodies(tx, bodies, clock.now());
        return true;
    };
    try {
        auto done = db.in_tx_blocking(work);
        if (done) {
            written.add(batch.items.size());
            failed_in_a_row = 0;
            return true;
        }
    } catch (const std::exception& e) {
        if (failed_in_a_row++ == 0) LOG_WARN("request log not written", {"what", e.what()});
    }
    failures.add();
    return false;
}

RequestLog::RequestLog(const RequestLogSettings& settings, store::Db& db, const Clock& clock,
                       metrics::Registry& metrics)
    : impl_(std::make_unique<Impl>(settings, db, clock, metrics)) {}

RequestLog::~RequestLog() { stop(); }

void RequestLog::start() {
    if (!impl_->settings.enabled) return;
    impl_->thread = std::thread([impl = impl_.get()] {
        pthread_setname_np(pthread_self(), "request-log");
        impl->run();
    });
}

void RequestLog::stop() {
    {
        std::lock_guard lock(impl_->mutex);
        impl_->is_stopping = true;
    }
    impl_->wake.notify_all();
    if (impl_->thread.joinable()) impl_->thread.join();
}

bool RequestLog::is_on() const { return impl_->settings.enabled; }
bool RequestLog::keeps_bodies() const { return impl_->settings.enabled && impl_->settings.bodies; }
std::size_t RequestLog::body_bytes_max() const {
    return static_cast<std::size_t>(impl_->settings.body_bytes_max);
}

void RequestLog::add(AccountId account, RequestId id, std::string_view entry, std::optional<Bodies> bodies) {
    Impl& log = *impl_;
    std::size_t bytes = bodies ? bodies->input.size() + bodies->output.size() : 0;
    bool wakes = false;
    {
        std::lock_guard lock(log.mutex);
        std::size_t waiting = log.queue.items.size() + log.waiting_elsewhere;
        if (log.is_stopping || waiting >= static_cast<std::size_t>(log.settings.queue_max)) {
            log.dropped.add();
            return;
        }
        log.queue.items.push_back({account, id, log.queue.text.size(), entry.size()});
        log.queue.text += entry;
        if (bodies && log.body_bytes + bytes > body_bytes_waiting_max) {
            log.dropped_bodies.add();
        } else if (bodies) {
            log.body_bytes += bytes;
            log.queue.bodies.push_back({account, id, std::move(*bodies)});
        }
        wakes = log.queue.items.size() == wake_at;
    }
    if (wakes) log.wake.notify_one();
}

Async<Result<std::optional<std::string>>> RequestLog::find(AccountId account, std::string id) {
    using Found = std::optional<std::string>;
    auto ours = RequestId::parse(id);
    std::string mark = ours ? R"({"i":)" + json_string(id) : R"("u":)" + json_string(id);
    auto by_our_id = [account, ours, mark](store::Tx& tx) -> Result<Found> {
        RequestId after{ours->value - 1}, last{ours->value + request_span};
        while (true) {
            auto segments = segments_around(tx, account, *ours, after, last, around_page);
            for (const Segment& one : segments)
                if (auto at = one.entries.find(mark); at != std::string::npos)
                    return expanded(line_at(one.entries, at));
            if (segments.size() < static_cast<std::size_t>(around_page)) return Found();
            after = segments.back().last;
        }
    };
    auto by_upstream_id = [account, mark](store::Tx& tx) -> Result<Found> {
        RequestId until{std::numeric_limits<std::int64_t>::max()};
        for (std::int64_t seen = 0; seen < upstream_segments_max; seen += around_page) {
            auto segments = latest_segments(tx, account, until, around_page);
            for (const Segment& one : segments)
                if (auto at = one.entries.rfind(mark); at != std::string::npos)
                    return expanded(line_at(one.entries, at));
            if (segments.size() < static_cast<std::size_t>(around_page)) break;
            until.value = segments.back().last.value - 1;
        }
        return Found();
    };
    if (ours) co_return co_await impl_->db.read(std::move(by_our_id));
    co_return co_await impl_->db.read(std::move(by_upstream_id));
}

Async<Result<RequestLog::Page>> RequestLog::list(AccountId account, Filter filter, std::string cursor,
                                                 std::int64_t limit) {
    // "<last id of a row>.<how many of its entries, from its end, were told>"
    RequestId until{std::numeric_limits<std::int64_t>::max()};
    std::size_t skip = 0;
    if (!cursor.empty()) {
        std::size_t dot = cursor.find('.');
        auto id = parse_base32_id(std::string_view(cursor).substr(0, std::min(dot, cursor.size())));
        auto told = dot == std::string::npos
                        ? std::nullopt
                        : parse_int<std::uint32_t>(std::string_view(cursor).substr(dot + 1));
        if (!id || !told) co_return fail(Code::invalid_request, "'cursor' is not one of a page", "cursor");
        until.value = *id;
        skip = *told;
    }
    auto work = [=](store::Tx& tx) -> Result<Page> {
        Page page;
        RequestId from = until;
        std::size_t told = skip;
        for (std::int64_t seen = 0; seen < list_segments_max; seen += 8) {
            auto segments = latest_segments(tx, account, from, 8);
            for (const Segment& one : segments) {
                auto lines = lines_of(one.entries);
                if (one.last != until) told = 0;
                for (; told < lines.size(); ++told) {
                    if (page.entries.size() >= static_cast<std::size_t>(limit)) {
                        page.next = base32_id(one.last.value) + "." + std::to_string(told);
                        return page;
                    }
                    std::string_view line = lines[lines.size() - 1 - told];
                    if (matches(line, filter)) page.entries.push_back(expanded(line));
                }
                from.value = one.last.value - 1;
            }
            if (segments.size() < 8) return page;
        }
        page.next = base32_id(from.value) + ".0";
        return page;
    };
    co_return co_await impl_->db.read(std::move(work));
}

Result<bool> RequestLog::expire() {
    Time before = impl_->clock.now() - std::chrono::days(impl_->settings.retention_days);
    auto work = [before](store::Tx& tx) -> Result<std::int64_t> {
        return delete_before(tx, before, delete_rows);
    };
    auto rows = impl_->db.in_tx_blocking(work);
    if (!rows) return fail(std::move(rows.error()));
    return *rows >= delete_rows;
}

}  // namespace nebula::records
