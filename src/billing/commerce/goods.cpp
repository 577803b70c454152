#include "billing/commerce/goods.hpp"

#include <algorithm>
#include <set>

#include "billing/commerce/amounts.hpp"

namespace nebula::billing::commerce {
namespace {

constexpr Nanos largest_price{1'000'000 * Nanos::per_credit};

class Checker {
   public:
    void expect(bool good, std::string mistake) {
        if (!good) mistakes_.push_back(std::move(mistake));
    }
    Nanos decimal(const std::string& text, const std::string& name) {
        auto parsed = Nanos::parse(text);
        expect(parsed && parsed->value >= 0,
               name + " must be a decimal number of credits, not \"" + text + "\"");
        return parsed.value_or(Nanos{});
    }
    bool is_clean() const { return mistakes_.empty(); }
    std::string text() const {
        std::string all;
        for (const std::string& mistake : mistakes_) all += (all.empty() ? "" : "\n") + mistake;
        return all;
    }

   private:
    std::vector<std::string> mistakes_;
};

bool is_price(Nanos amount) { return amount.value >= 0 && amount <= largest_price; }

void check_plans(Checker& check, std::vector<PlanSettings>& plans) {
    std::set<std::string> seen;
    for (PlanSettings& plan : plans) {
        std::string where = "plan \"" + plan.id + "\": ";
        bool is_word = !plan.id.empty() && plan.id.size() <= 50 && std::ranges::all_of(plan.id, [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
        });
        check.expect(is_word, where + "id must be 1 to 50 of a-z, 0-9, '-' and '_'");
        check.expect(seen.insert(plan.id).second, where + "the id is used twice");
        check.expect(is_price(plan.price), where + "price must be 0 or more");
        check.expect(is_price(plan.bonus), where + "bonus must be 0 or more");
        check.expect(plan.quota_input >= 0 && plan.quota_output >= 0, where + "quotas must be 0 or more");
        check.expect(plan.price.value > 0 || plan.bonus.value == 0,
                     where + "a plan without a price cannot give bonus credits");
        if (plan.name.empty()) plan.name = plan.id;
    }
}

void check_packages(Checker& check, std::vector<PackageSettings>& packages) {
    std::set<std::int64_t> seen;
    for (const PackageSettings& package : packages) {
        std::string where = "package of " + package.price.text() + ": ";
        check.expect(
            package.price.value > 0 && is_price(package.price) && to_cents(package.price).has_value(),
            where + "price must be more than 0, in whole cents");
        check.expect(is_price(package.bonus), where + "bonus must be 0 or more");
        check.expect(seen.insert(package.price.value).second, where + "the price is used twice");
    }
    std::ranges::sort(packages, {}, [](const PackageSettings& package) { return package.price; });
}

void check_tiers(Checker& check, const std::vector<TierSettings>& tiers) {
    std::set<std::string> seen;
    constexpr std::string_view words[] = {"sign_up", "card", "deposit", "spend", "month_deposit"};
    for (const TierSettings& tier : tiers) {
        std::string where = "tier \"" + tier.name + "\": ";
        check.expect(!tier.name.empty(), where + "a name is required");
        check.expect(seen.insert(tier.name).second, where + "the name is used twice");
        check.expect(std::ranges::find(words, tier.reached_by) != std::end(words),
                     where + "reached_by is not known: \"" + tier.reached_by + "\"");
        bool by_money = tier.reached_by != "sign_up" && tier.reached_by != "card";
        check.expect(!by_money || tier.threshold.value > 0, where + "threshold must be more than 0");
        for (std::int64_t limit : {tier.rpm, tier.tpm, tier.ipm, tier.rpd, tier.model_rpm, tier.model_tpm})
            check.expect(limit >= 0, where + "limits must be 0 or more");
    }
    check.expect(tiers.empty() || tiers.front().reached_by == "sign_up",
                 "the first tier must be reached by sign_up");
}

void check_taxes(Checker& check, const std::vector<TaxSettings>& taxes, Goods& goods) {
    for (const TaxSettings& tax : taxes) {
        std::string where = "tax \"" + tax.country + "\": ";
        check.expect(tax.country == "*" || is_country(tax.country),
                     where + "country must be two capital letters, with a region (\"CA-QC\"), or \"*\"");
        check.expect(!tax.name.empty() && tax.name.size() <= 50, where + "name must be 1 to 50 bytes");
        auto percent = parse_percent(tax.percent);
        check.expect(percent.has_value(),
                     where + "percent must be 0 to 100 with at most 6 digits after the point, not \"" +
                         tax.percent + "\"");
        bool is_new =
            goods.taxes.emplace(tax.country, TaxRate{tax.name, tax.percent, percent.value_or(0)}).second;
        check.expect(is_new, where + "the country is used twice");
    }
}

void check_currency(Checker& check, const std::string& currency) {
    // Credits are counted in cents at the provider; these have none, or thousandths.
    constexpr std::string_view unfit[] = {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw",
                                          "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf",
                                          "xof", "xpf", "bhd", "jod", "kwd", "omr", "tnd"};
    bool is_word =
        currency.size() == 3 && std::ranges::all_of(currency, [](char c) { return c >= 'a' && c <= 'z'; });
    check.expect(is_word, "stripe.currency must be three small letters, not \"" + currency + "\"");
    check.expect(std::ranges::find(unfit, currency) == std::end(unfit),
                 "stripe.currency \"" + currency + "\" has no cents");
}

PlanSettings plan(std::string id, std::string name, std::int64_t price, std::int64_t input,
                  std::int64_t output, std::vector<std::string> classes, std::vector<std::string> features) {
    PlanSettings made;
    made.id = std::move(id);
    made.name = std::move(name);
    made.price = Nanos{price * Nanos::per_credit};
    made.quota_input = input;
    made.quota_output = output;
    made.model_classes = std::move(classes);
    made.features = std::move(features);
    return made;
}

TierSettings tier(std::string name, std::string reached_by, std::int64_t threshold) {
    TierSettings made;
    made.name = std::move(name);
    made.reached_by = std::move(reached_by);
    made.threshold = Nanos{threshold * Nanos::per_credit};
    return made;
}

TierSettings account_tier(TierSettings made, std::int64_t rpm, std::int64_t tpm, std::int64_t rpd) {
    made.rpm = rpm;
    made.tpm = tpm;
    made.rpd = rpd;
    return made;
}

PackageSettings package(std::int64_t price, std::int64_t bonus_tenths) {
    return {Nanos{price * Nanos::per_credit}, Nanos{bonus_tenths * (Nanos::per_credit / 10)}};
}

}  // namespace

std::vector<PlanSettings> standard_plans() {
    std::vector<PlanSettings> plans = {
        plan("free", "Free", 0, 100'000, 20'000, {"basic"},
             {"100K input tokens/mo", "20K output tokens/mo", "Basic models", "Community support"}),
        plan("developer", "Developer", 10, 2'000'000, 500'000, {"basic", "ollama"},
             {"2M input tokens/mo", "500K output tokens/mo", "All Ollama models", "Email support"}),
        plan("pro", "Pro", 50, 15'000'000, 3'000'000, {"basic", "ollama", "vision"},
             {"15M input tokens/mo", "3M output tokens/mo", "Vision models", "Priority support"}),
        // Custom models included: every class.
        plan("enterprise", "Enterprise", 200, 100'000'000, 20'000'000, {},
             {"100M input tokens/mo", "20M output tokens/mo", "Custom fine-tuning", "24/7 support"})};
    plans.back().contact_only = true;
    return plans;
}

std::vector<PackageSettings> credit_packages() {
    return {package(5, 0), package(10, 0), package(25, 25), package(50, 75), package(100, 200)};
}

std::vector<PackageSettings> platform_packages() {
    return {package(10, 0), package(25, 0), package(50, 50), package(100, 150), package(200, 500)};
}

std::vector<TierSettings> platform_tiers() {
    return {account_tier(tier("Engineer 1", "sign_up", 0), 60, 60'000, 200),
            account_tier(tier("Engineer 2", "card", 0), 300, 150'000, 1'000),
            account_tier(tier("Engineer 3", "deposit", 10), 600, 200'000, 2'000),
            account_tier(tier("Expert 1", "spend", 30), 1'500, 500'000, 0),
            account_tier(tier("Expert 2", "spend", 50), 3'000, 800'000, 0)};
}

std::vector<TierSettings> novita_tiers() {
    std::vector<TierSettings> tiers = {tier("T1", "sign_up", 0), tier("T2", "month_deposit", 50),
                                       tier("T3", "month_deposit", 500), tier("T4", "month_deposit", 3'000),
                                       tier("T5", "month_deposit", 10'000)};
    constexpr std::int64_t rpm[] = {30, 100, 1'000, 3'000, 6'000};
    for (std::size_t i = 0; i < tiers.size(); ++i) {
        tiers[i].model_rpm = rpm[i];
        tiers[i].model_tpm = 50'000'000;
    }
    return tiers;
}

bool is_country(std::string_view text) {
    auto is_letter = [](char c) { return c >= 'A' && c <= 'Z'; };
    if (text.size() < 2 || !is_letter(text[0]) || !is_letter(text[1])) return false;
    if (text.size() == 2) return true;
    return text.size() >= 4 && text.size() <= 6 && text[2] == '-' &&
           std::ranges::all_of(text.substr(3),
                               [&](char c) { return is_letter(c) || (c >= '0' && c <= '9'); });
}

const PlanSettings* Goods::plan(std::string_view id) const {
    for (const PlanSettings& each : plans)
        if (each.id == id) return &each;
    return nullptr;
}

const PlanSettings* Goods::free_plan() const {
    for (const PlanSettings& each : plans)
        if (each.price.value == 0 && !each.contact_only) return &each;
    return nullptr;
}

Nanos Goods::bonus_for(Nanos price) const {
    for (const PackageSettings& each : packages)
        if (each.price == price) return each.bonus;
    return {};
}

const TaxRate* Goods::tax(std::string_view country) const {
    for (std::string_view name : {country, country.substr(0, 2), std::string_view("*")}) {
        auto found = taxes.find(name);
        if (found != taxes.end()) return &found->second;
    }
    return nullptr;
}

std::optional<Time> Goods::bonus_expiry(Time now, std::int64_t days_or_default) const {
    auto keep = days_or_default > 0 ? std::chrono::days(days_or_default) : bonus_days;
    if (keep.count() == 0) return std::nullopt;
    return now + keep;
}

Result<Goods> check_goods(const CommerceOptions& options) {
    const CommerceSettings& commerce = options.commerce;
    Goods goods;
    goods.plans = options.plans;
    if (goods.plans.empty() && commerce.plan_preset == "standard") goods.plans = standard_plans();
    goods.packages = options.packages;
    if (goods.packages.empty() && commerce.package_preset == "credits") goods.packages = credit_packages();
    if (goods.packages.empty() && commerce.package_preset == "platform") goods.packages = platform_packages();
    goods.tiers = options.tiers;
    if (goods.tiers.empty() && commerce.tier_preset == "platform") goods.tiers = platform_tiers();
    if (goods.tiers.empty() && commerce.tier_preset == "novita") goods.tiers = novita_tiers();

    Checker check;
    check_plans(check, goods.plans);
    check_packages(check, goods.packages);
    check_tiers(check, goods.tiers);
    check_taxes(check, options.taxes, goods);
    check_currency(check, options.stripe.currency);
    check.expect(commerce.quota_period == "month" || commerce.quota_period == "anniversary",
                 "commerce.quota_period is not known: \"" + commerce.quota_period + "\"");
    goods.quota_by_calendar = commerce.quota_period == "month";
    check.expect(commerce.bonus_days >= 0 && commerce.bonus_days <= 36'500,
                 "commerce.bonus_days must be from 0 to 36500");
    goods.bonus_days = std::chrono::days(commerce.bonus_days);
    if (!commerce.low_balance.empty())
        goods.low_balance = check.decimal(commerce.low_balance, "commerce.low_balance");
    goods.minimum_payment = check.decimal(commerce.minimum_payment, "commerce.minimum_payment");
    goods.maximum_payment = check.decimal(commerce.maximum_payment, "commerce.maximum_payment");
    check.expect(goods.minimum_payment.value > 0, "commerce.minimum_payment must be more than 0");
    check.expect(goods.maximum_payment <= largest_price, "commerce.maximum_payment is at most 1000000");
    check.expect(goods.minimum_payment <= goods.maximum_payment,
                 "commerce.minimum_payment is more than commerce.maximum_payment");
    goods.currency = options.stripe.currency;
    goods.public_url = options.public_url;
    while (goods.public_url.ends_with('/')) goods.public_url.pop_back();
    if (!check.is_clean()) return fail(Code::invalid_request, check.text());
    return goods;
}

}  // namespace nebula::billing::commerce
