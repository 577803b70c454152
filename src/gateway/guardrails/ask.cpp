#include "gateway/guardrails/ask.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>
#include <boost/json.hpp>

#include "base/check.hpp"
#include "base/crypto.hpp"
#include "base/text.hpp"
#include "gateway/guardrails/texts.hpp"

namespace nebula::gateway::guardrails {
namespace {

namespace json = boost::json;

constexpr std::size_t message_bytes_max = 500;

std::unexpected<Error> wrong_shape(const char* what) {
    return fail(Code::upstream_failed, "a guard rail answered nonsense", {}, what);
}

void add(std::string& out, std::string_view name, std::string_view raw) {
    if (raw.empty()) return;
    out.append(",\"").append(name).append("\":").append(raw);
}

}  // namespace

Result<std::string> moderation_request(std::string_view model, std::string_view request,
                                       std::size_t bytes_max) {
    std::string out = R"({"model":)" + json_string(model) + R"(,"input":[)";
    bool is_first = true;
    EditText collect = [&](std::string_view text, std::string&) {
        if (text.empty()) return false;
        if (!is_first) out += ',';
        is_first = false;
        if (out.size() <= bytes_max) out += json_string(text);
        return false;
    };
    auto texts = edit_texts(request, collect);
    if (!texts) return fail(std::move(texts.error()));
    if (out.size() > bytes_max)
        return fail(Code::payload_too_large, "too much text for the moderation model");
    if (is_first) out += R"("")";
    return out + "]}";
}

Result<std::string> flagged_categories(std::string_view answer) {
    boost::system::error_code problem;
    json::value parsed = json::parse(answer, problem);
    const json::value* results =
        !problem && parsed.is_object() ? parsed.get_object().if_contains("results") : nullptr;
    if (results == nullptr || !results->is_array() || results->get_array().empty())
        return wrong_shape("no moderation results");
    std::string reasons;
    bool is_flagged = false;
    for (const json::value& result : results->get_array()) {
        const json::value* flagged =
            result.is_object() ? result.get_object().if_contains("flagged") : nullptr;
        if (flagged == nullptr || !flagged->is_bool()) return wrong_shape("a result without flagged");
        if (!flagged->get_bool()) continue;
        is_flagged = true;
        const json::value* categories = result.get_object().if_contains("categories");
        if (categories == nullptr || !categories->is_object()) continue;
        for (const auto& [name, value] : categories->get_object()) {
            bool is_new =
                reasons.find(name) == std::string::npos && reasons.size() + name.size() < message_bytes_max;
            if (value.is_bool() && value.get_bool() && is_new)
                reasons.append(reasons.empty() ? "" : ",").append(name);
        }
    }
    if (is_flagged && reasons.empty()) reasons = "flagged";
    return reasons;
}

std::string hook_request(const HookCall& call) {
    std::string out = R"({"request_id":)" + json_string(call.request_id);
    add(out, "account", json_string(call.account));
    add(out, "key", json_string(call.key));
    add(out, "model", json_string(call.model));
    add(out, "endpoint", json_string(call.endpoint));
    add(out, "stage", json_string(call.stage));
    add(out, "stream", call.is_stream ? "true" : "false");
    add(out, "usage", call.usage);
    if (!call.said.empty()) add(out, "text", json_string(call.said));
    add(out, "body", call.body);
    return out + "}";
}

std::string hook_signature(const Secret& secret, Time now, std::string_view body) {
    std::string seconds =
        std::to_string(std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count());
    std::string text = seconds + "." + std::string(body);
    std::array<unsigned char, 32> mac{};
    unsigned size = 0;
    CHECK(
        HMAC(EVP_sha256(), secret.reveal().data(), static_cast<int>(secret.reveal().size()),
             reinterpret_cast<const unsigned char*>(text.data()), text.size(), mac.data(), &size) != nullptr,
        "HMAC works");
    return "t=" + seconds + ",v1=" + to_hex(mac);
}

Result<HookAnswer> read_hook_answer(std::string_view body) {
    boost::system::error_code problem;
    json::value parsed = json::parse(body, problem);
    if (problem || !parsed.is_object()) return wrong_shape("no JSON object");
    const json::object& object = parsed.get_object();
    const json::value* action = object.if_contains("action");
    if (action == nullptr || !action->is_string()) return wrong_shape("no action");
    HookAnswer answer;
    if (const json::value* message = object.if_contains("message");
        message != nullptr && message->is_string())
        answer.message = std::string_view(message->get_string()).substr(0, message_bytes_max);
    std::string_view word = action->get_string();
    if (word == "allow") return answer;
    if (word == "block") {
        answer.action = HookAnswer::Action::block;
        return answer;
    }
    const json::value* replacement = object.if_contains("body");
    if (word != "replace" || replacement == nullptr || !replacement->is_object())
        return wrong_shape("an unknown action, or replace without a body");
    answer.action = HookAnswer::Action::replace;
    answer.body = json::serialize(*replacement);
    return answer;
}

}  // namespace nebula::gateway::guardrails
