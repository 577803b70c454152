#pragma once
// The state machine of all runners and the one thread that drives it. Private to runtime.
//
//   stopped → starting → ready → stopping → stopped
//                 └──────┴── exit ──→ backoff → stopped
//
// Everything in Runner is guarded by the supervisor's mutex, except what says otherwise. Processes are
// touched by the supervisor's thread alone: it starts them and must outlive them.

#include <sys/poll.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "async/completion.hpp"
#include "async/task_group.hpp"
#include "base/log.hpp"
#include "runtime/model_files.hpp"
#include "runtime/process.hpp"
#include "runtime/runtime.hpp"

namespace nebula::runtime {

enum class State { stopped, starting, ready, stopping, backoff };
inline constexpr std::size_t state_count = 5;
const char* state_name(State state);

/// Thread-safe; leases may outlive the supervisor.
struct RunnerShared {
    http::Origin origin;
    const Clock* clock = nullptr;
    std::atomic<std::int64_t> leases{0};
    std::atomic<std::int64_t> last_used{0};  // ticks

    void touch() { last_used = clock->ticks().time_since_epoch().count(); }
};

struct Waiter {
    Ticks deadline;
    Completion<Result<std::shared_ptr<RunnerShared>>> done;  // ok: one lease was counted for the waiter
};

struct Runner {
    FoundFile found;
    std::shared_ptr<RunnerShared> shared;
    State state = State::stopped;
    std::vector<std::shared_ptr<Waiter>> waiters;
    std::int64_t memory_bytes = 0;  // charged while a process exists
    std::uint64_t generation = 0;   // counts processes, so that late probes are recognised
    bool is_probing = false;
    int probe_status = 0;  // HTTP status of the last probe, 0 = none
    bool has_probe_result = false;
    int probe_failures = 0;  // in a row
    Ticks next_probe{};      // by the real clock while starting, by the injected one when ready
    Ticks started{};
    Ticks ready_since{};
    Ticks backoff_until{};
    int crashes = 0;        // in a row
    bool restarts = false;  // it was in use when it crashed
    bool is_gone = false;   // its file is no longer there
    bool is_stale = false;  // its file was replaced: stop when idle
    bool has_timed_out = false;
    // The supervisor's thread alone:
    std::unique_ptr<Process> process;
    std::optional<Ticks> kill_at;  // real clock
    bool needs_spawn = false;
    std::string last_line;
    log::Site log_site;
};

class Supervisor {
   public:
    Supervisor(const RuntimeSettings& settings, const std::string& data_dir, IoThreads& threads,
               http::Client& client, const Clock& clock, metrics::Registry& metrics);
    ~Supervisor();

    void set_files(std::vector<FoundFile> files);
    void start();
    void stop();

    /// Counts a lease at once when the model runs (the outer Result); otherwise queues `waiter` and returns
    /// null.
    Result<std::shared_ptr<RunnerShared>> try_acquire(const std::string& id, std::shared_ptr<Waiter> waiter);

   private:
    struct Delivery {
        std::shared_ptr<Waiter> waiter;
        Result<std::shared_ptr<RunnerShared>> result;
    };
    struct Counters;

    // The thread (supervisor.cpp).
    void run();
    bool turn();  // under the mutex; false: all is over
    void spawn(Runner& runner);
    void log_output(Runner& runner);
    void wait_for_events();
    void update_gauges();
    void deliver();
    void wake();
    void begin_probe(Runner& runner, std::chrono::milliseconds timeout);
    Async<void> probe(std::string id, http::Origin origin, std::uint64_t generation,
                      std::chrono::milliseconds timeout);
    void prepare_socket_directory();
    std::string socket_path(const std::string& model_path) const;

    // The state machine (supervisor_states.cpp), under the mutex, on the supervisor's thread.
    void step(Runner& runner, Ticks now);
    void step_stopped(Runner& runner);
    void step_starting(Runner& runner, Ticks now);
    void step_ready(Runner& runner, Ticks now);
    void handle_exit(Runner& runner, const Process::Exit& exit, Ticks now);
    void handle_failure(Runner& runner, Error error, bool was_ready, Ticks now);
    bool make_room(Runner& runner);
    void begin_stop(Runner& runner, const char* reason);
    void grant(Runner& runner, Ticks now);
    void fail_waiters(Runner& runner, const Error& error);
    std::int64_t estimate_bytes(const Runner& runner) const;

    RuntimeSettings settings_;
    std::string data_dir_;
    IoThreads& threads_;
    http::Client& client_;
    const Clock& clock_;
    std::unique_ptr<Counters> counters_;
    std::int64_t budget_bytes_;
    std::int64_t runner_threads_;
    std::string socket_directory_;
    bool is_socket_directory_ours_ = false;

    std::mutex mutex_;
    std::map<std::string, std::unique_ptr<Runner>> runners_;
    std::vector<Delivery> deliveries_;  // results to hand out without the mutex
    bool is_started_ = false;
    bool is_stopping_ = false;
    int wake_fd_;
    TaskGroup probes_{"runner health checks"};
    std::jthread thread_;
};

}  // namespace nebula::runtime
