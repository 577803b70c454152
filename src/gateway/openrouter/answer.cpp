#include "gateway/openrouter/answer.hpp"

#include <simdjson.h>

#include <algorithm>
#include <array>

#include "base/text.hpp"

namespace nebula::gateway::openrouter {
namespace {

namespace ondemand = simdjson::ondemand;

// Members that are ours to tell, whatever a provider says under the same name.
constexpr std::array<std::string_view, 3> usage_members = {"cost", "is_byok", "cost_details"};

void add_costs(std::string& out, const Receipt& receipt) {
    Nanos rest = receipt.upstream_cost - receipt.upstream_prompt_cost;
    out += R"("cost":)" + receipt.charge.short_text() + R"(,"is_byok":)" +
           (receipt.is_byok ? "true" : "false") + R"(,"cost_details":{"upstream_inference_cost":)" +
           (receipt.is_byok ? receipt.upstream_cost.short_text() : "null") +
           R"(,"upstream_inference_prompt_cost":)" + receipt.upstream_prompt_cost.short_text() +
           R"(,"upstream_inference_completions_cost":)" + rest.short_text() + "}";
}

std::string own_usage(const Receipt& receipt) {
    std::string input = std::to_string(receipt.usage.input), output = std::to_string(receipt.usage.output);
    std::string out = R"({"prompt_tokens":)" + input;
    if (receipt.has_output) out += R"(,"completion_tokens":)" + output;
    out += R"(,"total_tokens":)" + std::to_string(receipt.usage.input + receipt.usage.output) +
           R"(,"prompt_tokens_details":{"cached_tokens":)" + std::to_string(receipt.usage.cached) +
           R"(,"cache_write_tokens":)" + std::to_string(receipt.usage.cache_write) + "}";
    if (receipt.has_output)
        out += R"(,"completion_tokens_details":{"reasoning_tokens":)" +
               std::to_string(receipt.usage.reasoning) + "}";
    out += ",";
    add_costs(out, receipt);
    return out + "}";
}

// The provider's usage with the costs; empty when it is none.
std::string told_usage(ondemand::value value, const Receipt& receipt) {
    ondemand::object usage;
    if (value.get_object().get(usage)) return {};
    std::string out = "{";
    for (auto field : usage) {
        ondemand::field member;
        std::string_view name, raw;
        if (std::move(field).get(member) || member.unescaped_key().get(name)) return {};
        std::string key = json_string(name);
        bool is_ours = std::ranges::find(usage_members, name) != usage_members.end();
        if (simdjson::to_json_string(member.value()).get(raw)) return {};
        if (!is_ours) out.append(key).append(":").append(raw).append(",");
    }
    add_costs(out, receipt);
    return out + "}";
}

// All members but ours, each with a comma behind it; empty when it is no object.
std::string copy(std::string_view text, const Receipt& receipt, std::string& usage, bool& has_fingerprint) {
    thread_local ondemand::parser parser;
    simdjson::padded_string padded(text);
    ondemand::document document;
    ondemand::object object;
    if (parser.iterate(padded).get(document) || document.get_object().get(object)) return {};
    std::string out;
    out.reserve(text.size() + 512);
    for (auto field : object) {
        ondemand::field member;
        std::string_view name, raw;
        if (std::move(field).get(member) || member.unescaped_key().get(name)) return {};
        if (name == "usage") {
            if (receipt.is_reported) usage = told_usage(member.value(), receipt);
            continue;
        }
        bool is_ours = name == "provider";
        has_fingerprint = has_fingerprint || name == "system_fingerprint";
        std::string key = json_string(name);
        if (simdjson::to_json_string(member.value()).get(raw)) return {};
        if (!is_ours) out.append(key).append(":").append(raw).append(",");
    }
    return out;
}

constexpr std::string_view thoughts_elsewhere = "\"reasoning_content\"", thoughts_here = "\"reasoning\"";

// Where the text says this name of a member. A quote inside a JSON string is escaped, so that what stands
// between bare quotes is a whole string, and before a colon it is a name.
std::size_t find_name(std::string_view text, std::string_view quoted, std::size_t from) {
    for (std::size_t at = text.find(quoted, from); at != std::string_view::npos;
         at = text.find(quoted, at + 1)) {
        std::size_t next = text.find_first_not_of(" \t\r\n", at + quoted.size());
        if (next != std::string_view::npos && text[next] == ':') return at;
    }
    return std::string_view::npos;
}

}  // namespace

bool tells_thoughts(std::string_view json) {
    return find_name(json, thoughts_elsewhere, 0) != std::string_view::npos &&
           find_name(json, thoughts_here, 0) == std::string_view::npos;
}

std::string with_thoughts(std::string_view json) {
    std::string out;
    out.reserve(json.size());
    std::size_t from = 0;
    for (std::size_t at = find_name(json, thoughts_elsewhere, 0); at != std::string_view::npos;
         at = find_name(json, thoughts_elsewhere, from)) {
        out.append(json.substr(from, at - from)).append(thoughts_here);
        from = at + thoughts_elsewhere.size();
    }
    return out.append(json.substr(from));
}

std::string with_cost(std::string_view answer, const Receipt& receipt) {
    std::string usage;
    bool has_fingerprint = false;
    std::string members = copy(answer, receipt, usage, has_fingerprint);
    if (members.empty()) return std::string(answer);
    if (tells_thoughts(members)) members = with_thoughts(members);
    if (usage.empty()) usage = own_usage(receipt);
    std::string out = "{" + members + R"("provider":)" + json_string(receipt.provider);
    if (receipt.has_output && !has_fingerprint) out += R"(,"system_fingerprint":null)";
    return out + R"(,"usage":)" + usage + "}";
}

std::string usage_chunk(std::string_view chunk, const Receipt& receipt) {
    std::string usage;
    bool has_fingerprint = false;
    std::string members = chunk.empty() ? std::string() : copy(chunk, receipt, usage, has_fingerprint);
    if (members.empty()) {
        std::string id(receipt.upstream_id.empty() ? std::string_view(receipt.request_id)
                                                   : receipt.upstream_id);
        members = R"("id":)" + json_string(id) + R"(,"object":")" +
                  (receipt.is_text ? "text_completion" : "chat.completion.chunk") + R"(","created":)" +
                  std::to_string(receipt.created) + R"(,"model":)" + json_string(receipt.model) +
                  R"(,"choices":[],)";
    }
    if (usage.empty()) usage = own_usage(receipt);
    return "{" + members + R"("provider":)" + json_string(receipt.provider) + R"(,"usage":)" + usage + "}";
}

}  // namespace nebula::gateway::openrouter
