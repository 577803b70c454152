#pragma once
// Responses that clients may fetch or continue later (OpenAI's Responses API). The prompts and answers of
// customers: an operator who must not keep them switches it off.

#include <memory>
#include <string>
#include <vector>

#include "async/async.hpp"
#include "base/clock.hpp"
#include "base/ids.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "base/settings.hpp"
#include "store/store.hpp"

namespace nebula::records {

struct ResponsesSettings {  // [responses]
    bool enabled = true;
    bool store = true;
    std::int64_t retention_days = 30;
    std::int64_t bytes_max = 4 * 1024 * 1024;         // input and response of one, before they are deflated
    std::int64_t chain_max = 200;                     // responses that one continues
    std::int64_t chain_bytes_max = 16 * 1024 * 1024;  // of all their items together
    void describe(settings::Visitor& v);
};

struct StoredResponse {
    RequestId id;          // of the request that made it: resp_… has its digits
    RequestId previous;    // none: it began a conversation
    std::string input;     // JSON array: the items that this request added
    std::string response;  // JSON object
};

/// Thread-safe.
class StoredResponses {
   public:
    StoredResponses(const ResponsesSettings& settings, store::Db& db, const Clock& clock,
                    metrics::Registry& metrics);
    ~StoredResponses();

    bool is_on() const { return settings_.enabled; }
    /// When the client does not say.
    bool stores_by_default() const { return settings_.store; }

    /// Durable when it returns. Errors: payload_too_large, overloaded, internal: not stored (and counted).
    Async<Result<void>> save(AccountId account, StoredResponse response);
    /// not_found: none of that account, or expired.
    Async<Result<StoredResponse>> find(AccountId account, RequestId id);
    /// The conversation that ends with `id`, its beginning first. not_found: it or one before it is not
    /// there; payload_too_large: longer than the limits.
    Async<Result<std::vector<StoredResponse>>> conversation(AccountId account, RequestId id);
    Async<Result<void>> remove(AccountId account, RequestId id);

    /// Deletes what has expired, a bounded step at a time. True: call again, there is more. Blocking.
    Result<bool> expire();

   private:
    Result<void> check_size(const StoredResponse& response) const;

    const ResponsesSettings settings_;
    store::Db& db_;
    const Clock& clock_;
    metrics::Counter &stored_, &failed_;
};

}  // namespace nebula::records
