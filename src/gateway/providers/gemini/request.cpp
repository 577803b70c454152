// OpenAI's requests → Gemini's.
#include <algorithm>
#include <boost/json/serialize.hpp>

#include "base/text.hpp"
#include "gateway/providers/gemini/gemini.hpp"
#include "gateway/providers/gemini/messages.hpp"

namespace nebula::gateway::gemini {
namespace {

namespace json = boost::json;
using namespace openai_request;

// Efforts as tokens, for models that count their thoughts: what Google's own OpenAI endpoint takes for them.
constexpr std::int64_t low_tokens = 1'024, medium_tokens = 8'192, high_tokens = 24'576;

// Gemini 3 and later think by level and demand signatures of calls; those before think by tokens.
bool is_of_third_generation(std::string_view model) {
    if (std::size_t slash = model.rfind('/'); slash != std::string_view::npos) model.remove_prefix(slash + 1);
    if (!model.starts_with("gemini-")) return false;
    model.remove_prefix(7);
    auto generation = parse_int<int>(model.substr(0, model.find_first_not_of("0123456789")));
    return generation && *generation >= 3;
}

Result<void> refuse_unknown(const json::object& from) {
    for (const char* name : {"functions", "function_call", "audio", "web_search_options", "logit_bias"})
        if (member(from, name) != nullptr) return bad(name, "cannot be given to this model's provider");
    if (const json::value* modalities = member(from, "modalities"))
        if (*modalities != json::value(json::array{"text"}))
            return bad("modalities", "must be text for this model's provider");
    return {};
}

Result<json::object> thinking_of(const json::object& from, bool by_level) {
    auto reasoning = reasoning_of(from);
    if (!reasoning) return fail(std::move(reasoning.error()));
    json::object out;
    if (!reasoning->is_asked) return out;
    const std::string& effort = reasoning->effort;
    bool is_strongest = effort == "high" || effort == "xhigh" || effort == "max";
    if (!reasoning->is_off && !reasoning->is_hidden) out["includeThoughts"] = true;
    if (reasoning->tokens_max && !reasoning->is_off) {
        out["thinkingBudget"] = *reasoning->tokens_max;
    } else if (by_level) {
        // These models cannot do without; the least is the nearest.
        if (reasoning->is_off) out["thinkingLevel"] = "minimal";
        if (!effort.empty()) out["thinkingLevel"] = is_strongest ? "high" : effort;
    } else {
        if (reasoning->is_off) out["thinkingBudget"] = 0;
        if (!effort.empty())
            out["thinkingBudget"] = is_strongest         ? high_tokens
                                    : effort == "medium" ? medium_tokens
                                                         : low_tokens;
    }
    return out;
}

Result<void> add_format(const json::object& from, json::object& config) {
    const json::object* format = object_of(from, "response_format");
    if (format == nullptr) return {};
    std::string_view type = text_of(*format, "type");
    if (type == "text") return {};
    if (type != "json_object" && type != "json_schema")
        return bad("response_format", "must be text, json_object or json_schema");
    config["responseMimeType"] = "application/json";
    if (const json::object* named = object_of(*format, "json_schema"))
        if (const json::value* schema = member(*named, "schema")) config["responseJsonSchema"] = *schema;
    return {};
}

Result<json::object> config_of(const json::object& from, bool by_level) {
    struct Same {
        const char* openai;
        const char* gemini;
    };
    constexpr Same names[] = {{"temperature", "temperature"},
                              {"top_p", "topP"},
                              {"top_k", "topK"},
                              {"n", "candidateCount"},
                              {"seed", "seed"},
                              {"presence_penalty", "presencePenalty"},
                              {"frequency_penalty", "frequencyPenalty"},
                              {"logprobs", "responseLogprobs"},
                              {"top_logprobs", "logprobs"}};
    json::object config;
    for (const Same& name : names)
        if (const json::value* value = member(from, name.openai)) config[name.gemini] = *value;
    if (const json::value* n = member(from, "n"); n != nullptr && *n == json::value(1))
        config.erase("candidateCount");
    if (auto cap = output_cap(from)) config["maxOutputTokens"] = *cap;
    if (json::array stop = stop_list(from); !stop.empty()) config["stopSequences"] = std::move(stop);
    if (auto done = add_format(from, config); !done) return fail(std::move(done.error()));
    auto thinking = thinking_of(from, by_level);
    if (!thinking) return fail(std::move(thinking.error()));
    if (!thinking->empty()) config["thinkingConfig"] = std::move(*thinking);
    return config;
}

Result<json::array> declarations_of(const json::object& from) {
    json::array out;
    const json::value* tools = member(from, "tools");
    if (tools == nullptr) return out;
    if (!tools->is_array()) return bad("tools", "must be an array");
    for (const json::value& item : tools->get_array()) {
        const json::object* tool = item.if_object();
        const json::object* function =
            tool != nullptr && text_of(*tool, "type") == "function" ? object_of(*tool, "function") : nullptr;
        if (function == nullptr) return bad("tools", "must be functions for this model's provider");
        json::object told{{"name", text_of(*function, "name")}};
        if (const json::value* words = member(*function, "description")) told["description"] = *words;
        if (const json::value* schema = member(*function, "parameters"))
            told["parametersJsonSchema"] = *schema;
        out.push_back(std::move(told));
    }
    return out;
}

json::object mode(const char* word, json::array allowed = {}) {
    json::object config{{"mode", word}};
    if (!allowed.empty()) config["allowedFunctionNames"] = std::move(allowed);
    return {{"functionCallingConfig", std::move(config)}};
}

// Empty: as the model likes.
Result<json::object> choice_of(const json::object& from) {
    const json::value* choice = member(from, "tool_choice");
    if (choice == nullptr) return json::object();
    if (choice->is_string()) {
        std::string_view word = choice->get_string();
        if (word == "auto") return json::object();
        if (word == "none") return mode("NONE");
        if (word == "required") return mode("ANY");
    } else if (const json::object* object = choice->if_object()) {
        if (text_of(*object, "type") == "function")
            if (const json::object* function = object_of(*object, "function"))
                return mode("ANY", json::array{text_of(*function, "name")});
        if (const json::object* allowed = object_of(*object, "allowed_tools")) {
            json::array names;
            if (const json::value* list = member(*allowed, "tools"); list != nullptr && list->is_array())
                for (const json::value& tool : list->get_array())
                    if (const json::object* one = tool.if_object())
                        if (const json::object* function = object_of(*one, "function"))
                            names.emplace_back(text_of(*function, "name"));
            // Names may only be given where calls are checked.
            if (!names.empty())
                return mode(text_of(*allowed, "mode") == "required" ? "ANY" : "VALIDATED", std::move(names));
        }
    }
    return bad("tool_choice", "must be none, auto, required, or name a function");
}

}  // namespace

std::string resource_of(std::string_view model) {
    bool has_collection = model.starts_with("models/") || model.starts_with("tunedModels/");
    return has_collection ? std::string(model) : "models/" + std::string(model);
}

Result<std::string> to_contents(const json::object& from) {
    bool is_third = is_of_third_generation(text_of(from, "model"));
    if (auto done = refuse_unknown(from); !done) return fail(std::move(done.error()));
    Contents contents(is_third);
    if (auto done = contents.read(from); !done) return fail(std::move(done.error()));
    json::object out{{"contents", contents.take()}};
    if (json::array system = contents.take_system(); !system.empty())
        out["systemInstruction"] = json::object{{"parts", std::move(system)}};
    auto declarations = declarations_of(from);
    if (!declarations) return fail(std::move(declarations.error()));
    auto choice = choice_of(from);
    if (!choice) return fail(std::move(choice.error()));
    if (!declarations->empty()) {
        out["tools"] = json::array{json::object{{"functionDeclarations", std::move(*declarations)}}};
        if (!choice->empty()) out["toolConfig"] = std::move(*choice);
    }
    auto config = config_of(from, is_third);
    if (!config) return fail(std::move(config.error()));
    if (!config->empty()) out["generationConfig"] = std::move(*config);
    return json::serialize(out);
}

Result<std::string> to_embed(const json::object& from) {
    auto inputs = embedding_inputs(from);
    if (!inputs) return fail(std::move(inputs.error()));
    std::string model = resource_of(text_of(from, "model"));
    const json::value* dimensions = member(from, "dimensions");
    json::array requests;
    for (const json::value& text : *inputs) {
        json::array parts{json::object{{"text", text}}};
        json::object request{{"model", model}, {"content", json::object{{"parts", std::move(parts)}}}};
        if (dimensions != nullptr) request["outputDimensionality"] = *dimensions;
        requests.push_back(std::move(request));
    }
    return json::serialize(json::object{{"requests", std::move(requests)}});
}

}  // namespace nebula::gateway::gemini
