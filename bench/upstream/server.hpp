#pragma once
// A model provider that costs next to nothing: one thread, one epoll loop, answers prepared in advance.

#include <cstdint>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "common/http_message.hpp"
#include "common/net.hpp"
#include "common/payload.hpp"

namespace nebula::bench {

struct UpstreamOptions {
    std::uint16_t port = 0;                 // 0 lets the system choose
    std::int64_t interval_ns = 20'000'000;  // between two content events of one stream; 0 sends all at once
    std::int64_t first_byte_delay_ns = 0;   // between a request and the first byte of its answer
    std::uint32_t default_events = 50;      // content events where a request names no max_tokens
    std::uint64_t seed = 1;                 // of the phases that keep streams from ticking together
};

struct UpstreamStats {
    std::uint64_t connections = 0;
    std::uint64_t requests = 0;
    std::uint64_t completions = 0;
    std::uint64_t streams_started = 0;
    std::uint64_t streams_finished = 0;
    std::uint64_t streams_abandoned = 0;  // the peer left before the end
    std::uint64_t frames = 0;             // content events written
    std::uint64_t late_frames = 0;        // written more than one interval after they were due
    std::uint64_t bad_requests = 0;
};

/// Serves POST .../chat/completions (JSON and SSE), GET .../models and GET /stats on 127.0.0.1, keep-alive.
/// A stream holds `max_tokens` content events; the first one comes after a random part of the interval.
class UpstreamServer {
   public:
    explicit UpstreamServer(UpstreamOptions options);
    std::uint16_t port() const { return port_; }
    /// Serves until stop_requested(). Throws std::system_error when the system refuses what it needs.
    void run();

   private:
    struct Connection {
        Fd fd;
        MessageReader reader{MessageReader::Kind::request};
        std::string body;
        std::string out;  // what the socket did not take yet
        RequestShape request;
        std::uint64_t turn = 0;  // tells timers of an earlier request or connection apart from the current
        std::uint32_t next_event = 0;
        bool is_busy = false;  // an answer is under way
        bool is_streaming = false;
        bool close_after = false;
        std::string unread;  // bytes that came before the answer was finished
    };
    struct Timer {
        std::int64_t due_ns;
        std::int32_t fd;
        std::uint64_t turn;
        bool operator>(const Timer& other) const { return due_ns > other.due_ns; }
    };

    void accept_all();
    void serve(Connection& connection, bool peer_left);
    /// False when the connection is gone.
    bool consume(Connection& connection, std::string_view bytes);
    bool answer(Connection& connection);
    bool begin_answer(Connection& connection);
    bool begin_stream(Connection& connection);
    void fire(const Timer& timer);
    bool continue_stream(Connection& connection, const Timer& timer);
    bool finish_answer(Connection& connection);
    bool send(Connection& connection, std::string_view bytes);
    bool flush(Connection& connection);
    void drop(Connection& connection);
    void arm(Connection& connection, std::int64_t due_ns);
    std::string stats_body() const;

    UpstreamOptions options_;
    UpstreamStats stats_;
    Fd listener_;
    Fd epoll_;
    std::uint16_t port_ = 0;
    std::vector<std::unique_ptr<Connection>> connections_;  // by descriptor
    std::vector<std::unique_ptr<Connection>>
        dropped_;  // destroyed after the batch of events that may name them
    std::priority_queue<Timer, std::vector<Timer>, std::greater<>> timers_;
    std::mt19937_64 random_;
    std::uint64_t turns_ = 0;
};

}  // namespace nebula::bench
