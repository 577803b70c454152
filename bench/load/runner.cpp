#include "load/runner.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include <sys/epoll.h>

namespace nebula::bench {
namespace {

constexpr std::int64_t second = 1'000'000'000;
constexpr std::int64_t sweep_interval = second / 10;
// Enough to keep a proxy busy while 10,000 connections are opened, few enough for any listen backlog.
constexpr std::uint64_t visits_at_a_time = 128;

std::int64_t nanos(double seconds) { return static_cast<std::int64_t>(seconds * 1e9); }

std::uint64_t elapsed(std::int64_t from, std::int64_t to) {
    return to > from ? static_cast<std::uint64_t>(to - from) : 0;
}

}  // namespace

LoadRunner::LoadRunner(LoadOptions options, std::function<void(const char*)> announce)
    : options_(std::move(options)),
      announce_(std::move(announce)),
      request_(options_.request_text()),
      epoll_(make_epoll()),
      connections_(options_.connections),
      random_(options_.seed) {}

Results LoadRunner::run() {
    next_sweep_ns_ = now_ns() + sweep_interval;
    if (options_.is_idle)
        run_idle();
    else
        run_timed();
    return results_;
}

void LoadRunner::run_timed() {
    origin_ns_ = now_ns();
    std::int64_t measured_from = origin_ns_ + nanos(options_.warmup_s);
    bool is_staggered = options_.shape.is_streaming && options_.rate == 0;
    if (!is_staggered) {
        for (std::size_t i = 0; i < connections_.size(); ++i) open(i);
    } else {
        // Streams of one length that start together also end together; spread over the warm-up they do
        // neither.
        for (std::size_t i = 0; i < connections_.size() && !stop_requested(); ++i) {
            double share = 0.8 * static_cast<double>(i) / static_cast<double>(connections_.size());
            std::int64_t when = origin_ns_ + nanos(options_.warmup_s * share);
            while (now_ns() < when && !stop_requested()) turn(when);
            open(i);
        }
    }
    while (now_ns() < measured_from && !stop_requested()) turn(measured_from);
    announce_("start");
    results_.is_measuring = true;
    std::int64_t started = now_ns();
    std::int64_t end = started + nanos(options_.duration_s);
    while (now_ns() < end && !stop_requested()) turn(end);
    std::int64_t stopped = now_ns();
    announce_("stop");
    results_.seconds = static_cast<double>(stopped - started) / 1e9;
    if (options_.rate > 0) finish_open_loop(stopped);
    for (const ClientConnection& connection : connections_)
        results_.streams_open += connection.is_streaming_now();
}

void LoadRunner::run_idle() {
    sends_by_itself_ = false;
    visit_all(true);
    announce_("start");
    results_.is_measuring = true;
    std::int64_t started = now_ns();
    std::int64_t end = started + nanos(options_.duration_s);
    while (now_ns() < end && !stop_requested()) turn(end);
    announce_("stop");
    results_.seconds = static_cast<double>(now_ns() - started) / 1e9;
    results_.connections_held = static_cast<std::uint64_t>(
        std::ranges::count_if(connections_, [](const ClientConnection& c) { return c.is_open(); }));
    results_.connections_alive = visit_all(false);
}

std::uint64_t LoadRunner::visit_all(bool opens) {
    answered_ = 0;
    std::uint64_t failed_before = results_.error_count();
    bool is_measuring = std::exchange(results_.is_measuring, true);
    free_.clear();
    std::uint64_t visited = 0;
    std::size_t index = 0;
    std::int64_t deadline = now_ns() + nanos(options_.timeout_s) * 6;
    auto settled = [&] { return answered_ + results_.error_count() - failed_before; };
    while ((index < connections_.size() || settled() < visited) && !stop_requested() && now_ns() < deadline) {
        while (index < connections_.size() && visited - std::min(visited, settled()) < visits_at_a_time) {
            if (opens) open(index);
            if (connections_[index].is_open()) {
                send(index, now_ns());
                ++visited;
            }
            ++index;
        }
        turn(now_ns() + sweep_interval);
    }
    results_.is_measuring = is_measuring;
    free_.clear();
    return answered_;
}

void LoadRunner::turn(std::int64_t until_ns) {
    std::int64_t now = now_ns();
    if (now >= next_sweep_ns_) sweep(now);
    dispatch(now);
    std::int64_t wake = std::min({until_ns, next_sweep_ns_, next_due()});
    std::array<epoll_event, 256> events;
    int count = wait_events(epoll_.get(), events.data(), static_cast<int>(events.size()),
                            std::max<std::int64_t>(0, wake - now_ns()));
    for (int i = 0; i < count; ++i) {
        const epoll_event& event = events[static_cast<std::size_t>(i)];
        std::size_t index = event.data.u64;
        if (!connections_[index].is_open()) continue;
        bool peer_left = (event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
        settle(index, connections_[index].serve(peer_left, results_));
    }
}

std::int64_t LoadRunner::next_due() const {
    bool waits_for_schedule = sends_by_itself_ && options_.rate > 0 && !free_.empty();
    if (!waits_for_schedule) return std::numeric_limits<std::int64_t>::max();
    return origin_ns_ + static_cast<std::int64_t>(static_cast<double>(scheduled_) * 1e9 / options_.rate);
}

void LoadRunner::dispatch(std::int64_t now) {
    if (!sends_by_itself_) return;
    // Taken aside, because a request that fails at once makes its connection free again.
    if (options_.rate == 0) {
        std::vector<std::size_t> ready = std::exchange(free_, {});
        for (std::size_t index : ready) send(index, now);
        return;
    }
    for (std::int64_t due; (due = next_due()) <= now;) {
        std::size_t index = free_.back();
        free_.pop_back();
        ++scheduled_;
        send(index, due);
    }
}

void LoadRunner::send(std::size_t index, std::int64_t due_ns) {
    ClientConnection::Plan plan{.request = request_, .shape = &options_.shape, .due_ns = due_ns};
    if (options_.abort_ratio > 0) {
        plan.aborts = std::uniform_real_distribution<double>(0, 1)(random_) < options_.abort_ratio;
        std::uint32_t last = std::max<std::uint32_t>(options_.shape.tokens, 1) - 1;
        plan.abort_after_events = std::uniform_int_distribution<std::uint32_t>(0, last)(random_);
    }
    settle(index, connections_[index].start(plan, results_));
}

void LoadRunner::settle(std::size_t index, Progress progress) {
    ClientConnection& connection = connections_[index];
    switch (progress) {
        case Progress::waiting:
            return;
        case Progress::finished: {
            ++answered_;
            if (results_.is_measuring) {
                ++results_.requests;
                results_.latency.add(elapsed(connection.due_ns(), now_ns()));
                std::int64_t first = connection.first_event_ns();
                if (first != 0) results_.first_event.add(elapsed(connection.due_ns(), first));
            }
            break;
        }
        case Progress::aborted:
            break;
        case Progress::failed:
            results_.fail(connection.failure());
            break;
        case Progress::left:
            if (results_.is_measuring) ++results_.closed_by_server;
            std::erase(free_, index);
            break;
    }
    recycle(index, progress == Progress::failed);
}

void LoadRunner::recycle(std::size_t index, bool is_failed) {
    if (!sends_by_itself_) return;
    if (connections_[index].is_open())
        free_.push_back(index);
    else if (is_failed)
        closed_.push_back(index);
    else
        open(index);
}

void LoadRunner::open(std::size_t index) {
    bool is_open = connections_[index].open(epoll_.get(), options_.port, index);
    if (!is_open) results_.fail("connect");
    if (!sends_by_itself_) return;
    (is_open ? free_ : closed_).push_back(index);
}

void LoadRunner::sweep(std::int64_t now) {
    next_sweep_ns_ = now + sweep_interval;
    for (std::size_t index : std::exchange(closed_, {})) open(index);
    std::int64_t limit = nanos(options_.timeout_s);
    for (std::size_t i = 0; i < connections_.size(); ++i) {
        ClientConnection& connection = connections_[i];
        // The time limit runs from when a request was due; a stream may take as long as it has events.
        if (!connection.is_in_flight() || connection.is_streaming_now() || now - connection.due_ns() <= limit)
            continue;
        connection.close();
        results_.fail("timeout");
        recycle(i, true);
    }
}

void LoadRunner::finish_open_loop(std::int64_t end_ns) {
    // Requests that were due but have no answer yet count with the time they have waited: leaving them out
    // would make a proxy that stalls look better than one that is slow.
    auto count = [this, end_ns](std::int64_t due) {
        ++results_.unfinished;
        results_.latency.add(elapsed(due, end_ns));
    };
    for (const ClientConnection& connection : connections_) {
        if (connection.is_in_flight()) count(connection.due_ns());
    }
    auto due_of = [this](std::uint64_t number) {
        return origin_ns_ + static_cast<std::int64_t>(static_cast<double>(number) * 1e9 / options_.rate);
    };
    for (; due_of(scheduled_) < end_ns; ++scheduled_) count(due_of(scheduled_));
}

}  // namespace nebula::bench
