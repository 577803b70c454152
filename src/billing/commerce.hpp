#pragma once
// What is sold: plans with quotas, credit packages, promotion codes, tiers of limits; how it is paid: Stripe
// (Checkout, SetupIntent, off-session auto-pay, signed webhooks) or by the operator. Prices and tables are
// settings; four plans, both vendors' tiers and all three package tables ship as presets.

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "accounts/accounts.hpp"
#include "accounts/guard.hpp"
#include "accounts/people.hpp"
#include "billing/billing.hpp"
#include "http/client.hpp"
#include "http/http.hpp"
#include "store/notices.hpp"

namespace nebula::billing {

struct PlanSettings {  // [[plan]]; presets free, developer, pro, enterprise unless commerce.plan_preset =
                       // "none"
    std::string id;
    std::string name;
    Nanos price;                   // per period
    std::int64_t quota_input = 0;  // tokens per period
    std::int64_t quota_output = 0;
    std::vector<std::string> model_classes;  // entitled; empty = all
    std::vector<std::string> features;       // texts of the price list ("Email support")
    bool may_overrun = true;                 // credits pay beyond the quota
    bool contact_only = false;               // the operator subscribes accounts to it
    Nanos bonus;                             // bonus credits per period
    void describe(settings::Visitor& v);
};
struct PackageSettings {  // [[package]]
    Nanos price;
    Nanos bonus;
    void describe(settings::Visitor& v);
};
struct TierSettings {  // [[tier]], lowest first
    std::string name;
    std::string reached_by =
        "sign_up";  // sign_up | card | deposit | spend | month_deposit (highest month of three)
    Nanos threshold;
    std::int64_t rpm = 0, tpm = 0, ipm = 0, rpd = 0;
    std::int64_t model_rpm = 0, model_tpm = 0;  // per model of the account
    void describe(settings::Visitor& v);
};
struct CommerceSettings {                    // [commerce]
    std::string plan_preset = "standard";    // standard | none
    std::string package_preset = "credits";  // credits (seed 003's) | platform | none
    std::string tier_preset = "none";        // none | platform (Engineer/Expert) | novita (T1…T5)
    std::string quota_period = "month";      // month (calendar, UTC) | anniversary
    std::int64_t bonus_days = 365;           // until bonus credits expire; 0 = never
    std::string low_balance;                 // decimal; mail when the balance falls below; empty: off
    std::string minimum_payment = "5";
    std::string maximum_payment = "10000";
    void describe(settings::Visitor& v);
};
struct StripeSettings {  // [stripe]; without a secret key there is no card payment
    std::string api_base = "https://api.stripe.com";
    std::string secret_key_env;
    std::string webhook_secret_env;
    std::string ca_file;
    std::string currency = "usd";
    std::chrono::milliseconds timeout{30'000};
    std::chrono::milliseconds webhook_tolerance{300'000};
    void describe(settings::Visitor& v);
};
struct TaxSettings {      // [[tax]]: added to payments by country of the account's billing address
    std::string country;  // ISO 3166 two letters, or "US-CA", "CA-QC"; "*" = everywhere else
    std::string name = "Tax";
    std::string percent;  // decimal, at most 6 digits after the point: "14.975"
    void describe(settings::Visitor& v);
};

struct CommerceOptions {
    CommerceSettings commerce;
    StripeSettings stripe;
    std::vector<PlanSettings> plans;
    std::vector<PackageSettings> packages;
    std::vector<TierSettings> tiers;
    std::vector<TaxSettings> taxes;
    std::string public_url;
};

/// Thread-safe.
class Commerce {
   public:
    /// Error: every mistake in the options, one per line.
    static Result<std::unique_ptr<Commerce>> make(CommerceOptions options, store::Db& db,
                                                  store::Notices& notices, Billing& billing,
                                                  accounts::Accounts& accounts, accounts::Mailer& mailer,
                                                  http::Client& client, const Clock& clock,
                                                  metrics::Registry& metrics);
    virtual ~Commerce() = default;

    /// For Billing::set_terms_loader.
    virtual Terms load_terms(store::Tx& tx, AccountId account, Time now) = 0;
    /// Subscribes at once (upgrade: prorated; downgrade: at period end). Errors: not_found (plan),
    /// payment_required, conflict (that plan already), forbidden (contact_only and not `by_operator`).
    virtual Async<Result<void>> subscribe(AccountId account, std::string plan, const accounts::Caller* caller,
                                          bool by_operator) = 0;
    virtual Async<Result<void>> cancel(AccountId account, const accounts::Caller* caller) = 0;
    virtual Async<Result<Moved>> redeem(AccountId account, std::string code,
                                        const accounts::Caller* caller) = 0;
    struct NewCode {
        std::string code;  // empty: generated
        Nanos amount;
        std::int64_t uses_max = 1;       // in all; once per account
        std::optional<Time> expires_at;  // of the code
        std::int64_t bonus_days = 0;     // of the credits; 0 = the setting
        std::string note;
    };
    /// `by`: the operator who asks, for the audit log; null for the command line.
    virtual Async<Result<NewCode>> create_code(NewCode code, const accounts::Caller* by = nullptr) = 0;
    struct Suspension {
        std::string reason;
        Time since;
    };
    /// Stops an account: none of its requests is admitted (402) on any node from the commit on; those that
    /// run end as they began. Of a suspended account the reason is replaced. `by` null: the command line. The
    /// audit log of the account tells both. Errors: not_found, invalid_request (reason of 1 to 500 bytes).
    virtual Async<Result<Suspension>> suspend(AccountId account, std::string reason,
                                              const accounts::Caller* by) = 0;
    /// Error: not_found (is not suspended).
    virtual Async<Result<void>> resume(AccountId account, const accounts::Caller* by) = 0;
    virtual Async<Result<std::optional<Suspension>>> suspension(AccountId account) = 0;
    /// Work that is due: renewals, downgrades, cancellations, auto-pay, low-balance notices. Called every
    /// minute on every node; each item is done once (locked row, idempotency key).
    virtual Async<void> run_due() = 0;

    /// Tax on `amount` for the account's country, and its name.
    struct Tax {
        Nanos amount;
        std::string name;
        std::string percent;
    };
    virtual Tax tax_on(store::Tx& tx, AccountId account, Nanos amount) = 0;

    /// Platform /api/v1/payment/…, Stripe's webhook, console /console/api/{plans,packages,billing/…}.
    virtual void register_routes(http::Router& router, accounts::Guard& guard) = 0;
};

}  // namespace nebula::billing
