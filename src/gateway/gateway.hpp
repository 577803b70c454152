#pragma once
// One inference request's life: admit, route, forward, meter, settle. Dialect edge here: OpenAI.

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "accounts/accounts.hpp"
#include "accounts/guard.hpp"
#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/settings.hpp"
#include "billing/billing.hpp"
#include "catalog/catalog.hpp"
#include "catalog/provider_keys.hpp"
#include "gateway/cache/cache.hpp"
#include "gateway/guardrails/settings.hpp"
#include "http/client.hpp"
#include "http/http.hpp"
#include "ratelimit/ratelimit.hpp"
#include "records/records.hpp"
#include "records/stored_responses.hpp"
#include "runtime/runtime.hpp"
#include "telemetry/telemetry.hpp"

namespace nebula::gateway {

struct GatewaySettings {  // [gateway]
    /// Off: no keys, limits, holds or metering; a plain proxy for trusted networks and for measurements.
    bool governance = true;
    std::int64_t attempts_max = 4;                     // routes tried for one request
    std::int64_t answer_bytes_max = 64 * 1024 * 1024;  // JSON answer kept in memory
    std::int64_t upload_bytes_max = 32 * 1024 * 1024;  // multipart request: sound, images
    std::chrono::milliseconds request_timeout{900'000};
    std::string credit_request_price = "1";         // decimal credits; of POST /api/v1/chat
    std::string credit_batch_price = "2";           // with ?batch=1
    Nanos byok_fee_percent{5 * Nanos::per_credit};  // of the list price, with the customer's own provider key
    CacheSettings cache;                            // [cache]
    std::vector<GuardrailSettings> guardrails;      // [[guardrail]]
    void describe(settings::Visitor& v);
};

/// Everything the gateway stands on; all outlive it.
struct Services {
    const Clock& clock;
    metrics::Registry& metrics;
    accounts::Accounts& accounts;
    billing::Billing& billing;
    ratelimit::RateLimiter& limiter;
    const ratelimit::LimitSettings& limits;
    catalog::Catalog& catalog;
    http::Client& client;
    runtime::Runtime* runtime;                             // null: no local models
    accounts::Guard* guard = nullptr;                      // null: API keys only, no signed-in people
    records::RequestLog* log = nullptr;                    // null: requests are not logged
    telemetry::Tracer* tracer = nullptr;                   // null: nothing is traced
    records::StoredResponses* responses = nullptr;         // null: responses are not stored
    const catalog::ProviderKeys* provider_keys = nullptr;  // null: no customer has keys of his own
};

class Gateway {
   public:
    Gateway(const GatewaySettings& settings, Services services);
    ~Gateway();  // after the server has stopped

    /// POST /v1/chat/completions and OpenAI's other endpoints (endpoint.hpp) below each base path, GET
    /// /v1/models, GET /v1/models/{id*}; the credit API's POST /api/v1/chat and GET /api/models.
    void register_routes(http::Router& router);
    /// Watches providers in the background, on `thread`, until stop(); main thread.
    void start(IoThread& thread);
    void stop();

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Every mistake in the [[guardrail]] sections.
std::vector<std::string> check_guardrails(const GatewaySettings& settings);

/// How errors look to OpenAI clients: {"error":{"message","type","param","code"}}.
http::Response openai_error(const Error& error, RequestId request);
/// The same object with Novita's members beside it: code, reason, message, metadata. Novita's statuses.
http::Response novita_llm_error(const Error& error, RequestId request);

}  // namespace nebula::gateway
