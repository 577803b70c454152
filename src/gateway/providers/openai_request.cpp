#include "gateway/providers/openai_request.hpp"

#include <algorithm>
#include <boost/json/parse.hpp>

#include "base/text.hpp"

namespace nebula::gateway::openai_request {
namespace {

json::value parse_deep(std::string_view text, boost::system::error_code& failed) {
    json::parse_options options;
    options.max_depth = 256;
    return json::parse(text, failed, {}, options);
}

}  // namespace

std::unexpected<Error> bad(std::string param, const std::string& why) {
    std::string message = param + " " + why;
    return fail(Code::invalid_request, std::move(message), std::move(param));
}

Result<json::object> parse(std::string_view body) {
    boost::system::error_code failed;
    json::value value = parse_deep(body, failed);
    if (failed || !value.is_object())
        return fail(Code::invalid_request, "the request body is not valid JSON");
    return std::move(value.get_object());
}

const json::value* member(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value == nullptr || value->is_null() ? nullptr : value;
}

std::optional<std::int64_t> output_cap(const json::object& request) {
    std::optional<std::int64_t> cap;
    for (const char* name : {"max_tokens", "max_completion_tokens"}) {
        const json::value* value = member(request, name);
        if (value == nullptr || !value->is_int64()) continue;
        cap = cap ? std::min(*cap, value->get_int64()) : value->get_int64();
    }
    return cap;
}

json::array stop_list(const json::object& request) {
    const json::value* stop = member(request, "stop");
    if (stop == nullptr) return {};
    if (stop->is_array()) return stop->get_array();
    return json::array{*stop};
}

std::optional<DataUrl> data_url(std::string_view url) {
    if (url.size() < 5 || !equals_ignore_case(url.substr(0, 5), "data:")) return std::nullopt;
    url.remove_prefix(5);
    std::size_t comma = url.find(',');
    if (comma == std::string_view::npos) return std::nullopt;
    std::string_view head = url.substr(0, comma);
    if (!head.ends_with(";base64")) return std::nullopt;
    return DataUrl{head.substr(0, head.find(';')), url.substr(comma + 1)};
}

std::string_view url_of(const json::object& part, std::string_view name) {
    if (const json::object* object = object_of(part, name)) return text_of(*object, "url");
    return text_of(part, name);
}

json::object arguments_of(std::string_view text) {
    boost::system::error_code failed;
    json::value value = text.empty() ? json::value(json::object()) : parse_deep(text, failed);
    if (failed || !value.is_object()) return {{"arguments", text}};
    return std::move(value.get_object());
}

Result<Reasoning> reasoning_of(const json::object& request) {
    Reasoning out;
    out.effort = text_of(request, "reasoning_effort");
    const json::object* reasoning = object_of(request, "reasoning");
    if (reasoning != nullptr) {
        if (auto effort = text_of(*reasoning, "effort"); !effort.empty()) out.effort = effort;
        if (const json::value* tokens = member(*reasoning, "max_tokens")) {
            if (!tokens->is_int64() || tokens->get_int64() < 0)
                return bad("reasoning.max_tokens", "must be a whole number");
            out.tokens_max = tokens->get_int64();
        }
        if (const json::value* on = member(*reasoning, "enabled"); on != nullptr && on->is_bool())
            (on->get_bool() ? out.is_asked : out.is_off) = true;
        if (const json::value* hide = member(*reasoning, "exclude"); hide != nullptr && hide->is_bool())
            out.is_hidden = hide->get_bool();
    }
    if (const json::value* told = member(request, "include_reasoning"); told != nullptr && told->is_bool()) {
        out.is_hidden = out.is_hidden || !told->get_bool();
        out.is_asked = out.is_asked || told->get_bool();
    }
    if (out.effort == "none") {
        out.is_off = true;
        out.effort.clear();
    }
    constexpr std::string_view efforts[] = {"", "minimal", "low", "medium", "high", "xhigh", "max"};
    if (std::ranges::find(efforts, out.effort) == std::end(efforts))
        return bad("reasoning_effort", "must be none, minimal, low, medium, high, xhigh or max");
    out.is_asked = out.is_asked || out.is_off || !out.effort.empty() || out.tokens_max.has_value();
    return out;
}

Result<json::array> embedding_inputs(const json::object& request) {
    const json::value* input = member(request, "input");
    if (input != nullptr && input->is_string()) return json::array{*input};
    if (input == nullptr || !input->is_array() || input->get_array().empty())
        return bad("input", "must be a string or a list of strings");
    for (const json::value& item : input->get_array())
        if (!item.is_string()) return bad("input", "must be text: tokens cannot be given to this model");
    return input->get_array();
}

Result<bool> wants_base64(const json::object& request) {
    std::string_view format = text_of(request, "encoding_format");
    if (format == "base64") return true;
    if (format.empty() || format == "float") return false;
    return bad("encoding_format", "must be float or base64");
}

}  // namespace nebula::gateway::openai_request
