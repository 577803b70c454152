#include "billing/commerce/shop.hpp"

#include <algorithm>

#include "accounts/audit.hpp"
#include "base/check.hpp"
#include "base/log.hpp"
#include "billing/commerce/amounts.hpp"
#include "billing/commerce/routes.hpp"
#include "billing/ledger/ledger.hpp"

namespace nebula::billing::commerce {

namespace {

constexpr std::chrono::minutes terms_keep{1};

}  // namespace

Shop::Counters::Counters(metrics::Registry& metrics)
    : payments(metrics.counter("nebula_payments_total", "Card payments posted")),
      renewals(metrics.counter("nebula_plan_renewals_total", "Plan periods renewed")),
      lapsed(metrics.counter("nebula_plan_lapses_total", "Plans ended because the credits did not suffice")),
      redemptions(metrics.counter("nebula_promotion_redemptions_total", "Promotion codes redeemed")) {
    for (const char* outcome : {"applied", "ignored", "unknown", "mismatch", "refused"})
        webhooks[outcome] =
            &metrics.counter("nebula_stripe_webhooks_total", "Webhooks of Stripe by what became of them",
                             {{"outcome", outcome}});
}

Shop::Shop(Goods goods, Outside outside, store::Db& db, Billing& billing, const Clock& clock,
           metrics::Registry& metrics)
    : goods_(std::move(goods)),
      outside_(std::move(outside)),
      db_(db),
      billing_(billing),
      clock_(clock),
      counters_(metrics) {}

Shop::~Shop() = default;

void Shop::register_routes(http::Router& router, accounts::Guard& guard) {
    routes_ = std::make_unique<Routes>(*this, billing_, clock_);
    routes_->add_platform(router, guard);
    routes_->add_console(router, guard);
}

Terms Shop::load_terms(Tx& tx, AccountId account, Time now) {
    Terms terms;
    terms.good_until = now + terms_keep;
    Subscription row = sql::subscription(tx, account);
    const PlanSettings* plan = row.is_active ? goods_.plan(row.plan) : nullptr;
    if (plan != nullptr) {
        Period period =
            goods_.quota_by_calendar ? calendar_month(now) : Period{row.period_start, row.period_end};
        terms.plan = plan->id;
        terms.period_start = to_micros(period.start);
        terms.period_end = period.end;
        terms.quota_input = plan->quota_input;
        terms.quota_output = plan->quota_output;
        terms.may_overrun = plan->may_overrun;
        terms.restricts_models = !plan->model_classes.empty();
        terms.model_classes = plan->model_classes;
        for (Time end : {period.end, row.period_end})
            if (end > now) terms.good_until = std::min(terms.good_until, end);
    }
    terms.tier = tier_of(tx, account, now, terms);
    auto funds = ledger::read_funds(tx, account);
    terms.is_suspended = (funds && funds->debt.value > 0) || sql::suspension(tx, account).has_value();
    return terms;
}

std::string Shop::tier_of(Tx& tx, AccountId account, Time now, Terms& terms) {
    if (goods_.tiers.empty()) return {};
    Period month = calendar_month(now);
    std::vector<Time> months = {add_months(month.start, -2), add_months(month.start, -1), month.start};
    sql::Paid paid = sql::paid(tx, account, months);
    auto reached = [&](const TierSettings& tier) {
        if (tier.reached_by == "card") return sql::has_card(tx, account);
        if (tier.reached_by == "deposit") return paid.total >= tier.threshold;
        if (tier.reached_by == "spend") return sql::spent(tx, account) >= tier.threshold;
        if (tier.reached_by == "month_deposit") return paid.best_month >= tier.threshold;
        return true;
    };
    // The highest that is reached, whatever those below it ask for.
    for (auto tier = goods_.tiers.rbegin(); tier != goods_.tiers.rend(); ++tier) {
        if (!reached(*tier)) continue;
        terms.rpm = tier->rpm;
        terms.tpm = tier->tpm;
        terms.ipm = tier->ipm;
        terms.rpd = tier->rpd;
        terms.model_rpm = tier->model_rpm;
        terms.model_tpm = tier->model_tpm;
        return tier->name;
    }
    return {};
}

Commerce::Tax Shop::tax_on(Tx& tx, AccountId account, Nanos amount) {
    std::string country = sql::profile(tx, account).country;
    const TaxRate* rate = goods_.tax(country);
    if (rate == nullptr) return {};
    auto cents = to_cents(amount);
    CHECK(cents.has_value(), "what a card pays is whole cents");
    return {from_cents(tax_cents(*cents, rate->millionths)), rate->name, rate->percent};
}

Async<Result<Profile>> Shop::profile(AccountId account) {
    auto read = [account](Tx& tx) -> Result<Profile> { return sql::profile(tx, account); };
    co_return co_await db_.read(std::move(read));
}

namespace {

// As invoices print them.
constexpr std::size_t name_max = 200, address_max = 1'000, tax_number_max = 50;
constexpr std::ptrdiff_t address_lines_max = 8;

Result<void> check_profile(const Profile& profile) {
    auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
    auto is_bad = [&](char c) { return c != '\n' && is_control(c); };
    if (!profile.country.empty() && !is_country(profile.country))
        return fail(Code::invalid_request, "'country' must be two capital letters, such as CA or US-CA",
                    "country");
    if (profile.name.size() > name_max || std::ranges::any_of(profile.name, is_control))
        return fail(Code::invalid_request, "'name' must be one line of at most 200 bytes", "name");
    if (profile.tax_number.size() > tax_number_max || std::ranges::any_of(profile.tax_number, is_control))
        return fail(Code::invalid_request, "'tax_number' must be one line of at most 50 bytes", "tax_number");
    if (profile.address.size() > address_max || std::ranges::any_of(profile.address, is_bad) ||
        std::ranges::count(profile.address, '\n') >= address_lines_max)
        return fail(Code::invalid_request, "'address' must be at most 8 lines and 1000 bytes", "address");
    return {};
}

}  // namespace

Async<Result<void>> Shop::save_profile(accounts::Caller caller, Profile profile) {
    if (auto good = check_profile(profile); !good) co_return fail(std::move(good.error()));
    auto save = [this, caller, profile](Tx& tx) -> Result<bool> {
        sql::save_profile(tx, caller.account, profile);
        accounts::write_audit(tx, clock_, caller, {caller.account, "Update", "Billing Profile", {}, {}, {}});
        return true;
    };
    auto saved = co_await db_.in_tx(std::move(save));
    if (!saved) co_return fail(std::move(saved.error()));
    co_return Result<void>();
}

void Shop::mail_owner(AccountId account, const std::optional<Owner>& owner, std::string subject,
                      std::string text) {
    if (!owner || !outside_.send_mail) {
        LOG_INFO("nobody to write to", {"account", account.text()}, {"subject", subject});
        return;
    }
    outside_.send_mail({owner->email, std::move(subject), std::move(text)});
}

Async<void> Shop::mail(AccountId account, std::string subject, std::string text) {
    auto read = [account](Tx& tx) -> Result<std::optional<Owner>> { return sql::owner(tx, account); };
    auto owner = co_await db_.read(std::move(read));
    if (owner) mail_owner(account, *owner, std::move(subject), std::move(text));
}

}  // namespace nebula::billing::commerce
