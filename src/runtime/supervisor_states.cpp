// What happens to a runner and when. See the picture in supervisor.hpp.
#include <unistd.h>

#include <algorithm>

#include "runtime/supervisor.hpp"
#include "runtime/supervisor_counters.hpp"

namespace nebula::runtime {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds stop_patience{3'000};  // between SIGTERM and SIGKILL
constexpr milliseconds start_probe_pause{50};
constexpr milliseconds start_probe_timeout{2'000};
constexpr milliseconds health_probe_timeout{10'000};
constexpr int probe_failures_max = 3;
constexpr std::int64_t program_bytes = 128LL << 20;  // the runner itself, before any model

Error failure(Code code, std::string message, std::string detail, int retry_after_ms) {
    return {.code = code,
            .message = std::move(message),
            .param = "",
            .detail = std::move(detail),
            .retry_after_ms = retry_after_ms};
}

}  // namespace

const char* state_name(State state) {
    switch (state) {
        case State::stopped:
            return "stopped";
        case State::starting:
            return "starting";
        case State::ready:
            return "ready";
        case State::stopping:
            return "stopping";
        case State::backoff:
            return "backoff";
    }
    return "stopped";
}

std::int64_t Supervisor::estimate_bytes(const Runner& runner) const {
    std::int64_t file = runner.found.file.file_bytes;
    // In 128 bits, since all three come from outside; beyond the bound nothing fits anyway.
    auto cache = static_cast<__int128>(runner.found.kv_bytes_per_token) * runner.found.file.context_length *
                 settings_.parallel;
    constexpr __int128 cache_max = __int128{1} << 50;
    return program_bytes + file + file / 5 + static_cast<std::int64_t>(std::min(cache, cache_max));
}

void Supervisor::step(Runner& runner, Ticks now) {
    std::erase_if(runner.waiters, [&](const std::shared_ptr<Waiter>& waiter) {
        if (now < waiter->deadline) return false;
        Error error = failure(Code::timeout, "the model did not start in time", "runner is starting", 1'000);
        deliveries_.push_back({waiter, fail(std::move(error))});
        return true;
    });
    if (is_stopping_) fail_waiters(runner, failure(Code::cancelled, "the server is shutting down", "", 0));
    if (runner.process != nullptr)
        if (auto exit = runner.process->try_reap()) handle_exit(runner, *exit, now);
    if (runner.state == State::backoff && now >= runner.backoff_until) runner.state = State::stopped;
    switch (runner.state) {
        case State::stopped:
            step_stopped(runner);
            break;
        case State::starting:
            step_starting(runner, now);
            break;
        case State::ready:
            step_ready(runner, now);
            break;
        case State::stopping:
            if (runner.kill_at && SystemClock().ticks() >= *runner.kill_at) {
                runner.process->kill();
                runner.kill_at.reset();
            }
            break;
        case State::backoff:
            break;
    }
}

void Supervisor::step_stopped(Runner& runner) {
    if (is_stopping_ || (runner.waiters.empty() && !runner.restarts)) return;
    if (runner.is_gone)
        return fail_waiters(runner, failure(Code::not_found, "the model's file is no longer there", "", 0));
    if (!make_room(runner)) return;
    runner.state = State::starting;
    runner.memory_bytes = estimate_bytes(runner);
    ++runner.generation;
    runner.is_probing = runner.has_probe_result = runner.has_timed_out = false;
    runner.restarts = runner.is_stale = false;
    runner.probe_failures = 0;
    runner.next_probe = Ticks{};
    runner.started = clock_.ticks();
    runner.last_line.clear();
    runner.needs_spawn = true;  // not here: starting a process takes milliseconds and the mutex is held
    counters_->starts.add();
}

void Supervisor::step_starting(Runner& runner, Ticks now) {
    if (runner.process == nullptr) return;
    if (is_stopping_) return begin_stop(runner, "shutdown");
    if (runner.has_timed_out) return;  // killed, its exit comes next
    if (std::exchange(runner.has_probe_result, false) && runner.probe_status == 200)
        return grant(runner, now);
    if (now - runner.started >= settings_.start_timeout) {
        runner.has_timed_out = true;
        runner.process->kill();
        return;
    }
    Ticks real_now = SystemClock().ticks();
    if (runner.is_probing || real_now < runner.next_probe) return;
    runner.next_probe = real_now + start_probe_pause;
    begin_probe(runner, start_probe_timeout);
}

// Ready: everybody who waits gets a lease.
void Supervisor::grant(Runner& runner, Ticks now) {
    runner.state = State::ready;
    runner.ready_since = now;
    runner.next_probe = now + settings_.health_interval;
    runner.memory_bytes = runner.process->resident_bytes();
    runner.shared->touch();
    auto took = std::chrono::duration_cast<milliseconds>(now - runner.started).count();
    counters_->start_seconds.observe_us(took * 1'000);
    LOG_INFO("runner ready", {"model", runner.found.file.id}, {"pid", runner.process->pid()},
             {"took_ms", took});
    for (auto& waiter : runner.waiters) {
        ++runner.shared->leases;
        deliveries_.push_back({std::move(waiter), runner.shared});
    }
    runner.waiters.clear();
}

void Supervisor::step_ready(Runner& runner, Ticks now) {
    if (is_stopping_) return begin_stop(runner, "shutdown");
    if (std::exchange(runner.has_probe_result, false)) {
        runner.probe_failures = runner.probe_status == 0 ? runner.probe_failures + 1 : 0;
        if (std::int64_t resident = runner.process->resident_bytes(); resident > 0)
            runner.memory_bytes = resident;
        if (runner.probe_failures >= probe_failures_max) {
            LOG_WARN("runner does not answer, ending it", {"model", runner.found.file.id});
            runner.process->kill();
            return;
        }
    }
    if (runner.shared->leases == 0) {
        auto idle = now.time_since_epoch() - Ticks::duration(runner.shared->last_used.load());
        if (runner.is_gone || runner.is_stale) return begin_stop(runner, "file changed");
        if (settings_.idle_unload.count() > 0 && idle >= settings_.idle_unload) {
            counters_->idle_unloads.add();
            return begin_stop(runner, "idle");
        }
    }
    if (runner.is_probing || now < runner.next_probe) return;
    runner.next_probe = now + settings_.health_interval;
    begin_probe(runner, health_probe_timeout);
}

void Supervisor::begin_stop(Runner& runner, const char* reason) {
    LOG_INFO("stopping runner", {"model", runner.found.file.id}, {"reason", reason});
    runner.state = State::stopping;
    runner.process->terminate();
    runner.kill_at = SystemClock().ticks() + stop_patience;
}

void Supervisor::handle_exit(Runner& runner, const Process::Exit& exit, Ticks now) {
    log_output(runner);  // its last words
    runner.process.reset();
    ::unlink(runner.shared->origin.unix_path.c_str());
    runner.memory_bytes = 0;
    runner.kill_at.reset();
    ++runner.generation;
    runner.is_probing = runner.has_probe_result = false;
    State was = std::exchange(runner.state, State::stopped);
    if (was == State::stopping) return;  // whoever waits meanwhile gets a new one
    counters_->crashes.add();
    LOG_WARN("runner ended by itself", {"model", runner.found.file.id}, {"how", exit.text()},
             {"last_line", runner.last_line}, {"timed_out", runner.has_timed_out});
    std::string detail = exit.text() + (runner.last_line.empty() ? "" : ": " + runner.last_line);
    if (runner.has_timed_out)
        handle_failure(runner, failure(Code::timeout, "the model did not start in time", detail, 0), false,
                       now);
    else
        handle_failure(runner,
                       failure(Code::upstream_failed, "the model's runner ended unexpectedly", detail, 0),
                       was == State::ready, now);
}

void Supervisor::handle_failure(Runner& runner, Error error, bool was_ready, Ticks now) {
    if (was_ready && now - runner.ready_since > settings_.restart_backoff_max) runner.crashes = 0;
    runner.state = State::stopped;
    runner.memory_bytes = 0;
    if (!is_stopping_) {
        auto pause = settings_.restart_backoff;
        for (int i = 0; i < runner.crashes && pause < settings_.restart_backoff_max; ++i) pause *= 2;
        pause = std::min(pause, settings_.restart_backoff_max);
        ++runner.crashes;
        runner.state = State::backoff;
        runner.backoff_until = now + pause;
        runner.restarts = was_ready && !runner.is_gone;  // it was in use: have it back before somebody asks
        error.retry_after_ms = static_cast<int>(pause.count());
    }
    fail_waiters(runner, error);
}

// True when the runner fits now. False: room is being made (its waiters stay), or there is none (they were
// told).
bool Supervisor::make_room(Runner& runner) {
    std::int64_t need = estimate_bytes(runner);
    std::int64_t used = 0, leaving = 0, idle = 0;
    std::vector<Runner*> candidates;
    for (auto& [id, other] : runners_) {
        used += other->memory_bytes;
        if (other->state == State::stopping) leaving += other->memory_bytes;
        if (other->state != State::ready || other->shared->leases != 0) continue;
        idle += other->memory_bytes;
        candidates.push_back(other.get());
    }
    if (used + need <= budget_bytes_) return true;
    if (used - leaving - idle + need > budget_bytes_) {
        runner.restarts = false;
        counters_->refusals.add();
        std::string detail = "needs " + std::to_string(need >> 20) + " MiB beside " +
                             std::to_string(used >> 20) + " of " + std::to_string(budget_bytes_ >> 20) +
                             " MiB";
        fail_waiters(runner, failure(Code::overloaded, "no memory is free for this model, try again later",
                                     std::move(detail), 5'000));
        return false;
    }
    // Somebody who only comes back after a crash pushes nobody out.
    if (runner.waiters.empty()) {
        runner.restarts = false;
        return false;
    }
    std::ranges::sort(candidates, {}, [](const Runner* r) { return r->shared->last_used.load(); });
    for (Runner* other : candidates) {
        if (used - leaving + need <= budget_bytes_) break;
        leaving += other->memory_bytes;
        counters_->evictions.add();
        begin_stop(*other, "evicted");
    }
    return false;
}

void Supervisor::fail_waiters(Runner& runner, const Error& error) {
    for (auto& waiter : runner.waiters) deliveries_.push_back({std::move(waiter), fail(error)});
    runner.waiters.clear();
}

}  // namespace nebula::runtime
