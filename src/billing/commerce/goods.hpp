#pragma once
// What is sold, checked: the settings with presets filled in.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "billing/commerce.hpp"

namespace nebula::billing::commerce {

std::vector<PlanSettings> standard_plans();
std::vector<PackageSettings> credit_packages();
std::vector<PackageSettings> platform_packages();
std::vector<TierSettings> platform_tiers();
std::vector<TierSettings> novita_tiers();

struct TaxRate {
    std::string name;
    std::string percent;  // as written
    std::int64_t millionths = 0;
};

struct Goods {
    std::vector<PlanSettings> plans;
    std::vector<PackageSettings> packages;
    std::vector<TierSettings> tiers;
    std::map<std::string, TaxRate, std::less<>> taxes;  // by country
    bool quota_by_calendar = true;
    std::chrono::days bonus_days{};
    Nanos low_balance;  // 0 = off
    Nanos minimum_payment;
    Nanos maximum_payment;
    std::string currency;
    std::string public_url;

    const PlanSettings* plan(std::string_view id) const;
    /// Where those fall back to that cannot pay: costs nothing and anybody may have it; null = there is none.
    const PlanSettings* free_plan() const;
    /// Bonus of the package of exactly this price.
    Nanos bonus_for(Nanos price) const;
    /// By "CA-QC", then "CA", then "*"; null = no tax.
    const TaxRate* tax(std::string_view country) const;
    /// When bonus credits given now expire.
    std::optional<Time> bonus_expiry(Time now, std::int64_t days_or_default) const;
};

/// Error: every mistake, one per line.
Result<Goods> check_goods(const CommerceOptions& options);
/// "CA" or "CA-QC": two upper-case letters, and a region of up to three letters or digits.
bool is_country(std::string_view text);

}  // namespace nebula::billing::commerce
