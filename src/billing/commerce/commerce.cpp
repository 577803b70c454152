// Puts commerce together from the settings.
#include <cstdlib>

#include "billing/bills.hpp"
#include "billing/commerce/shop.hpp"

namespace nebula::billing {
namespace {

// Of the environment variable that a setting names.
Secret secret_of(const std::string& variable, const char* setting, std::string& mistakes) {
    if (variable.empty()) return {};
    const char* value = std::getenv(variable.c_str());
    if (value != nullptr && *value != '\0') return Secret(value);
    mistakes += (mistakes.empty() ? "" : "\n") + std::string(setting) + ": the environment variable " +
                variable + " is not set";
    return {};
}

}  // namespace

Result<std::unique_ptr<Commerce>> Commerce::make(CommerceOptions options, store::Db& db, store::Notices&,
                                                 Billing& billing, accounts::Accounts&,
                                                 accounts::Mailer& mailer, http::Client& client,
                                                 const Clock& clock, metrics::Registry& metrics) {
    auto goods = commerce::check_goods(options);
    std::string mistakes = goods ? std::string() : goods.error().message;
    auto complain = [&mistakes](const std::string& text) {
        mistakes += (mistakes.empty() ? "" : "\n") + text;
    };
    const StripeSettings& stripe = options.stripe;
    Secret key = secret_of(stripe.secret_key_env, "stripe.secret_key_env", mistakes);
    commerce::Outside outside;
    outside.webhook_secret = secret_of(stripe.webhook_secret_env, "stripe.webhook_secret_env", mistakes);
    outside.webhook_tolerance = stripe.webhook_tolerance;
    if (!stripe.secret_key_env.empty() && stripe.webhook_secret_env.empty())
        complain(
            "stripe.webhook_secret_env is required with stripe.secret_key_env: payments are known by "
            "webhooks");
    if (!key.empty()) {
        auto api = commerce::make_stripe_api(stripe, std::move(key), client, clock, metrics);
        if (api)
            outside.stripe = std::move(*api);
        else
            complain(api.error().message);
    }
    if (!mistakes.empty()) return fail(Code::invalid_request, mistakes);
    outside.send_mail = [&mailer](accounts::Mail mail) { mailer.send(std::move(mail)); };
    outside.add_invoice = &Bills::add_payment_invoice;
    return std::make_unique<commerce::Shop>(std::move(*goods), std::move(outside), db, billing, clock,
                                            metrics);
}

}  // namespace nebula::billing
