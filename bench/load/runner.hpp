#pragma once
// Decides when which connection sends, and for how long it all counts.

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "load/connection.hpp"
#include "load/options.hpp"
#include "load/report.hpp"

namespace nebula::bench {

/// Runs one measurement on the calling thread. `announce` is told "start" and "stop" at the borders of the
/// measured time, so that whoever watches the proxy can read its counters at the same moments.
class LoadRunner {
   public:
    LoadRunner(LoadOptions options, std::function<void(const char*)> announce);
    Results run();

   private:
    void run_timed();
    void run_idle();
    /// One request on each connection, at most a few hundred under way at a time. Returns how many were
    /// answered. With `opens` the connections are made first; without it, one that was lost stays lost.
    std::uint64_t visit_all(bool opens);

    /// Serves sockets until `until_ns` at the latest, sooner when the next request is due.
    void turn(std::int64_t until_ns);
    void dispatch(std::int64_t now);
    void send(std::size_t index, std::int64_t due_ns);
    void settle(std::size_t index, Progress progress);
    /// After a failure the connection waits for the next sweep, otherwise it is ready (again) at once.
    void recycle(std::size_t index, bool is_failed);
    void sweep(std::int64_t now);
    std::int64_t next_due() const;
    void open(std::size_t index);
    void finish_open_loop(std::int64_t end_ns);

    LoadOptions options_;
    std::function<void(const char*)> announce_;
    std::string request_;
    Results results_;
    Fd epoll_;
    std::vector<ClientConnection> connections_;
    std::vector<std::size_t> free_;    // open, nothing under way
    std::vector<std::size_t> closed_;  // opened again at the next sweep, so a refusing server is not hammered
    std::mt19937_64 random_;
    std::int64_t origin_ns_ = 0;  // of the open loop's schedule
    std::int64_t next_sweep_ns_ = 0;
    std::uint64_t scheduled_ = 0;  // open loop: requests taken from the schedule so far
    std::uint64_t answered_ = 0;   // whole run, for the idle mode
    bool sends_by_itself_ = true;  // false while visit_all() decides
};

}  // namespace nebula::bench
