#pragma once
// One client connection and the request that is under way on it.

#include <cstdint>
#include <string>
#include <string_view>

#include "common/http_message.hpp"
#include "common/net.hpp"
#include "load/stream_check.hpp"

namespace nebula::bench {

/// What became of a request after its socket was served.
enum class Progress {
    waiting,   // nothing to report
    finished,  // answered; the connection may be reused when is_open()
    aborted,   // we left, as planned
    failed,    // failure() says why; the connection may be reused when is_open()
    left,      // the server closed a connection on which nothing was under way
};

class ClientConnection {
   public:
    /// Starts connecting; false when nobody listens. `tag` comes back with the events of `epoll`.
    bool open(int epoll, std::uint16_t port, std::uint64_t tag);
    /// Also gives up what is under way.
    void close();
    bool is_open() const { return static_cast<bool>(fd_); }
    bool is_in_flight() const { return in_flight_; }
    bool is_streaming_now() const { return in_flight_ && stream_.has_begun(); }

    struct Plan {
        std::string_view request;   // must outlive the exchange
        const RequestShape* shape;  // likewise
        std::int64_t due_ns;        // from when the latency counts
        bool aborts = false;
        std::uint32_t abort_after_events =
            0;  // streams; other answers are abandoned once the request is sent
    };
    /// Sends a request, or as much as the socket takes now. Requires an open connection with nothing under
    /// way.
    Progress start(const Plan& plan, Results& results);
    /// Serves the socket after an event. Records what the answer shows, not its latency.
    Progress serve(bool peer_left, Results& results);

    std::int64_t due_ns() const { return plan_.due_ns; }
    std::int64_t first_event_ns() const { return first_event_ns_; }
    const std::string& failure() const { return failure_; }

   private:
    Progress send_rest();
    Progress take(std::string_view bytes, std::int64_t now, Results& results);
    Progress finish(Results& results);
    Progress fail(std::string reason);
    void take_body(std::string_view piece, std::int64_t now, Results& results);

    Fd fd_;
    Plan plan_{};
    MessageReader reader_{MessageReader::Kind::response};
    StreamCheck stream_;
    std::string failure_;
    std::size_t sent_ = 0;
    std::uint64_t body_bytes_ = 0;
    std::int64_t first_event_ns_ = 0;
    bool in_flight_ = false;
    bool is_altered_ = false;
    bool has_connected_ = false;
};

}  // namespace nebula::bench
