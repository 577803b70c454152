#include "app/operations.hpp"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/value_from.hpp>

#include "app/services.hpp"
#include "base/text.hpp"
#include "http/json_api.hpp"

namespace nebula::app {
namespace {

namespace json = boost::json;

std::unexpected<Error> bad(std::string_view name, const char* what) {
    return fail(Code::invalid_request, "'" + std::string(name) + "' " + what, std::string(name));
}

Result<std::string> text_of(const json::object& arguments, std::string_view name) {
    const json::value* value = arguments.if_contains(name);
    if (value == nullptr) return std::string();
    if (!value->is_string()) return bad(name, "must be a string");
    return std::string(value->get_string());
}

Result<std::int64_t> count_of(const json::object& arguments, std::string_view name, std::int64_t fallback) {
    const json::value* value = arguments.if_contains(name);
    if (value == nullptr) return fallback;
    if (!value->is_int64() || value->get_int64() < 0)
        return bad(name, "must be a whole number, not negative");
    return value->get_int64();
}

json::object account_json(const accounts::Account& account) {
    return {
        {"id", account.id.text()}, {"name", account.name}, {"created_at", to_iso8601(account.created_at)}};
}

json::object user_json(const accounts::User& user) {
    return {{"id", user.id.text()},
            {"email", user.email},
            {"role", user.role == accounts::Role::operator_ ? "operator" : "customer"},
            {"created_at", to_iso8601(user.created_at)}};
}

json::object key_json(const accounts::Key& key) {
    json::object out{{"id", key.id.text()},
                     {"account", key.account.text()},
                     {"name", key.name},
                     {"hint", key.hint},
                     {"rpm", key.limits.rpm},
                     {"tpm", key.limits.tpm},
                     {"created_at", to_iso8601(key.created_at)}};
    out["rpd"] = key.limits.rpd;
    out["budget"] = {{"total", key.budget.total.text()},
                     {"daily", key.budget.daily.text()},
                     {"weekly", key.budget.weekly.text()},
                     {"monthly", key.budget.monthly.text()}};
    out["models"] = json::array(key.models.begin(), key.models.end());
    out["permissions"] = json::value_from(accounts::Permissions(key.permissions).names());
    out["disabled"] = key.is_disabled;
    out["cache"] = key.uses_cache;
    out["expires_at"] = key.expires_at ? json::value(to_iso8601(*key.expires_at)) : json::value(nullptr);
    out["last_used_at"] =
        key.last_used_at ? json::value(to_iso8601(*key.last_used_at)) : json::value(nullptr);
    out["revoked_at"] = key.revoked_at ? json::value(to_iso8601(*key.revoked_at)) : json::value(nullptr);
    return out;
}

json::object balance_json(const billing::Balance& balance) {
    return {{"available", balance.available.text()},
            {"held", balance.held.text()},
            {"paid", balance.paid.text()},
            {"bonus", balance.bonus.text()},
            {"debt", balance.debt.text()}};
}

const char* outcome_word(billing::Outcome outcome) {
    switch (outcome) {
        case billing::Outcome::completed:
            return "completed";
        case billing::Outcome::client_left:
            return "client_left";
        case billing::Outcome::upstream_failed:
            return "upstream_failed";
        case billing::Outcome::cancelled:
            return "cancelled";
    }
    return "completed";
}

json::object usage_json(const billing::UsageRecord& record) {
    return {{"id", record.id.text()},
            {"account", record.account.text()},
            {"key", record.key.text()},
            {"model", record.model},
            {"provider", record.provider},
            {"input_tokens", record.usage.input},
            {"cached_tokens", record.usage.cached},
            {"output_tokens", record.usage.output},
            {"cache_write_tokens", record.usage.cache_write},
            {"reasoning_tokens", record.usage.reasoning},
            {"units", record.usage.units},
            {"unit", record.unit},
            {"is_byok", record.is_byok()},
            {"charge", record.charge.text()},
            {"written_off", record.written_off.text()},
            {"quota_input", record.quota_input},
            {"quota_output", record.quota_output},
            {"estimated", record.is_estimated},
            {"streamed", record.is_streamed},
            {"outcome", outcome_word(record.outcome)},
            {"started_at", to_iso8601(record.started_at)},
            {"latency_us", record.latency_us},
            {"first_token_us", record.first_token_us}};
}

template <class T, class F>
json::object list_json(const std::vector<T>& items, F convert) {
    json::array data;
    for (const T& item : items) data.push_back(convert(item));
    return {{"data", std::move(data)}};
}

}  // namespace

Operations::Operations(Services& services)
    : services_(services),
      accounts_(*services.accounts),
      billing_(*services.billing),
      catalog_(services.catalog) {}

const std::vector<Operations::Entry>& Operations::table() {
    static const std::vector<Entry> entries = {
        {"users.create", {"email"}, {"password", "role"}, &Operations::users_create},
        {"users.list", {}, {}, &Operations::users_list},
        {"accounts.create", {"name"}, {}, &Operations::accounts_create},
        {"accounts.list", {}, {}, &Operations::accounts_list},
        {"accounts.show", {"account"}, {}, &Operations::accounts_show},
        {"accounts.suspend", {"account", "reason"}, {}, &Operations::accounts_suspend},
        {"accounts.resume", {"account"}, {}, &Operations::accounts_resume},
        {"keys.create",
         {"account", "name"},
         {"description", "rpm", "tpm", "ipm", "rpd", "budget", "budget_daily", "budget_weekly",
          "budget_monthly", "models", "permissions", "expires_at", "cache"},
         &Operations::keys_create},
        {"keys.list", {}, {"account"}, &Operations::keys_list},
        {"keys.update",
         {"key"},
         {"name", "description", "models", "expires_at", "disabled", "cache"},
         &Operations::keys_update},
        {"keys.revoke", {"key"}, {}, &Operations::keys_revoke},
        {"credits.grant", {"account", "amount"}, {"idempotency_key", "note"}, &Operations::credits_grant},
        {"credits.balance", {"account"}, {}, &Operations::credits_balance},
        {"usage.list", {"account"}, {"limit"}, &Operations::usage_list},
        {"requests.list",
         {"account"},
         {"limit", "model", "key", "status", "cursor"},
         &Operations::requests_list},
        {"models.list", {}, {}, &Operations::models_list},
        {"models.discover", {}, {"provider", "url", "kind"}, &Operations::models_discover},
        {"ledger.verify", {}, {}, &Operations::ledger_verify},
        {"routes.list", {}, {}, &Operations::routes_list},
        {"receipts.show", {"account", "request"}, {}, &Operations::receipts_show},
        {"plans.subscribe", {"account", "plan"}, {}, &Operations::plans_subscribe},
        {"plans.cancel", {"account"}, {}, &Operations::plans_cancel},
        {"codes.create",
         {"amount"},
         {"code", "uses_max", "expires_at", "bonus_days", "note"},
         &Operations::codes_create},
        {"prices.set",
         {"model", "input_per_m", "output_per_m", "effective_from"},
         {"cached_input_per_m", "request", "cache_write_per_m", "reasoning_per_m", "unit"},
         &Operations::prices_set},
        {"billing.rerate", {"from", "to"}, {"account", "dry_run"}, &Operations::billing_rerate},
        {"billing.close_month", {"month"}, {}, &Operations::billing_close_month},
        {"billing.reconcile",
         {"provider", "days"},
         {"has_requests", "tolerance"},
         &Operations::billing_reconcile},
    };
    return entries;
}

std::vector<std::string_view> Operations::names() {
    std::vector<std::string_view> all;
    for (const Entry& entry : table()) all.push_back(entry.name);
    return all;
}

Operations::Answer Operations::call(std::string name, json::object arguments) {
    auto entry = std::ranges::find(table(), name, &Entry::name);
    if (entry == table().end()) co_return fail(Code::not_found, "no such operation: " + name);
    for (std::string_view required : entry->required)
        if (!arguments.contains(required)) co_return bad(required, "is missing");
    for (const auto& argument : arguments) {
        bool known = std::ranges::count(entry->required, std::string_view(argument.key())) +
                         std::ranges::count(entry->optional, std::string_view(argument.key())) >
                     0;
        if (!known) co_return bad(argument.key(), "is not an argument of this operation");
    }
    co_return co_await (this->*entry->run)(std::move(arguments));
}

Operations::Answer Operations::users_create(json::object arguments) {
    auto email = text_of(arguments, "email");
    auto password = text_of(arguments, "password");
    auto role = text_of(arguments, "role");
    for (auto* one : {&email, &password, &role})
        if (!*one) co_return fail(one->error());
    if (!role->empty() && *role != "operator" && *role != "customer")
        co_return bad("role", "must be operator or customer");
    bool is_generated = password->empty();
    if (is_generated) password = random_base62(20);
    auto user = co_await accounts_.create_user(
        *email, Secret(*password),
        *role == "operator" ? accounts::Role::operator_ : accounts::Role::customer);
    if (!user) co_return fail(std::move(user.error()));
    json::object out = user_json(*user);
    if (is_generated) out["password"] = *password;  // shown once
    co_return out;
}

Operations::Answer Operations::users_list(json::object) {
    auto users = co_await accounts_.list_users();
    if (!users) co_return fail(std::move(users.error()));
    co_return list_json(*users, user_json);
}

Operations::Answer Operations::accounts_create(json::object arguments) {
    auto name = text_of(arguments, "name");
    if (!name) co_return fail(name.error());
    auto account = co_await accounts_.create_account(*name);
    if (!account) co_return fail(std::move(account.error()));
    co_return account_json(*account);
}

Operations::Answer Operations::accounts_list(json::object) {
    auto all = co_await accounts_.list_accounts();
    if (!all) co_return fail(std::move(all.error()));
    co_return list_json(*all, account_json);
}

Operations::Answer Operations::accounts_show(json::object arguments) {
    auto name = text_of(arguments, "account");
    if (!name) co_return fail(name.error());
    auto account = co_await accounts_.account(*name);
    if (!account) co_return fail(std::move(account.error()));
    auto balance = co_await billing_.balance(account->id);
    if (!balance) co_return fail(std::move(balance.error()));
    json::object out = account_json(*account);
    out["balance"] = balance_json(*balance);
    auto suspension = co_await services_.commerce->suspension(account->id);
    if (!suspension) co_return fail(std::move(suspension.error()));
    out["suspended"] = nullptr;
    if (*suspension)
        out["suspended"] = {{"reason", (*suspension)->reason}, {"since", to_iso8601((*suspension)->since)}};
    co_return out;
}

Operations::Answer Operations::keys_create(json::object arguments) {
    http::Fields fields(std::move(arguments));
    constexpr std::int64_t limit_max = 1'000'000'000;
    std::string owner = fields.text("account");
    accounts::Key wanted;
    wanted.name = fields.text("name");
    wanted.description = fields.text_or("description", "");
    wanted.limits = {fields.integer_or("rpm", 0, 0, limit_max), fields.integer_or("tpm", 0, 0, limit_max),
                     fields.integer_or("ipm", 0, 0, limit_max), fields.integer_or("rpd", 0, 0, limit_max)};
    wanted.budget = {fields.credits_or_none("budget").value_or(Nanos{}),
                     fields.credits_or_none("budget_daily").value_or(Nanos{}),
                     fields.credits_or_none("budget_weekly").value_or(Nanos{}),
                     fields.credits_or_none("budget_monthly").value_or(Nanos{})};
    wanted.models = fields.texts_or_none("models");
    wanted.expires_at = fields.time_or_none("expires_at");
    wanted.uses_cache = fields.flag_or("cache", false);
    if (fields.has("permissions")) {
        auto permissions = accounts::Permissions::parse(fields.texts_or_none("permissions"));
        if (!permissions) co_return fail(permissions.error());
        wanted.permissions = permissions->bits();
    }
    if (auto ok = fields.error(); !ok) co_return fail(ok.error());
    auto account = co_await account_of(owner);
    if (!account) co_return fail(std::move(account.error()));
    wanted.account = *account;
    auto made = co_await accounts_.create_key(std::move(wanted), nullptr);
    if (!made) co_return fail(std::move(made.error()));
    json::object out = key_json(made->key);
    out["key"] = made->text.reveal();
    co_return out;
}

Operations::Answer Operations::keys_list(json::object arguments) {
    std::optional<AccountId> only;
    auto owner = text_of(arguments, "account");
    if (!owner) co_return fail(owner.error());
    if (!owner->empty()) {
        auto account = co_await accounts_.account(*owner);
        if (!account) co_return fail(std::move(account.error()));
        only = account->id;
    }
    auto keys = co_await accounts_.list_keys(only);
    if (!keys) co_return fail(std::move(keys.error()));
    co_return list_json(*keys, key_json);
}

Operations::Answer Operations::keys_update(json::object arguments) {
    http::Fields fields(std::move(arguments));
    accounts::KeyChange change;
    if (fields.has("name")) change.name = fields.text("name");
    if (fields.has("description")) change.description = fields.text_or("description", "");
    if (fields.has("models")) change.models = fields.texts_or_none("models");
    if (fields.has("expires_at")) change.expires_at = fields.time_or_none("expires_at");
    if (fields.has("disabled")) change.is_disabled = fields.flag_or("disabled", false);
    if (fields.has("cache")) change.uses_cache = fields.flag_or("cache", false);
    std::string id = fields.text("key");
    if (auto ok = fields.error(); !ok) co_return fail(ok.error());
    auto key = co_await accounts_.key(std::move(id));
    if (!key) co_return fail(std::move(key.error()));
    auto changed = co_await accounts_.change_key(key->account, key->id, std::move(change), nullptr);
    if (!changed) co_return fail(std::move(changed.error()));
    co_return key_json(*changed);
}

Operations::Answer Operations::keys_revoke(json::object arguments) {
    auto id = text_of(arguments, "key");
    if (!id) co_return fail(id.error());
    auto key = co_await accounts_.revoke_key(*id);
    if (!key) co_return fail(std::move(key.error()));
    co_return key_json(*key);
}

Operations::Answer Operations::credits_grant(json::object arguments) {
    auto owner = text_of(arguments, "account");
    auto amount_text = text_of(arguments, "amount");
    auto key = text_of(arguments, "idempotency_key");
    auto note = text_of(arguments, "note");
    for (auto* one : {&owner, &amount_text, &key, &note})
        if (!*one) co_return fail(one->error());
    auto amount = Nanos::parse(*amount_text);
    if (!amount)
        co_return bad("amount",
                      "must be a decimal number of credits with at most 9 decimals, like 10 or 0.5");
    auto account = co_await accounts_.account(*owner);
    if (!account) co_return fail(std::move(account.error()));
    auto balance = co_await billing_.grant(account->id, *amount, *key, *note);
    if (!balance) co_return fail(std::move(balance.error()));
    co_return balance_json(*balance);
}

Operations::Answer Operations::credits_balance(json::object arguments) {
    auto owner = text_of(arguments, "account");
    if (!owner) co_return fail(owner.error());
    auto account = co_await accounts_.account(*owner);
    if (!account) co_return fail(std::move(account.error()));
    auto balance = co_await billing_.balance(account->id);
    if (!balance) co_return fail(std::move(balance.error()));
    co_return balance_json(*balance);
}

Operations::Answer Operations::usage_list(json::object arguments) {
    auto owner = text_of(arguments, "account");
    auto limit = count_of(arguments, "limit", 100);
    if (!owner) co_return fail(owner.error());
    if (!limit) co_return fail(limit.error());
    auto account = co_await accounts_.account(*owner);
    if (!account) co_return fail(std::move(account.error()));
    auto records = co_await billing_.usage(account->id, std::clamp<std::int64_t>(*limit, 1, 100'000));
    if (!records) co_return fail(std::move(records.error()));
    co_return list_json(*records, usage_json);
}

Operations::Answer Operations::models_list(json::object) {
    auto snapshot = catalog_.current();
    json::array data;
    for (const auto& model : snapshot->models) {
        json::array routes;
        for (const auto& route : model->routes)
            routes.push_back(json::object{{"provider", route.provider->name},
                                          {"model", route.upstream_model},
                                          {"weight", route.weight}});
        data.push_back(json::object{{"id", model->id},
                                    {"context_length", model->context_length},
                                    {"max_output_tokens", model->max_output_tokens},
                                    {"price_input_per_m", model->prices.input_per_m.text()},
                                    {"price_output_per_m", model->prices.output_per_m.text()},
                                    {"routes", std::move(routes)}});
    }
    co_return json::object{{"data", std::move(data)}};
}

Operations::Answer Operations::ledger_verify(json::object) {
    auto report = co_await billing_.verify();
    if (!report) co_return fail(std::move(report.error()));
    json::array problems;
    for (const std::string& problem : report->problems) problems.push_back(json::string(problem));
    co_return json::object{{"balanced", report->problems.empty()},
                           {"problems", std::move(problems)},
                           {"postings", report->postings},
                           {"usage_records", report->usage_records},
                           {"customer_credits", report->customer_credits.text()},
                           {"revenue", report->revenue.text()}};
}

}  // namespace nebula::app
