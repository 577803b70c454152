#pragma once
// The request log: what is told of requests beside their bill. Written behind the requests' back, in batches;
// an entry may be lost (and is counted then), money never: the bill stands in billing's usage records.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "accounts/guard.hpp"
#include "async/async.hpp"
#include "base/clock.hpp"
#include "base/ids.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "base/settings.hpp"
#include "http/http.hpp"
#include "store/store.hpp"

namespace nebula::records {

std::span<const store::Migration> migrations();

struct RequestLogSettings {  // [request_log]
    bool enabled = true;
    std::int64_t retention_days = 30;
    std::int64_t queue_max = 20'000;  // entries waiting to be written, then they are dropped
    std::chrono::milliseconds flush{500};
    bool bodies = false;
    std::int64_t body_bytes_max = 64 * 1024;
    std::vector<std::string> redact = {"user", "metadata", "safety_identifier", "prompt_cache_key"};
    void describe(settings::Visitor& v);
};

/// What a request carried, where bodies are kept. Raw JSON; `output` is an answer, or a stream's chunks, one
/// a line.
struct Bodies {
    std::string input;
    std::string output;
};

/// Thread-safe.
class RequestLog {
   public:
    RequestLog(const RequestLogSettings& settings, store::Db& db, const Clock& clock,
               metrics::Registry& metrics);
    ~RequestLog();  // stop()
    void start();   // the writer's thread; without it nothing is written
    void stop();    // writes what waits, then joins

    bool is_on() const;
    bool keeps_bodies() const;
    std::size_t body_bytes_max() const;
    /// `entry`: one JSON object without line feeds that begins with {"i":"<text of id>"; its members have the
    /// short names of entry.hpp. Never waits: when queue_max entries wait already, this one is dropped.
    void add(AccountId account, RequestId id, std::string_view entry, std::optional<Bodies> bodies = {});

    /// The entry of a request of that account, with whole names: by our id, or by the provider's
    /// (`upstream_id`), which is looked for in the account's latest entries only. Empty: none, or not written
    /// yet.
    Async<Result<std::optional<std::string>>> find(AccountId account, std::string id);

    struct Filter {
        std::string model;
        std::string key;     // its id
        std::string status;  // "ok", "error", or a number
    };
    struct Page {
        std::vector<std::string> entries;  // latest first, by when they ended
        std::string next;                  // cursor of the next page; empty: that was all
    };
    /// Errors: invalid_request for a cursor that is none. A page may be short, and even empty, while `next`
    /// goes on: a call looks through a bounded number of entries.
    Async<Result<Page>> list(AccountId account, Filter filter, std::string cursor, std::int64_t limit);

    /// GET /api/v1/generation, /api/v1/generation/content, POST /api/v1/generation/feedback;
    /// GET /console/api/requests.
    void register_routes(http::Router& router, accounts::Guard& guard);

    /// Deletes what is older than the retention, a bounded step at a time. True: call again, there is more.
    /// Blocking.
    Result<bool> expire();

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nebula::records
