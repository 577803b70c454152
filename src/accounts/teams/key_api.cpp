#include "accounts/teams/key_api.hpp"

#include <algorithm>

#include "accounts/store.hpp"
#include "accounts/teams/team_service.hpp"
#include "base/text.hpp"

namespace nebula::accounts {

using http::Method;
using store::Tx;

namespace {

constexpr std::int64_t page_size = 100;  // by which OpenRouter's clients step
constexpr std::int64_t grace_seconds_max = 7 * 24 * 3600;

std::unexpected<Error> no_key() { return fail(Code::not_found, "there is no such key", "key"); }

Key new_key(const Caller& caller) {
    Key key;
    key.account = caller.account;
    key.creator = caller.user;
    key.permissions = (Permissions::of_key() & caller.permissions).bits();
    return key;
}

void apply(Key& key, const KeyChange& change) {
    if (change.name) key.name = *change.name;
    if (change.description) key.description = *change.description;
    if (change.limits) key.limits = *change.limits;
    if (change.budget) key.budget = *change.budget;
    if (change.models) key.models = *change.models;
    if (change.permissions) key.permissions = *change.permissions;
    if (change.expires_at) key.expires_at = *change.expires_at;
    if (change.uses_cache) key.uses_cache = *change.uses_cache;
}

/// What a team's key tells of its team; nothing for a personal account.
std::optional<Account> team_of_key(Tx& tx, AccountId account) {
    auto found = sql::account_by_id(tx, account);
    if (!found || found->kind != AccountKind::team) return std::nullopt;
    return found;
}

http::Response shown(http::Response response, int status) {
    // A key is in this answer: nobody may keep it.
    response.headers.emplace_back("cache-control", "no-store");
    response.status = status;
    return response;
}

}  // namespace

KeyStyle KeyApi::style_for(const Caller& caller, KeyStyle style) const {
    // The platform's portal comes with a person's token, OpenRouter's clients always with a key.
    if (style == KeyStyle::openrouter && caller.kind == Caller::Kind::person) return KeyStyle::platform;
    return style;
}

Async<Result<KeyUsage>> KeyApi::usage(AccountId account, KeyId key) {
    if (!usage_of_) co_return KeyUsage{};
    co_return co_await usage_of_(account, key);
}

Async<Result<KeyView>> KeyApi::view(Key key) {
    auto look_up = [account = key.account](Tx& tx) -> Result<std::optional<Account>> {
        return team_of_key(tx, account);
    };
    auto team = co_await db_.read(std::move(look_up));
    if (!team) co_return fail(team.error());
    auto spent = co_await usage(key.account, key.id);
    if (!spent) co_return fail(spent.error());
    co_return KeyView{std::move(key), std::move(*team), *spent};
}

Async<Result<std::vector<KeyView>>> KeyApi::views(Caller caller, std::optional<AccountId> only) {
    auto list = [caller, only](Tx& tx) -> Result<std::vector<KeyView>> {
        std::vector<AccountId> accounts{caller.account};
        // Somebody who looks at his own keys also sees those of his teams.
        if (caller.kind == Caller::Kind::person && sql::is_personal(tx, caller.account))
            for (const Team& team : sql::teams_of(tx, caller.user))
                if (team.permissions.has(Permission::keys_read)) accounts.push_back(team.id);
        std::vector<KeyView> all;
        for (AccountId account : accounts) {
            if (only && account != *only) continue;
            auto team = team_of_key(tx, account);
            for (Key& key : sql::unrevoked_keys_of(tx, account)) all.push_back({std::move(key), team, {}});
        }
        return all;
    };
    co_return co_await db_.read(std::move(list));
}

Async<Result<KeyApi::Located>> KeyApi::locate(Caller caller, std::string id, Permission needed) {
    auto look_up = [caller, id, needed, now = clock_.now()](Tx& tx) -> Result<Located> {
        std::optional<Key> key;
        if (auto parsed = KeyId::parse(id)) key = sql::key_by_id(tx, *parsed);
        if (auto hash = sql::parse_hash(id)) key = sql::valid_key_by_hash(tx, *hash, now);
        if (!key || key->revoked_at || key->grace_until) return no_key();
        auto acting = acting_for(tx, caller, key->account);
        if (!acting || !acting->permissions.has(needed)) return no_key();
        return Located{std::move(*key), std::move(*acting)};
    };
    co_return co_await db_.read(std::move(look_up));
}

Async<Result<Caller>> KeyApi::acting(Caller caller, std::string team) {
    if (team.empty()) co_return caller;
    auto look_up = [caller, id = AccountId::parse(team)](Tx& tx) -> Result<Caller> {
        auto acting = id ? acting_for(tx, caller, *id) : std::nullopt;
        if (!acting || !acting->permissions.has(Permission::keys_write))
            return fail(Code::not_found, "there is no such team", "team_id");
        return std::move(*acting);
    };
    co_return co_await db_.read(std::move(look_up));
}

Answer KeyApi::list(http::Exchange& exchange, Caller caller, KeyStyle style) {
    http::Params params = http::query(exchange.head());
    auto offset = params.integer("offset", 0, 0, 1'000'000);
    auto limit = params.integer("limit", params.has("offset") ? page_size : 1'000'000, 1, 1'000'000);
    if (!offset || !limit) co_return fail(offset ? limit.error() : offset.error());
    std::optional<AccountId> only;
    if (auto workspace = params.get("workspace_id"))
        only = AccountId::parse(*workspace).value_or(AccountId());
    bool with_disabled = params.get("include_disabled").value_or("true") != "false";
    auto all = co_await views(caller, only);
    if (!all) co_return fail(all.error());
    if (!with_disabled) std::erase_if(*all, [](const KeyView& view) { return view.key.is_disabled; });

    json::array data;
    auto first = std::min<std::size_t>(static_cast<std::size_t>(*offset), all->size());
    auto count = std::min<std::size_t>(static_cast<std::size_t>(*limit), all->size() - first);
    for (std::size_t k = first; k < first + count; ++k) {
        KeyView& view = (*all)[k];
        auto spent = co_await usage(view.key.account, view.key.id);
        if (!spent) co_return fail(spent.error());
        view.usage = *spent;
        data.emplace_back(key_object(view, style_for(caller, style), clock_.now()));
    }
    co_return http::platform_success(std::move(data), "API keys successfully retrieved",
                                     {{"total_keys", all->size()}});
}

Answer KeyApi::create(http::Exchange& exchange, Caller caller, KeyStyle style) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(fields.error());
    if (!fields->has("name")) fields->refuse("name", "is required");
    auto change = read_key_change(*fields, Key());
    if (!change) co_return fail(change.error());
    std::string team = fields->text_or("team_id", fields->text_or("workspace_id", ""));
    if (auto good = fields->error(); !good) co_return fail(good.error());
    auto acting_caller = co_await acting(caller, std::move(team));
    if (!acting_caller) co_return fail(acting_caller.error());

    Key wanted = new_key(*acting_caller);
    apply(wanted, *change);
    auto made = co_await accounts_.create_key(std::move(wanted), &*acting_caller);
    if (!made) co_return fail(made.error());
    auto seen = co_await view(std::move(made->key));
    if (!seen) co_return fail(seen.error());
    bool is_openrouter =
        style == KeyStyle::openrouter && (is_openrouter_body(*fields) || caller.kind == Caller::Kind::key);
    json::object data = key_object(*seen, is_openrouter ? style : style_for(caller, style), clock_.now(),
                                   &made->text.reveal());
    auto response = http::platform_success(std::move(data), "API key successfully created",
                                           {{"key", made->text.reveal()}});
    co_return shown(std::move(response), is_openrouter ? 201 : 200);
}

Answer KeyApi::get(http::Exchange& exchange, Caller caller, KeyStyle style) {
    auto found = co_await locate(caller, std::string(exchange.path_param("id")), Permission::keys_read);
    if (!found) co_return fail(found.error());
    auto seen = co_await view(std::move(found->key));
    if (!seen) co_return fail(seen.error());
    co_return http::platform_success(key_object(*seen, style_for(caller, style), clock_.now()),
                                     "API key successfully retrieved");
}

Answer KeyApi::change(http::Exchange& exchange, Caller caller, KeyStyle style) {
    auto found = co_await locate(caller, std::string(exchange.path_param("id")), Permission::keys_write);
    if (!found) co_return fail(found.error());
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(fields.error());
    bool again = fields->flag_or("regenerate", false);
    auto change = read_key_change(*fields, found->key);
    if (!change) co_return fail(change.error());
    if (again) co_return co_await regenerate(std::move(*found), std::move(*fields), style_for(caller, style));
    auto changed =
        co_await accounts_.change_key(found->key.account, found->key.id, std::move(*change), &found->acting);
    if (!changed) co_return fail(changed.error());
    auto seen = co_await view(std::move(*changed));
    if (!seen) co_return fail(seen.error());
    co_return http::platform_success(key_object(*seen, style_for(caller, style), clock_.now()),
                                     "API key successfully updated");
}

Answer KeyApi::regenerate(Located located, http::Fields fields, KeyStyle style) {
    std::chrono::seconds grace(fields.integer_or("grace", 0, 0, grace_seconds_max));
    auto change = read_key_change(fields, located.key);
    if (!change) co_return fail(change.error());
    auto made =
        co_await accounts_.regenerate_key(located.key.account, located.key.id, grace, &located.acting);
    if (!made) {
        if (made.error().param != "regenerate") co_return fail(made.error());
        // The platform's clients find the reason of this one refusal under another name.
        co_return http::json_response(400, json::object{{"status", "error"},
                                                        {"detail", made.error().message},
                                                        {"message", made.error().message}});
    }
    // Clients send the name along, changed or not.
    auto changed = co_await accounts_.change_key(located.key.account, located.key.id, std::move(*change),
                                                 &located.acting);
    if (!changed) co_return fail(changed.error());
    auto seen = co_await view(std::move(*changed));
    if (!seen) co_return fail(seen.error());
    json::object data = key_object(*seen, style, clock_.now(), &made->text.reveal());
    auto response = http::platform_success(std::move(data), "API key successfully regenerated",
                                           {{"key", made->text.reveal()}});
    co_return shown(std::move(response), 200);
}

Answer KeyApi::remove(http::Exchange& exchange, Caller caller, KeyStyle) {
    auto found = co_await locate(caller, std::string(exchange.path_param("id")), Permission::keys_write);
    if (!found) co_return fail(found.error());
    auto revoked = co_await accounts_.revoke_key(found->key.account, found->key.id, &found->acting);
    if (!revoked) co_return fail(revoked.error());
    co_return http::platform_success(json::object(), "API key successfully deleted", {{"deleted", true}});
}

Answer KeyApi::own(http::Exchange&, Caller caller) {
    if (caller.kind != Caller::Kind::key)
        co_return fail(Code::not_found, "this tells about an API key: call it with one", "key");
    auto key = co_await accounts_.key(caller.account, caller.key);
    if (!key) co_return fail(key.error());
    auto seen = co_await view(std::move(*key));
    if (!seen) co_return fail(seen.error());
    co_return http::json_response(200, json::object{{"data", own_key_object(*seen)}});
}

Answer KeyApi::list_credits(http::Exchange&, Caller caller) {
    auto all = co_await views(caller, caller.account);
    if (!all) co_return fail(all.error());
    json::array keys;
    for (const KeyView& view : *all)
        keys.push_back({{"id", view.key.id.text()},
                        {"name", view.key.name},
                        {"key", view.key.hint},
                        {"created_at", to_iso8601(view.key.created_at)},
                        {"last_used_at", iso_or_null(view.key.last_used_at)}});
    co_return http::json_response(200, json::object{{"keys", std::move(keys)}});
}

Answer KeyApi::create_credits(http::Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(fields.error());
    Key wanted = new_key(caller);
    wanted.name = fields->text("name");
    if (auto good = fields->error(); !good) co_return fail(good.error());
    auto made = co_await accounts_.create_key(std::move(wanted), &caller);
    if (!made) co_return fail(made.error());
    auto response = http::json_response(200, json::object{{"id", made->key.id.text()},
                                                          {"name", made->key.name},
                                                          {"key", made->text.reveal()},
                                                          {"created_at", to_iso8601(made->key.created_at)}});
    co_return shown(std::move(response), 200);
}

Answer KeyApi::remove_credits(http::Exchange& exchange, Caller caller) {
    auto found = co_await locate(caller, std::string(exchange.path_param("id")), Permission::keys_write);
    if (!found) co_return fail(found.error());
    auto revoked = co_await accounts_.revoke_key(found->key.account, found->key.id, &found->acting);
    if (!revoked) co_return fail(revoked.error());
    co_return http::json_response(200, json::object{{"id", revoked->id.text()}, {"deleted", true}});
}

void KeyApi::register_routes(http::Router& router, Guard& guard) {
    Routes routes(router, guard, *this);
    const Access reads = Access::account(Permission::keys_read);
    const Access writes = Access::account(Permission::keys_write);
    struct Base {
        const char* path;
        KeyStyle style;
    };
    for (Base base :
         {Base{"/api/v1/keys", KeyStyle::openrouter}, Base{"/api/v1/api-keys", KeyStyle::platform},
          Base{"/api/v1/api_keys", KeyStyle::platform}, Base{"/console/api/keys", KeyStyle::console}}) {
        std::string one = std::string(base.path) + "/{id}";
        routes.add(Method::get, base.path, reads, &KeyApi::list, http::platform_error, base.style);
        routes.add(Method::post, base.path, writes, &KeyApi::create, http::platform_error, base.style);
        routes.add(Method::get, one, reads, &KeyApi::get, http::platform_error, base.style);
        routes.add(Method::put, one, writes, &KeyApi::change, http::platform_error, base.style);
        routes.add(Method::patch, one, writes, &KeyApi::change, http::platform_error, base.style);
        routes.add(Method::del, one, writes, &KeyApi::remove, http::platform_error, base.style);
    }
    const Access any = Access::caller();  // whatever a key may do, it may know itself
    for (const char* path : {"/api/v1/key", "/api/v1/auth/key"})
        routes.add(Method::get, path, any, &KeyApi::own, http::openrouter_error);
    routes.add(Method::get, "/api/keys", reads, &KeyApi::list_credits, http::credits_error);
    routes.add(Method::post, "/api/keys", writes, &KeyApi::create_credits, http::credits_error);
    routes.add(Method::del, "/api/keys/{id}", writes, &KeyApi::remove_credits, http::credits_error);
}

}  // namespace nebula::accounts
