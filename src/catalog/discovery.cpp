#include "catalog/discovery.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <set>

namespace nebula::catalog {
namespace {

namespace json = boost::json;

constexpr std::size_t bytes_max = 16 * 1024 * 1024;
constexpr std::size_t models_max = 10'000;
constexpr int pages_max = 20;
constexpr std::int64_t tokens_max = 1'000'000'000;
constexpr const char* anthropic_version_default = "2023-06-01";

struct Call {
    std::string path;
    std::string headers;
};

Result<Call> call_of(const Provider& provider) {
    Call call;
    const std::string& key = provider.api_key.reveal();
    std::string bearer = key.empty() ? std::string() : "authorization: Bearer " + key + "\r\n";
    switch (provider.kind) {
        case ProviderKind::openai:
            return Call{provider.path + "/models", bearer};
        case ProviderKind::ollama:
            return Call{provider.path + "/api/tags", bearer};
        case ProviderKind::anthropic: {
            call.path = provider.path + (provider.path.ends_with("/v1") ? "" : "/v1") + "/models?limit=1000";
            if (!key.empty()) call.headers = "x-api-key: " + key + "\r\n";
            std::string version =
                provider.api_version.empty() ? anthropic_version_default : provider.api_version;
            call.headers += "anthropic-version: " + version + "\r\n";
            return call;
        }
        case ProviderKind::gemini:
            call.path = (provider.path.empty() ? "/v1beta" : provider.path) + "/models?pageSize=1000";
            if (!key.empty()) call.headers = "x-goog-api-key: " + key + "\r\n";
            return call;
        case ProviderKind::azure:
            return fail(
                Code::invalid_request,
                "Azure does not list its deployments at this address; write their [[model]] sections by hand",
                "provider");
        case ProviderKind::runtime:
            return fail(Code::invalid_request, "model files are found by themselves", "provider");
    }
    return call;
}

std::string text_in(const json::object& object, const char* name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

// The first of these members that is a sensible count.
std::int64_t count_in(const json::object& object, std::initializer_list<const char*> names) {
    for (const char* name : names) {
        const json::value* value = object.if_contains(name);
        if (value != nullptr && value->is_int64() && value->get_int64() > 0)
            return std::min(value->get_int64(), tokens_max);
    }
    return 0;
}

// Lists seldom say what a model is for; names of these two kinds do.
std::string endpoint_of(const std::string& id, const json::object& object) {
    auto has = [&](std::string_view part) { return id.find(part) != std::string::npos; };
    if (has("rerank")) return "rerank";
    if (has("embed") || has("bge-") || text_in(object, "model_type") == "embedding") return "embeddings";
    return "chat";
}

FoundModel model_of(ProviderKind kind, const json::object& object) {
    FoundModel model;
    model.id = text_in(object, kind == ProviderKind::ollama || kind == ProviderKind::gemini ? "name" : "id");
    constexpr std::string_view folder = "models/";  // Gemini's
    if (kind == ProviderKind::gemini && model.id.starts_with(folder)) model.id.erase(0, folder.size());
    model.context_length =
        count_in(object, {"max_model_len", "context_length", "context_size", "context_window",
                          "max_context_length", "max_input_tokens", "inputTokenLimit"});
    if (const json::value* meta = object.if_contains("meta"); meta != nullptr && meta->is_object())
        model.context_length =
            std::max(model.context_length, count_in(meta->get_object(), {"n_ctx", "n_ctx_train"}));
    model.max_output_tokens = count_in(object, {"max_output_tokens", "max_tokens", "outputTokenLimit"});
    model.endpoint = endpoint_of(model.id, object);
    return model;
}

}  // namespace

const char* kind_name(ProviderKind kind) {
    switch (kind) {
        case ProviderKind::openai:
            return "openai";
        case ProviderKind::azure:
            return "azure";
        case ProviderKind::anthropic:
            return "anthropic";
        case ProviderKind::ollama:
            return "ollama";
        case ProviderKind::gemini:
            return "gemini";
        case ProviderKind::runtime:
            return "runtime";
    }
    return "openai";
}

Result<Page> read_page(ProviderKind kind, std::string_view body) {
    auto unreadable = fail(Code::upstream_failed, "the provider's answer is no list of models");
    boost::system::error_code failed;
    json::value value = json::parse(json::string_view(body.data(), body.size()), failed);
    if (failed || !value.is_object()) return unreadable;
    const json::object& answer = value.get_object();
    bool is_named = kind == ProviderKind::ollama || kind == ProviderKind::gemini;
    const json::value* list = answer.if_contains(is_named ? "models" : "data");
    if (list == nullptr || !list->is_array()) return unreadable;
    Page page;
    for (const json::value& one : list->get_array()) {
        if (!one.is_object()) return unreadable;
        FoundModel model = model_of(kind, one.get_object());
        if (page.server.empty()) page.server = text_in(one.get_object(), "owned_by");
        if (is_id(model.id)) page.models.push_back(std::move(model));
    }
    const json::value* more = answer.if_contains("has_more");
    if (kind == ProviderKind::anthropic && more != nullptr && more->is_bool() && more->get_bool())
        page.next = "&after_id=" + text_in(answer, "last_id");
    if (kind == ProviderKind::gemini)
        if (std::string token = text_in(answer, "nextPageToken"); !token.empty())
            page.next = "&pageToken=" + token;
    bool is_safe = std::ranges::all_of(page.next, [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               std::string_view("&=-_.").find(c) != std::string_view::npos;
    });
    if (!is_safe) return unreadable;  // it becomes a part of the next request line
    return page;
}

Async<Result<std::vector<FoundModel>>> discover(http::Client& client,
                                                std::shared_ptr<const Provider> provider,
                                                http::Timeouts timeouts) {
    auto call = call_of(*provider);
    if (!call) co_return fail(std::move(call.error()));
    std::vector<FoundModel> models;
    std::set<std::string> seen;
    std::string next;
    for (int i = 0; i < pages_max; ++i) {
        http::ClientRequest request;
        request.method = http::Method::get;
        request.path = call->path + next;
        request.headers = call->headers + "accept: application/json\r\n";
        request.timeouts = timeouts;
        auto response = co_await client.send(provider->origin, std::move(request), nullptr);
        if (!response) co_return fail(std::move(response.error()));
        int status = (*response)->status();
        if (status != 200)
            co_return fail(Code::upstream_failed,
                           "the provider answered " + std::to_string(status) + " to GET " + call->path);
        auto body = co_await (*response)->read_all(bytes_max);
        if (!body) co_return fail(std::move(body.error()));
        auto page = read_page(provider->kind, *body);
        if (!page) co_return fail(std::move(page.error()));
        for (FoundModel& model : page->models)
            if (models.size() < models_max && seen.insert(model.id).second)
                models.push_back(std::move(model));
        if (page->next.empty() || page->next == next) break;
        next = std::move(page->next);
    }
    co_return models;
}

}  // namespace nebula::catalog
