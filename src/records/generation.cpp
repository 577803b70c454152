// What OpenRouter's clients ask about a request after the fact, and the console's list.
#include <algorithm>
#include <array>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/nanos.hpp"
#include "base/text.hpp"
#include "http/dialects.hpp"
#include "http/json_api.hpp"
#include "records/deflate.hpp"
#include "records/log_impl.hpp"

namespace nebula::records {
namespace {

namespace json = boost::json;

constexpr std::size_t inflated_bytes_max = 64 * 1024 * 1024;
constexpr std::size_t comment_characters_max = 1'000;
constexpr std::array<std::string_view, 7> categories = {
    "latency", "incoherence", "incorrect_response", "formatting", "billing", "api_error", "other"};

Error no_generation(std::string_view id) {
    return {.code = Code::not_found,
            .message =
                "there is no generation '" + std::string(id.substr(0, 100)) + "', or it is not written yet",
            .param = "id"};
}

// JSON of a member; "null" when absent.
std::string raw(const json::object& entry, std::string_view name) {
    const json::value* value = entry.if_contains(name);
    return value == nullptr ? "null" : json::serialize(*value);
}

std::int64_t number(const json::object& entry, std::string_view name) {
    const json::value* value = entry.if_contains(name);
    return value != nullptr && value->is_int64() ? value->get_int64() : 0;
}

std::string_view text(const json::object& entry, std::string_view name) {
    const json::value* value = entry.if_contains(name);
    return value != nullptr && value->is_string() ? std::string_view(value->get_string())
                                                  : std::string_view();
}

// Milliseconds with up to three decimals; 0: null.
std::string milliseconds(std::int64_t us) {
    if (us <= 0) return "null";
    std::string whole = std::to_string(us / 1'000);
    std::string fraction = std::to_string(us % 1'000);
    return whole + "." + std::string(3 - fraction.size(), '0') + fraction;
}

std::string credits(std::int64_t nanos) { return Nanos{nanos}.short_text(); }

std::string attempts_of(const json::object& entry) {
    const json::value* list = entry.if_contains("attempts");
    std::string out = "[";
    if (list == nullptr || !list->is_array()) return "[]";
    for (const json::value& item : list->get_array()) {
        const json::object* attempt = item.if_object();
        if (attempt == nullptr) continue;
        if (out.size() > 1) out += ',';
        std::int64_t status = number(*attempt, "status");
        out += R"({"status":)" + (status == 0 ? "null" : std::to_string(status)) + R"(,"provider_name":)" +
               raw(*attempt, "provider") + R"(,"latency":)" + milliseconds(number(*attempt, "latency_us")) +
               R"(,"is_byok":)" + (raw(*attempt, "byok") == "true" ? "true" : "false") +
               R"(,"model_permaslug":)" + raw(entry, "model") + "}";
    }
    return out + "]";
}

// What kind of API it was, in the words of that list; chat in all its forms counts as completions.
std::string api_type(std::string_view endpoint) {
    if (endpoint == "embeddings" || endpoint == "rerank") return json_string(endpoint);
    if (endpoint == "chat" || endpoint == "completions") return R"("completions")";
    if (endpoint.starts_with("image")) return R"("image")";
    if (endpoint == "speech") return R"("tts")";
    if (endpoint == "transcriptions" || endpoint == "translations") return R"("stt")";
    return "null";
}

std::string generation_of(const json::object& entry) {
    std::string cost = credits(number(entry, "charge"));
    std::int64_t first = number(entry, "first_token_us"), whole = number(entry, "latency_us");
    std::string out = R"({"data":{"id":)" + raw(entry, "id") + R"(,"request_id":)" + raw(entry, "id");
    auto add = [&out](std::string_view name, std::string_view value) {
        out.append(",\"").append(name).append("\":").append(value);
    };
    add("upstream_id", raw(entry, "upstream_id"));
    add("model", raw(entry, "model"));
    add("provider_name", raw(entry, "provider"));
    add("created_at", json_string(to_iso8601(from_micros(number(entry, "at")))));
    add("api_type", api_type(text(entry, "endpoint")));
    add("streamed", raw(entry, "streamed"));
    add("cancelled", text(entry, "outcome") == "client_left" ? "true" : "false");
    add("finish_reason", raw(entry, "finish"));
    add("native_finish_reason", raw(entry, "finish"));
    for (const char* counted : {"tokens_prompt", "native_tokens_prompt"}) add(counted, raw(entry, "input"));
    for (const char* counted : {"tokens_completion", "native_tokens_completion"})
        add(counted, raw(entry, "output"));
    add("native_tokens_reasoning", raw(entry, "reasoning"));
    add("native_tokens_cached", raw(entry, "cached"));
    add("usage", cost);
    add("total_cost", cost);
    add("is_byok", raw(entry, "byok") == "true" ? "true" : "false");
    add("upstream_inference_cost",
        entry.contains("upstream_cost") ? credits(number(entry, "upstream_cost")) : "null");
    add("latency", milliseconds(first > 0 ? first : whole));
    add("generation_time", milliseconds(whole));
    std::string_view referer = text(entry, "referer");
    add("origin", json_string(referer));
    add("http_referer", raw(entry, "referer"));
    add("user_agent", raw(entry, "user_agent"));
    add("data_region", R"("global")");
    add("provider_responses", attempts_of(entry));
    for (const char* unknown :
         {"app_id", "native_tokens_completion_images", "num_media_prompt", "num_media_completion",
          "num_input_audio_prompt", "num_search_results", "num_fetches", "cache_discount",
          "moderation_latency", "external_user", "router", "preset_id", "service_tier", "workspace_id",
          "web_search_engine", "session_id"})
        add(unknown, "null");
    return out + "}}";
}

// What one answer or chunk adds to the text.
void collect(const json::value& value, std::string& completion, std::string& reasoning) {
    const json::object* answer = value.if_object();
    const json::value* list = answer != nullptr ? answer->if_contains("choices") : nullptr;
    const json::array* choices = list != nullptr ? list->if_array() : nullptr;
    const json::object* choice =
        choices != nullptr && !choices->empty() ? choices->front().if_object() : nullptr;
    if (choice == nullptr) return;
    completion += text(*choice, "text");
    for (const char* name : {"message", "delta"}) {
        const json::value* part = choice->if_contains(name);
        if (part == nullptr || !part->is_object()) continue;
        completion += text(part->get_object(), "content");
        std::string_view thought = text(part->get_object(), "reasoning_content");
        reasoning += thought.empty() ? text(part->get_object(), "reasoning") : thought;
    }
}

json::object content_of(const json::object& body, const json::object& entry) {
    json::object input{{"messages", json::array()}};
    const json::value* request = body.if_contains("input");
    if (request != nullptr && request->is_object()) {
        const json::object& asked = request->get_object();
        if (const json::value* messages = asked.if_contains("messages"); messages && messages->is_array())
            input = {{"messages", *messages}};
        else if (const json::value* prompt = asked.if_contains("prompt"))
            input = {{"prompt", prompt->is_string() ? *prompt : json::value(json::serialize(*prompt))}};
        else if (const json::value* given = asked.if_contains("input"))
            input = {{"prompt", given->is_string() ? *given : json::value(json::serialize(*given))}};
    }
    std::string completion, reasoning;
    const json::value* output = body.if_contains("output");
    if (output != nullptr && output->is_array()) {
        for (const json::value& chunk : output->get_array()) collect(chunk, completion, reasoning);
    } else if (output != nullptr) {
        collect(*output, completion, reasoning);
    }
    json::object told{{"completion", completion}, {"reasoning", nullptr}};
    if (!reasoning.empty()) told["reasoning"] = reasoning;
    json::value error = nullptr;
    if (std::string_view word = text(entry, "error"); !word.empty())
        error = json::object{{"message", word},
                             {"status", number(entry, "status")},
                             {"provider_name", entry.contains("provider") ? entry.at("provider") : nullptr},
                             {"raw", nullptr},
                             {"previous_errors", json::array()}};
    return {
        {"data", json::object{{"input", std::move(input)}, {"output", std::move(told)}, {"error", error}}}};
}

// The entry that the query's id names.
Async<Result<json::object>> entry_of(RequestLog& log, AccountId account, std::string id) {
    if (id.empty() || id.size() > 200) co_return fail(no_generation(id));
    auto found = co_await log.find(account, id);
    if (!found) co_return fail(std::move(found.error()));
    if (!*found) co_return fail(no_generation(id));
    boost::system::error_code failed;
    json::value value = json::parse(**found, failed);
    if (failed || !value.is_object()) co_return fail(Code::internal, "the entry cannot be read");
    co_return std::move(value.get_object());
}

std::string asked_id(const http::Exchange& exchange) {
    return std::string(http::query(exchange.head()).get("id").value_or(std::string_view()));
}

}  // namespace

Async<void> RequestLog::Impl::generation(RequestLog& log, http::Exchange& exchange, accounts::Caller caller) {
    auto entry = co_await entry_of(log, caller.account, asked_id(exchange));
    if (!entry) {
        co_await exchange.respond_error(std::move(entry.error()));
        co_return;
    }
    std::string body = generation_of(*entry);
    co_await exchange.respond(200, "application/json", body);
}

Async<void> RequestLog::Impl::content(RequestLog& log, http::Exchange& exchange, accounts::Caller caller) {
    std::string id = asked_id(exchange);
    auto entry = co_await entry_of(log, caller.account, id);
    if (!entry) {
        co_await exchange.respond_error(std::move(entry.error()));
        co_return;
    }
    auto request = RequestId::parse(text(*entry, "id"));
    AccountId account = caller.account;
    auto work = [account, request](store::Tx& tx) -> Result<std::optional<std::string>> {
        auto body = request ? read_body(tx, account, *request) : std::nullopt;
        if (!body) return std::optional<std::string>();
        return inflated(*body, inflated_bytes_max);
    };
    auto body = co_await db.read(std::move(work));
    if (!body) {
        co_await exchange.respond_error(std::move(body.error()));
        co_return;
    }
    if (!*body) {
        Error none{.code = Code::not_found,
                   .message = settings.bodies ? "the content of this generation was not kept"
                                              : "this server does not keep prompts and answers",
                   .param = "id"};
        co_await exchange.respond_error(std::move(none));
        co_return;
    }
    json::value kept = json::parse(**body);
    co_await exchange.respond(http::json_response(200, content_of(kept.as_object(), *entry)));
}

Async<void> RequestLog::Impl::feedback(RequestLog& log, http::Exchange& exchange, accounts::Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) {
        co_await exchange.respond_error(std::move(fields.error()));
        co_return;
    }
    std::string id = fields->text("generation_id");
    std::string category = fields->text("category");
    std::string comment = fields->text_or("comment", "");
    if (fields->error() && std::ranges::find(categories, category) == categories.end())
        fields->refuse(
            "category",
            "must be latency, incoherence, incorrect_response, formatting, billing, api_error or other");
    auto characters = std::ranges::count_if(comment, [](char c) { return (c & 0xC0) != 0x80; });
    if (static_cast<std::size_t>(characters) > comment_characters_max)
        fields->refuse("comment", "must have at most 1000 characters");
    if (auto wrong = fields->error(); !wrong) {
        co_await exchange.respond_error(std::move(wrong.error()));
        co_return;
    }
    auto entry = co_await entry_of(log, caller.account, id);
    if (!entry) {
        co_await exchange.respond_error(std::move(entry.error()));
        co_return;
    }
    auto request = RequestId::parse(text(*entry, "id"));
    AccountId account = caller.account;
    Time now = clock.now();
    auto work = [=](store::Tx& tx) -> Result<bool> {
        if (request) put_feedback(tx, account, *request, category, comment, now);
        return request.has_value();
    };
    auto done = co_await db.in_tx(std::move(work));
    if (!done) {
        co_await exchange.respond_error(std::move(done.error()));
        co_return;
    }
    co_await exchange.respond(200, "application/json", R"({"data":{"success":true}})");
}

Async<void> RequestLog::Impl::requests(RequestLog& log, http::Exchange& exchange, accounts::Caller caller) {
    http::Params params = http::query(exchange.head());
    auto text_or_empty = [&params](const char* name) { return std::string(params.get(name).value_or("")); };
    auto limit = params.integer("limit", 50, 1, 200);
    if (!limit) {
        co_await exchange.respond_error(std::move(limit.error()));
        co_return;
    }
    Filter filter{text_or_empty("model"), text_or_empty("key"), text_or_empty("status")};
    auto page = co_await log.list(caller.account, std::move(filter), text_or_empty("cursor"), *limit);
    if (!page) {
        co_await exchange.respond_error(std::move(page.error()));
        co_return;
    }
    json::array entries;
    for (const std::string& entry : page->entries) {
        json::value value = json::parse(entry);
        json::object& one = value.as_object();
        one["charge"] = Nanos{number(one, "charge")}.text();
        one["started_at"] = to_iso8601(from_micros(number(one, "at")));
        one.erase("at");
        entries.push_back(std::move(value));
    }
    json::object data{{"requests", std::move(entries)}, {"next", nullptr}};
    if (!page->next.empty()) data["next"] = page->next;
    co_await exchange.respond(http::platform_success(std::move(data), "requests"));
}

void RequestLog::register_routes(http::Router& router, accounts::Guard& guard) {
    using Answer = Async<void> (Impl::*)(RequestLog&, http::Exchange&, accounts::Caller);
    auto add = [&](http::Method method, std::string_view path, http::Dialect dialect, Answer answer) {
        guard.add(router, method, path, dialect,
                  accounts::Access::account(accounts::Permission::inference_read),
                  [this, answer](http::Exchange& exchange, accounts::Caller caller) {
                      return (impl_.get()->*answer)(*this, exchange, std::move(caller));
                  });
    };
    add(http::Method::get, "/api/v1/generation", http::openrouter_error, &Impl::generation);
    add(http::Method::get, "/api/v1/generation/content", http::openrouter_error, &Impl::content);
    add(http::Method::post, "/api/v1/generation/feedback", http::openrouter_error, &Impl::feedback);
    add(http::Method::get, "/console/api/requests", http::platform_error, &Impl::requests);
}

}  // namespace nebula::records
