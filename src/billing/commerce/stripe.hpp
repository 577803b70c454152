#pragma once
// Stripe's API by direct HTTPS calls, and its webhook signatures. Card numbers never come here: customers
// type them on Stripe's pages.

#include <boost/json/object.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "billing/commerce.hpp"

namespace nebula::billing::commerce {

namespace json = boost::json;

/// Fields of a request in Stripe's form notation: {"metadata[a]", "b"}.
using StripeForm = std::vector<std::pair<std::string, std::string>>;

struct StripeRequest {
    http::Method method = http::Method::post;
    std::string path;  // "/v1/customers"
    StripeForm form = {};
    std::string idempotency_key = {};  // for POST: the same key never acts twice
};
struct StripeAnswer {
    int status = 200;
    json::object body;
    bool ok() const { return status >= 200 && status < 300; }
    /// What the error object says; for callers: declined cards are payment_required with Stripe's words,
    /// which are written for card holders, everything else is upstream_failed.
    Error error() const;
    std::string_view error_text(
        std::string_view member) const;  // of the error object: "code", "decline_code"
};

/// Thread-safe. Replaced by tests.
class StripeApi {
   public:
    virtual ~StripeApi() = default;
    /// Any answer that was understood, refusals included. Errors: upstream_failed, timeout (whether it was
    /// carried out is unknown: send it again with the same key), overloaded.
    virtual Async<Result<StripeAnswer>> call(StripeRequest request) = 0;
};

/// Asks up to three times when the network fails or Stripe is busy; the idempotency key makes that safe. Must
/// be called on an I/O thread. Error: a base address that cannot be read.
Result<std::unique_ptr<StripeApi>> make_stripe_api(const StripeSettings& settings, Secret key,
                                                   http::Client& client, const Clock& clock,
                                                   metrics::Registry& metrics);

std::string encode_form(const StripeForm& form);

/// Checks "t=…,v1=…" over the body as received. Any of several v1 may match. Error: invalid_request.
Result<void> check_signature(std::string_view header, std::string_view body, const Secret& secret, Time now,
                             std::chrono::milliseconds tolerance);

// Members of Stripe's objects; empty, 0 or null when absent or of another type.
std::string_view text_of(const json::object& object, std::string_view name);
std::int64_t number_of(const json::object& object, std::string_view name);
const json::object* object_of(const json::object& object, std::string_view name);
/// An object or its id, as Stripe writes references.
std::string_view id_of(const json::object& object, std::string_view name);

}  // namespace nebula::billing::commerce
