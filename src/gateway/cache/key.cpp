// Whether a request wants the cache, and what makes two requests the same.
#include <simdjson.h>

#include <algorithm>

#include "base/text.hpp"
#include "gateway/cache/cache.hpp"

namespace nebula::gateway {
namespace {

namespace ondemand = simdjson::ondemand;

// They say how the answer is told or for whom it is, not what it is.
constexpr std::string_view ignored_members[] = {
    "stream",           "stream_options",         "user",       "metadata", "safety_identifier",
    "prompt_cache_key", "prompt_cache_retention", "session_id", "trace"};

constexpr std::int64_t ttl_seconds_max = 86'400;

Result<bool> read_flag(std::string_view name, std::string_view text) {
    if (equals_ignore_case(text, "true")) return true;
    if (equals_ignore_case(text, "false")) return false;
    return fail(Code::invalid_request, "'" + std::string(name) + "' must be true or false",
                std::string(name));
}

// A length before each text: no two lists of texts become the same bytes.
void append(std::string& out, std::string_view text) {
    out.append(std::to_string(text.size())).append(":").append(text);
}

}  // namespace

Result<CacheWish> read_wish(const http::RequestHead& head, bool by_key, catalog::Caching by_model,
                            const CacheSettings& settings) {
    CacheWish wish{.is_on = by_key || by_model == catalog::Caching::always, .ttl = settings.ttl};
    for (std::string_view name : {"x-openrouter-cache", "x-nebula-cache"}) {
        auto text = head.header(name);
        if (!text) continue;
        if (name == "x-nebula-cache" && equals_ignore_case(*text, "clear")) {
            wish.is_on = wish.clear = true;
            continue;
        }
        auto flag = read_flag(name, *text);
        if (!flag) return fail(std::move(flag.error()));
        wish.is_on = *flag;
    }
    if (auto text = head.header("x-openrouter-cache-clear")) {
        auto flag = read_flag("x-openrouter-cache-clear", *text);
        if (!flag) return fail(std::move(flag.error()));
        wish.clear = *flag;
    }
    for (std::string_view name : {"x-openrouter-cache-ttl", "x-nebula-cache-ttl"}) {
        auto text = head.header(name);
        if (!text) continue;
        auto seconds = parse_int<std::int64_t>(*text);
        if (!seconds || *seconds < 1 || *seconds > ttl_seconds_max)
            return fail(Code::invalid_request,
                        "'" + std::string(name) + "' must be between 1 and 86400 seconds", std::string(name));
        wish.ttl = std::chrono::seconds(*seconds);
    }
    if (by_model == catalog::Caching::never || settings.bytes_max == 0) wish.is_on = false;
    return wish;
}

std::optional<Sha256> cache_key(const CacheScope& scope, std::string_view body) {
    std::string small(body.size() + simdjson::SIMDJSON_PADDING, '\0');
    std::size_t length = 0;
    if (simdjson::minify(body.data(), body.size(), small.data(), length)) return std::nullopt;
    thread_local ondemand::parser parser;
    ondemand::document document;
    ondemand::object object;
    simdjson::padded_string_view padded(small.data(), length, small.size());
    if (parser.iterate(padded).get(document) || document.get_object().get(object)) return std::nullopt;
    std::vector<std::pair<std::string, std::string_view>> members;
    for (auto field : object) {
        ondemand::field member;
        std::string_view name, text;
        if (std::move(field).get(member) || member.unescaped_key().get(name)) return std::nullopt;
        std::string owned(name);
        if (simdjson::to_json_string(member.value()).get(text)) return std::nullopt;
        bool is_ignored = scope.is_repeated
                              ? owned == "stream"
                              : std::ranges::find(ignored_members, owned) != std::end(ignored_members);
        if (!is_ignored) members.emplace_back(std::move(owned), text);
    }
    std::ranges::sort(members, [](const auto& a, const auto& b) {
        return a.first != b.first ? a.first < b.first : a.second.data() < b.second.data();
    });

    std::string whole;
    whole.reserve(length + 256);
    append(whole, std::to_string(scope.account));
    for (std::string_view text : {scope.endpoint, scope.model, scope.wire, scope.path, scope.headers})
        append(whole, text);
    append(whole, scope.is_stream ? "stream" : "whole");
    for (const auto& [name, text] : members) {
        append(whole, name);
        append(whole, text);
    }
    return sha256(whole);
}

}  // namespace nebula::gateway
