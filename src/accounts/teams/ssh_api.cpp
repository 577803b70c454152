#include "accounts/teams/ssh_api.hpp"

#include "accounts/store.hpp"
#include "accounts/teams/ssh_text.hpp"
#include "accounts/teams/team_store.hpp"
#include "accounts/validate.hpp"
#include "base/text.hpp"

namespace nebula::accounts {

using http::Method;
using store::Tx;

namespace {

constexpr std::int64_t keys_max = 1'000;

std::unexpected<Error> no_key() { return fail(Code::not_found, "there is no such SSH key", "id"); }

void record(Tx& tx, const Clock& clock, const Caller& caller, const char* action, const sql::SshKey& key) {
    AuditEntry entry{caller.account, action, "SSH Key", std::to_string(key.id), key.name, {}};
    write_audit(tx, clock, caller, entry);
}

/// `create_time` is UNIX seconds as text where one key is answered, and Eastern time in the list.
json::object ssh_object(const sql::SshKey& key, std::string create_time) {
    return {{"id", key.id},
            {"key_name", key.name},
            {"key_data", key.public_key},
            {"create_time", std::move(create_time)},
            {"fingerprint", key.fingerprint}};
}

json::object one_object(const sql::SshKey& key) {
    return ssh_object(key, std::to_string(unix_seconds(key.created_at)));
}

std::string key_name(http::Fields& fields) {
    return fields.has("key_name") ? fields.text("key_name") : fields.text("name");
}

std::optional<std::int64_t> id_of(const http::Exchange& exchange) {
    return parse_int<std::int64_t>(exchange.path_param("id"));
}

}  // namespace

Answer SshApi::list(http::Exchange& exchange, Caller caller) {
    http::Params params = http::query(exchange.head());
    auto limit = params.integer("limit", 100, 0, 1'000);
    auto offset = params.integer("offset", 0, 0, 1'000'000);
    if (!limit || !offset) co_return fail(limit ? offset.error() : limit.error());
    struct Page {
        std::vector<sql::SshKey> keys;
        std::int64_t total = 0;
    };
    auto read = [account = caller.account, limit = *limit, offset = *offset](Tx& tx) -> Result<Page> {
        return Page{sql::ssh_keys(tx, account, limit, offset), sql::count_ssh_keys(tx, account)};
    };
    auto page = co_await db_.read(std::move(read));
    if (!page) co_return fail(page.error());
    json::array keys;
    for (const sql::SshKey& key : page->keys)
        keys.emplace_back(ssh_object(key, http::eastern_text(key.created_at)));
    json::object data{{"total_ssh_keys", page->total}, {"ssh_keys", std::move(keys)}};
    co_return http::platform_success(std::move(data), "SSH keys retrieved successfully");
}

Answer SshApi::create(http::Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(fields.error());
    sql::SshKey key;
    key.account = caller.account;
    key.user = caller.user;
    key.name = key_name(*fields);
    std::string text = fields->has("key_data") ? fields->text("key_data") : fields->text_or("public_key", "");
    if (auto good = fields->error(); !good) co_return fail(good.error());
    auto name = check_name(key.name, "key_name");
    if (!name) co_return fail(name.error());
    auto parsed = parse_ssh_key(text, "key_data");
    if (!parsed) co_return fail(parsed.error());
    key.public_key = std::move(parsed->line);
    key.fingerprint = std::move(parsed->fingerprint);
    key.created_at = clock_.now();
    auto insert = [this, caller, key](Tx& tx) mutable -> Result<sql::SshKey> {
        if (sql::count_ssh_keys(tx, caller.account) >= keys_max)
            return fail(Code::conflict, "there are 1000 SSH keys already", "key_name");
        try {
            key.id = sql::insert_ssh_key(tx, key);
        } catch (const store::UniqueViolation&) {
            return fail(Code::invalid_request,
                        "You already have an SSH key with the same public key content.", "key_data");
        }
        record(tx, clock_, caller, "Create", key);
        return key;
    };
    auto made = co_await db_.in_tx(std::move(insert));
    if (!made) co_return fail(made.error());
    co_return http::platform_success(one_object(*made), "SSH key created successfully");
}

Answer SshApi::rename(http::Exchange& exchange, Caller caller) {
    auto id = id_of(exchange);
    if (!id) co_return no_key();
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(fields.error());
    std::string wanted = key_name(*fields);
    if (auto good = fields->error(); !good) co_return fail(good.error());
    auto name = check_name(wanted, "key_name");
    if (!name) co_return fail(name.error());
    auto update = [this, caller, id = *id, wanted](Tx& tx) -> Result<sql::SshKey> {
        auto key = sql::ssh_key(tx, caller.account, id);
        if (!key) return no_key();
        key->name = wanted;
        sql::rename_ssh_key(tx, caller.account, id, wanted);
        record(tx, clock_, caller, "Update", *key);
        return std::move(*key);
    };
    auto changed = co_await db_.in_tx(std::move(update));
    if (!changed) co_return fail(changed.error());
    co_return http::platform_success(one_object(*changed), "SSH key updated successfully");
}

Answer SshApi::remove(http::Exchange& exchange, Caller caller) {
    auto id = id_of(exchange);
    if (!id) co_return no_key();
    auto drop = [this, caller, id = *id](Tx& tx) -> Result<bool> {
        auto key = sql::ssh_key(tx, caller.account, id);
        if (!key) return no_key();
        sql::delete_ssh_key(tx, caller.account, id);
        record(tx, clock_, caller, "Delete", *key);
        return true;
    };
    auto dropped = co_await db_.in_tx(std::move(drop));
    if (!dropped) co_return fail(dropped.error());
    co_return http::platform_success(json::object(), "SSH key deleted successfully");
}

void SshApi::register_routes(http::Router& router, Guard& guard) {
    Routes routes(router, guard, *this);
    const Access reads = Access::account(Permission::keys_read);
    const Access writes = Access::account(Permission::keys_write);
    for (std::string base : {"/api/v1/ssh-keys", "/console/api/ssh-keys"}) {
        routes.add(Method::get, base, reads, &SshApi::list);
        routes.add(Method::post, base, writes, &SshApi::create);
        routes.add(Method::put, base + "/{id}", writes, &SshApi::rename);
        routes.add(Method::patch, base + "/{id}", writes, &SshApi::rename);
        routes.add(Method::del, base + "/{id}", writes, &SshApi::remove);
    }
}

}  // namespace nebula::accounts
