#include "catalog/keys/provider_key_api.hpp"

#include <algorithm>

#include "catalog/keys/provider_key_rows.hpp"
#include "http/dialects.hpp"

namespace nebula::catalog {
namespace {

namespace json = boost::json;
using accounts::Access;
using accounts::Caller;
using accounts::Permission;
using http::Exchange;
using http::Fields;
using http::Method;

constexpr std::size_t key_bytes_max = 4096, name_bytes_max = 200, models_max = 100;

json::value list_or_null(const std::vector<std::string>& texts) {
    if (texts.empty()) return nullptr;
    return json::array(texts.begin(), texts.end());
}

json::object object_of(const ProviderKey& key) {
    return {{"id", key.id.text()},
            {"provider", key.provider},
            {"workspace_id", key.account.text()},
            {"label", key.label},
            {"name", key.name},
            {"disabled", key.is_disabled},
            {"is_fallback", key.is_fallback},
            {"allowed_models", list_or_null(key.models)},
            {"allowed_api_key_hashes", nullptr},
            {"allowed_user_ids", nullptr},
            {"sort_order", key.sort_order},
            {"created_at", to_iso8601(key.created_at)},
            {"always_use", key.always_use}};
}

// What may be changed later; what is not there stays as it is. What others offer and we do not is refused
// rather than ignored: a key must not be used more widely than its owner believes.
void read_changeable(Fields& fields, ProviderKey& key) {
    key.name = fields.text_or("name", key.name);
    if (key.name.size() > name_bytes_max) fields.refuse("name", "must have at most 200 bytes");
    key.is_disabled = fields.flag_or("disabled", key.is_disabled);
    key.sort_order = fields.integer_or("sort_order", key.sort_order, 0, 1'000'000);
    if (fields.object().contains("allowed_models")) key.models = fields.texts_or_none("allowed_models");
    if (key.models.size() > models_max || std::ranges::any_of(key.models, [](const std::string& model) {
            return model.empty() || model.size() > name_bytes_max;
        }))
        fields.refuse("allowed_models", "must be at most 100 ids of models");
    key.is_fallback = fields.flag_or("is_fallback", key.is_fallback);
    key.always_use = fields.flag_or("always_use", key.always_use);
    if (key.is_fallback && key.always_use)
        fields.refuse("always_use", "cannot be true of a fallback: that is used where ours did not do");
    for (const char* name : {"allowed_api_key_hashes", "allowed_user_ids"})
        if (!fields.texts_or_none(name).empty()) fields.refuse(name, "is not supported");
}

}  // namespace

bool ProviderKeyApi::is_provider(std::string_view name) const {
    return std::ranges::any_of(keys_.catalog().current()->providers, [&](const auto& provider) {
        return provider->name == name && !provider->is_runtime();
    });
}

Async<void> ProviderKeyApi::serve(Exchange& exchange, Caller caller, Operation operation) {
    auto answer = co_await (this->*operation)(exchange, std::move(caller));
    if (answer)
        co_await exchange.respond(std::move(*answer));
    else
        co_await exchange.respond_error(std::move(answer.error()));
}

void ProviderKeyApi::register_routes(http::Router& router, accounts::Guard& guard) {
    const Access reads = Access::account(Permission::keys_read),
                 writes = Access::account(Permission::keys_write);
    auto add = [&](Method method, const std::string& pattern, http::Dialect dialect, Access access,
                   Operation operation) {
        guard.add(router, method, pattern, dialect, access,
                  [this, operation](Exchange& exchange, Caller caller) {
                      return serve(exchange, std::move(caller), operation);
                  });
    };
    struct Base {
        const char* path;
        http::Dialect dialect;
    };
    for (auto [base, dialect] : {Base{"/api/v1/byok", http::openrouter_error},
                                 Base{"/console/api/provider-keys", http::platform_error}}) {
        std::string all(base), one = all + "/{id}";
        add(Method::get, all, dialect, reads, &ProviderKeyApi::list);
        add(Method::post, all, dialect, writes, &ProviderKeyApi::create);
        add(Method::get, one, dialect, reads, &ProviderKeyApi::show);
        add(Method::patch, one, dialect, writes, &ProviderKeyApi::change);
        add(Method::del, one, dialect, writes, &ProviderKeyApi::remove);
    }
}

Async<Result<ProviderKey>> ProviderKeyApi::named(Exchange& exchange, AccountId account) {
    auto id = ProviderKeyId::parse(exchange.path_param("id"));
    if (!id) co_return no_provider_key();
    auto keys = co_await keys_.list(account);
    if (!keys) co_return fail(std::move(keys.error()));
    auto found = std::ranges::find(*keys, *id, &ProviderKey::id);
    if (found == keys->end()) co_return no_provider_key();
    co_return std::move(*found);
}

ProviderKeyApi::Answer ProviderKeyApi::list(Exchange& exchange, Caller caller) {
    auto keys = co_await keys_.list(caller.account);
    if (!keys) co_return fail(std::move(keys.error()));
    std::string provider(http::query(exchange.head()).get("provider").value_or(""));
    json::array data;
    for (const ProviderKey& key : *keys)
        if (provider.empty() || key.provider == provider) data.push_back(object_of(key));
    auto total = static_cast<std::int64_t>(data.size());
    co_return http::json_response(200, json::object{{"data", std::move(data)}, {"total_count", total}});
}

ProviderKeyApi::Answer ProviderKeyApi::create(Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(std::move(fields.error()));
    ProviderKey wanted;
    wanted.provider = fields->text("provider");
    Secret key(fields->text("key"));
    read_changeable(*fields, wanted);
    const std::string& text = key.reveal();
    // It becomes part of a header line.
    bool is_key = !text.empty() && text.size() <= key_bytes_max &&
                  std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7F; });
    if (fields->error() && !is_key) fields->refuse("key", "must be the text of an API key");
    if (fields->error() && !is_provider(wanted.provider))
        fields->refuse("provider", "is not a provider of this service");
    if (auto ok = fields->error(); !ok) co_return fail(ok.error());
    auto made = co_await keys_.add(std::move(caller), std::move(wanted), std::move(key));
    if (!made) co_return fail(std::move(made.error()));
    co_return http::json_response(201, json::object{{"data", object_of(*made)}});
}

ProviderKeyApi::Answer ProviderKeyApi::show(Exchange& exchange, Caller caller) {
    auto key = co_await named(exchange, caller.account);
    if (!key) co_return fail(std::move(key.error()));
    co_return http::json_response(200, json::object{{"data", object_of(*key)}});
}

ProviderKeyApi::Answer ProviderKeyApi::change(Exchange& exchange, Caller caller) {
    auto key = co_await named(exchange, caller.account);
    if (!key) co_return fail(std::move(key.error()));
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(std::move(fields.error()));
    for (const char* name : {"key", "provider"})
        if (fields->has(name)) fields->refuse(name, "cannot be changed: delete this one and add another");
    read_changeable(*fields, *key);
    if (auto ok = fields->error(); !ok) co_return fail(ok.error());
    auto done = co_await keys_.change(std::move(caller), *key);
    if (!done) co_return fail(std::move(done.error()));
    co_return http::json_response(200, json::object{{"data", object_of(*key)}});
}

ProviderKeyApi::Answer ProviderKeyApi::remove(Exchange& exchange, Caller caller) {
    auto id = ProviderKeyId::parse(exchange.path_param("id"));
    if (!id) co_return no_provider_key();
    auto done = co_await keys_.remove(std::move(caller), *id);
    if (!done) co_return fail(std::move(done.error()));
    co_return http::json_response(200, json::object{{"deleted", true}});
}

}  // namespace nebula::catalog
