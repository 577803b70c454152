#include "gateway/responses/stored_api.hpp"

#include <algorithm>
#include <boost/json/serialize.hpp>

#include "gateway/responses/memory.hpp"
#include "gateway/responses/responses.hpp"
#include "gateway/token_count.hpp"
#include "http/json_api.hpp"

namespace nebula::gateway::responses {
namespace {

namespace json = boost::json;

std::string_view id_text(const json::value& item) {
    const json::object* object = item.if_object();
    const json::value* id = object != nullptr ? object->if_contains("id") : nullptr;
    return id != nullptr && id->is_string() ? std::string_view(id->get_string()) : std::string_view();
}

}  // namespace

void StoredApi::register_routes(http::Router& router, std::string_view base, http::Dialect dialect) {
    auto add = [&](http::Method method, const char* path, Answer answer) {
        router.add(
            method, std::string(base) + path, dialect,
            [this, answer](http::Exchange& exchange) { return serve(exchange, answer); },
            accounts::Access::key().name());
    };
    add(http::Method::post, "/responses/input_tokens", &StoredApi::input_tokens);
    add(http::Method::get, "/responses/{id}", &StoredApi::get);
    add(http::Method::del, "/responses/{id}", &StoredApi::remove);
    add(http::Method::get, "/responses/{id}/input_items", &StoredApi::input_items);
    add(http::Method::post, "/responses/{id}/cancel", &StoredApi::cancel);
}

Async<void> StoredApi::serve(http::Exchange& exchange, Answer answer) {
    auto key = co_await chat_.authenticate(exchange);
    if (!key) {
        co_await exchange.respond_error(std::move(key.error()));
        co_return;
    }
    bool may_call =
        !*key || accounts::Permissions((*key)->permissions).has(accounts::Permission::inference_write);
    Result<std::string> body =
        fail(Code::forbidden, "this API key may not call models: it lacks inference:write");
    if (may_call) body = co_await (this->*answer)(exchange, std::move(*key));
    if (!body) {
        co_await exchange.respond_error(std::move(body.error()));
        co_return;
    }
    co_await exchange.respond(200, "application/json", *body);
}

Result<RequestId> StoredApi::id_of(const http::Exchange& exchange, const Key& key) const {
    std::string_view text = exchange.path_param("id");
    auto id = parse_response_id(text);
    if (!id || !key || store_ == nullptr || !store_->is_on()) return fail(no_response(text));
    return *id;
}

Async<Result<std::string>> StoredApi::get(http::Exchange& exchange, Key key) {
    if (http::query(exchange.head()).get("stream") == std::string_view("true"))
        co_return fail(Code::invalid_request, "stream: a stored response is answered whole here", "stream");
    auto id = id_of(exchange, key);
    if (!id) co_return fail(std::move(id.error()));
    auto found = co_await store_->find(key->account, *id);
    if (!found)
        co_return fail(found.error().code == Code::not_found ? no_response(response_id(*id))
                                                             : std::move(found.error()));
    co_return std::move(found->response);
}

Async<Result<std::string>> StoredApi::remove(http::Exchange& exchange, Key key) {
    auto id = id_of(exchange, key);
    if (!id) co_return fail(std::move(id.error()));
    auto removed = co_await store_->remove(key->account, *id);
    if (!removed)
        co_return fail(removed.error().code == Code::not_found ? no_response(response_id(*id))
                                                               : std::move(removed.error()));
    co_return R"({"id":")" + response_id(*id) + R"(","object":"response","deleted":true})";
}

Async<Result<std::string>> StoredApi::input_items(http::Exchange& exchange, Key key) {
    auto id = id_of(exchange, key);
    if (!id) co_return fail(std::move(id.error()));
    http::Params params = http::query(exchange.head());
    auto limit = params.integer("limit", 20, 1, 100);
    if (!limit) co_return fail(std::move(limit.error()));
    std::string order(params.get("order").value_or("desc"));
    if (order != "asc" && order != "desc")
        co_return fail(Code::invalid_request, "order: must be asc or desc", "order");
    auto chain = co_await store_->conversation(key->account, *id);
    if (!chain)
        co_return fail(chain.error().code == Code::not_found ? no_response(response_id(*id))
                                                             : std::move(chain.error()));
    json::array items = items_before(*chain);
    if (order == "desc") std::reverse(items.begin(), items.end());
    auto from = items.begin();
    if (auto after = params.get("after"); after && !after->empty()) {
        from = std::find_if(items.begin(), items.end(),
                            [&](const json::value& one) { return id_text(one) == *after; });
        if (from == items.end())
            co_return fail(Code::invalid_request, "after: there is no such item in this response", "after");
        ++from;
    }
    auto until = from + std::min<std::ptrdiff_t>(*limit, items.end() - from);
    json::array page(from, until);
    json::object body{{"object", "list"}, {"first_id", nullptr}, {"last_id", nullptr}};
    if (!page.empty()) {
        body["first_id"] = id_text(page.front());
        body["last_id"] = id_text(page.back());
    }
    body["has_more"] = until != items.end();
    body["data"] = std::move(page);
    co_return json::serialize(body);
}

// Nothing runs in the background here, so there is nothing that could be cancelled.
Async<Result<std::string>> StoredApi::cancel(http::Exchange& exchange, Key key) {
    auto id = id_of(exchange, key);
    if (!id) co_return fail(std::move(id.error()));
    auto found = co_await store_->find(key->account, *id);
    if (!found)
        co_return fail(found.error().code == Code::not_found ? no_response(response_id(*id))
                                                             : std::move(found.error()));
    co_return fail(Code::invalid_request, "Cannot cancel a synchronous response.");
}

Async<Result<std::string>> StoredApi::input_tokens(http::Exchange& exchange, Key key) {
    auto body = co_await exchange.body(std::numeric_limits<std::size_t>::max());
    if (!body) co_return fail(std::move(body.error()));
    auto edge = make_edge(exchange.id(), services_.clock, store_);
    if (key && edge->is_stateful()) {
        auto ready = co_await edge->prepare(*body, key->account);
        if (!ready) co_return fail(std::move(ready.error()));
    }
    auto chat = edge->request(*body);
    if (!chat) co_return fail(std::move(chat.error()));
    TokenCount count = co_await count_prompt(services_, chat_.counting(), key.get(), std::move(*chat));
    exchange.add_header("x-nebula-tokenizer", count.method);
    co_return R"({"object":"response.input_tokens","input_tokens":)" + std::to_string(count.tokens) + "}";
}

}  // namespace nebula::gateway::responses
