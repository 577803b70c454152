#include "accounts/teams/key_json.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace nebula::accounts {
namespace {

constexpr std::int64_t limit_max = 1'000'000'000'000;

struct Period {
    const char* word;  // OpenRouter's limit_reset
    const char* member;
    const char* flat;
    Nanos KeyBudget::* budget;
    Nanos KeyUsage::* usage;
};
// In the order in which a budget with several amounts shows one of them as "the" limit.
constexpr std::array<Period, 4> periods = {{
    {"", "total", "budget_total", &KeyBudget::total, &KeyUsage::total},
    {"monthly", "monthly", "budget_monthly", &KeyBudget::monthly, &KeyUsage::monthly},
    {"weekly", "weekly", "budget_weekly", &KeyBudget::weekly, &KeyUsage::weekly},
    {"daily", "daily", "budget_daily", &KeyBudget::daily, &KeyUsage::daily},
}};

const Period* limit_period(const KeyBudget& budget) {
    auto found = std::ranges::find_if(periods, [&](const Period& p) { return (budget.*p.budget).value > 0; });
    return found == periods.end() ? nullptr : &*found;
}

void add_openrouter(json::object& object, const KeyView& view) {
    OneLimit limit = one_limit(view.key.budget);
    auto remaining = limit_remaining(view.key.budget, view.usage);
    object["label"] = view.key.hint;
    object["limit"] = limit.amount.value == 0 ? json::value(nullptr) : credits_number(limit.amount);
    object["limit_remaining"] = remaining ? credits_number(*remaining) : json::value(nullptr);
    object["limit_reset"] = limit.reset.empty() ? json::value(nullptr) : json::value(limit.reset);
    object["include_byok_in_limit"] = false;
    object["usage"] = credits_number(view.usage.total);
    object["usage_daily"] = credits_number(view.usage.daily);
    object["usage_weekly"] = credits_number(view.usage.weekly);
    object["usage_monthly"] = credits_number(view.usage.monthly);
    object["byok_usage"] = credits_number(view.usage.byok_total);
    object["byok_usage_daily"] = credits_number(view.usage.byok_daily);
    object["byok_usage_weekly"] = credits_number(view.usage.byok_weekly);
    object["byok_usage_monthly"] = credits_number(view.usage.byok_monthly);
    object["creator_user_id"] =
        view.key.creator ? json::value(view.key.creator.text()) : json::value(nullptr);
    object["external_user"] = nullptr;
    object["expires_at"] = iso_or_null(view.key.expires_at);
}

json::value budget_object(const KeyBudget& budget) {
    if (!budget.is_any()) return nullptr;
    json::object object;
    for (const Period& period : periods) {
        Nanos amount = budget.*period.budget;
        object[period.member] = amount.value == 0 ? json::value(nullptr) : json::value(amount.text());
    }
    return object;
}

const json::value* present(const http::Fields& fields, std::string_view name) {
    return fields.object().if_contains(name);  // null counts: it clears
}

/// An amount within an object: text, a whole number, or a number by its shortest digits.
std::optional<Nanos> amount_from(const json::value& value) {
    if (value.is_null()) return Nanos{};
    if (value.is_string()) return Nanos::parse(std::string_view(value.get_string()));
    if (value.is_int64()) return Nanos::parse(std::to_string(value.get_int64()));
    if (!value.is_double()) return std::nullopt;
    std::array<char, 400> digits;
    auto [end, problem] = std::to_chars(digits.data(), digits.data() + digits.size(), value.get_double(),
                                        std::chars_format::fixed);
    if (problem != std::errc()) return std::nullopt;
    return Nanos::parse({digits.data(), end});
}

void read_budget(http::Fields& fields, KeyChange& change, const KeyBudget& current) {
    KeyBudget budget = current;
    bool is_given = false;
    if (const json::value* given = present(fields, "budget")) {
        is_given = true;
        budget = {};
        if (given->is_object()) {
            for (const auto& member : given->get_object()) {
                auto period = std::ranges::find(periods, std::string_view(member.key()),
                                                [](const Period& p) { return std::string_view(p.member); });
                auto amount = amount_from(member.value());
                if (period == periods.end() || !amount || amount->value < 0)
                    return fields.refuse("budget", "must hold amounts: total, daily, weekly, monthly");
                budget.*period->budget = *amount;
            }
        } else if (auto total = amount_from(*given); total && total->value >= 0) {
            budget.total = *total;
        } else {
            return fields.refuse("budget", "must be an amount or an object of amounts");
        }
    }
    for (const Period& period : periods) {
        if (present(fields, period.flat) == nullptr) continue;
        is_given = true;
        budget.*period.budget = fields.credits_or_none(period.flat).value_or(Nanos{});
        if ((budget.*period.budget).value < 0) fields.refuse(period.flat, "must be 0 (none) or more");
    }
    if (is_given) change.budget = budget;
}

void read_one_limit(http::Fields& fields, KeyChange& change, const KeyBudget& current) {
    bool has_amount = present(fields, "limit") != nullptr, has_reset = present(fields, "limit_reset");
    if (!has_amount && !has_reset) return;
    KeyBudget budget = change.budget.value_or(current);
    OneLimit limit = one_limit(budget);
    if (const Period* shown = limit_period(budget)) budget.*shown->budget = {};
    if (has_amount) {
        auto amount = fields.credits_or_none("limit");
        // No budget at all is null; nothing to spend is a disabled key.
        if (amount && amount->value <= 0) fields.refuse("limit", "must be more than 0, or null for none");
        limit.amount = amount.value_or(Nanos{});
    }
    if (has_reset) limit.reset = fields.text_or("limit_reset", "");
    auto period = std::ranges::find(periods, std::string_view(limit.reset),
                                    [](const Period& p) { return std::string_view(p.word); });
    if (period == periods.end())
        return fields.refuse("limit_reset", "must be daily, weekly, monthly or null");
    budget.*period->budget = limit.amount;
    change.budget = budget;
}

void read_limits(http::Fields& fields, KeyChange& change, RateLimits limits) {
    bool is_given = false;
    auto take = [&is_given, &limits](http::Fields& from) {
        auto one = [&](const char* name, std::int64_t& limit) {
            if (present(from, name) == nullptr) return;
            is_given = true;
            limit = from.integer_or(name, 0, 0, limit_max);
        };
        one("rpm", limits.rpm);
        one("tpm", limits.tpm);
        one("ipm", limits.ipm);
        one("rpd", limits.rpd);
    };
    for (const char* name : {"limits", "rate_limits"}) {
        const json::value* given = fields.raw(name);
        if (given == nullptr) continue;
        if (!given->is_object()) return fields.refuse(name, "must be an object of rpm, tpm, ipm, rpd");
        http::Fields inner(given->get_object());
        inner.only({"rpm", "tpm", "ipm", "rpd"});
        take(inner);
        if (auto good = inner.error(); !good) return fields.refuse(name, "has a limit that is not good");
    }
    take(fields);
    if (is_given) change.limits = limits;
}

void read_models(http::Fields& fields, KeyChange& change) {
    for (const char* name : {"models", "allowed_models"})
        if (present(fields, name) != nullptr) change.models = fields.texts_or_none(name);
}

void read_permissions(http::Fields& fields, KeyChange& change) {
    for (const char* name : {"permissions", "scopes"}) {
        const json::value* given = fields.raw(name);
        if (given == nullptr) continue;
        auto permissions = permissions_from(*given);
        if (!permissions) return fields.refuse(name, "must be a list of known numbers or words");
        change.permissions = permissions->bits();
    }
}

}  // namespace

OneLimit one_limit(const KeyBudget& budget) {
    const Period* period = limit_period(budget);
    if (period == nullptr) return {};
    return {budget.*period->budget, period->word};
}

std::optional<Nanos> limit_remaining(const KeyBudget& budget, const KeyUsage& usage) {
    const Period* period = limit_period(budget);
    if (period == nullptr) return std::nullopt;
    return std::max(Nanos{}, budget.*period->budget - usage.*period->usage);
}

json::object key_object(const KeyView& view, KeyStyle style, Time now, const std::string* text) {
    const Key& key = view.key;
    json::object object;
    object["id"] = key.id.text();
    object["name"] = key.name;
    object["description"] = key.description;
    object["key"] = text != nullptr ? *text : key.hint;
    object["partial_key_data"] = key.hint;
    object["hash"] = to_hex(key.hash.bytes);
    object["status"] = key.is_usable(now) ? 1 : 2;
    object["disabled"] = key.is_disabled;
    object["cache"] = key.uses_cache;
    if (style == KeyStyle::platform)
        object["created_at"] = unix_seconds(key.created_at);
    else
        object["created_at"] = to_iso8601(key.created_at);
    object["updated_at"] = iso_or_null(key.updated_at);
    object["last_used_at"] = iso_or_null(key.last_used_at);
    object["team"] = nullptr;
    if (view.team)
        object["team"] = {{"id", view.team->id.text()},
                          {"name", view.team->display_name},
                          {"description", view.team->description}};
    object["workspace_id"] = key.account.text();
    object["permissions"] = permission_words(Permissions(key.permissions) & Permissions::all());
    object["models"] = text_list(key.models);
    object["budget"] = budget_object(key.budget);
    object["limits"] = {
        {"rpm", key.limits.rpm}, {"tpm", key.limits.tpm}, {"ipm", key.limits.ipm}, {"rpd", key.limits.rpd}};
    add_openrouter(object, view);
    return object;
}

json::object own_key_object(const KeyView& view) {
    json::object object;
    add_openrouter(object, view);
    bool manages = (Permissions(view.key.permissions) & Permissions::all()).has(Permission::keys_write);
    object["is_free_tier"] = false;
    // Members that its client insists on: there are no free models, no regions and no organizations here.
    object["workspace_id"] = view.key.account.text();
    object["organization_id"] = nullptr;
    object["allowed_data_regions"] = text_list({"global"});
    object["free_model_daily_requests"] = {{"limit", 0}, {"remaining", 0}, {"used", 0}};
    object["is_management_key"] = manages;
    object["is_provisioning_key"] = manages;
    object["rate_limit"] = {{"requests", -1},
                            {"interval", "10s"},
                            {"note", "This member says nothing and will go; limits are in headers."}};
    return object;
}

bool is_openrouter_body(const http::Fields& fields) {
    auto is_there = [&fields](const char* name) { return present(fields, name) != nullptr; };
    constexpr std::array names = {"limit", "limit_reset", "include_byok_in_limit", "workspace_id",
                                  "creator_user_id"};
    return std::ranges::any_of(names, is_there);
}

Result<KeyChange> read_key_change(http::Fields& fields, const Key& current) {
    // A mistyped limit that is silently ignored would cost money.
    fields.only({"name",
                 "description",
                 "team_id",
                 "workspace_id",
                 "creator_user_id",
                 "limit",
                 "limit_reset",
                 "include_byok_in_limit",
                 "budget",
                 "budget_total",
                 "budget_daily",
                 "budget_weekly",
                 "budget_monthly",
                 "limits",
                 "rate_limits",
                 "rpm",
                 "tpm",
                 "ipm",
                 "rpd",
                 "models",
                 "allowed_models",
                 "permissions",
                 "scopes",
                 "expires_at",
                 "disabled",
                 "is_disabled",
                 "cache",
                 "status",
                 "regenerate",
                 "grace"});
    KeyChange change;
    if (fields.has("name")) change.name = fields.text("name");
    if (present(fields, "description")) change.description = fields.text_or("description", "");
    read_budget(fields, change, current.budget);
    read_one_limit(fields, change, current.budget);
    read_limits(fields, change, current.limits);
    read_models(fields, change);
    read_permissions(fields, change);
    for (const char* name : {"disabled", "is_disabled"})
        if (fields.has(name)) change.is_disabled = fields.flag_or(name, false);
    if (fields.has("cache")) change.uses_cache = fields.flag_or("cache", false);
    if (fields.has("status")) change.is_disabled = fields.integer("status", 1, 2) == 2;
    if (present(fields, "expires_at")) change.expires_at = fields.time_or_none("expires_at");
    if (auto good = fields.error(); !good) return fail(good.error());
    return change;
}

}  // namespace nebula::accounts
