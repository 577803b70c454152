// OpenAI chat request → Messages request.
#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "gateway/providers/anthropic/messages.hpp"
#include "gateway/providers/anthropic/request_turns.hpp"

namespace nebula::gateway::anthropic {
namespace {

namespace json = boost::json;
using namespace members;

// The API's least budget for thinking. An effort becomes the largest budget that the Messages edge would call
// by that name (anthropic/request.cpp).
constexpr std::int64_t budget_min = 1'024;
constexpr std::int64_t low_budget = 4'096;
constexpr std::int64_t medium_budget = 16'384;
constexpr std::int64_t high_budget = 32'768;
constexpr std::int64_t most_budget = 65'536;

class Translation {
   public:
    Translation(const json::object& from, Telling& telling) : from_(from), telling_(telling) {}

    Result<json::object> run() {
        using Step = Result<void> (Translation::*)();
        for (Step step : {&Translation::refusals, &Translation::basics, &Translation::messages,
                          &Translation::tools, &Translation::tool_choice, &Translation::format}) {
            auto done = (this->*step)();
            if (!done) return fail(std::move(done.error()));
        }
        bool thinks = thinking();
        sampling(thinks);
        return std::move(out_);
    }

   private:
    // Members whose absence the client would notice in the answer.
    Result<void> refusals() {
        const json::value* n = from_.if_contains("n");
        if (n != nullptr && n->is_int64() && n->get_int64() > 1)
            return bad("n", "the provider of this model gives one answer only");
        const json::value* logprobs = from_.if_contains("logprobs");
        if (logprobs != nullptr && logprobs->is_bool() && logprobs->get_bool())
            return bad("logprobs", "the provider of this model does not tell them");
        for (const char* name : {"functions", "function_call"})
            if (is_given(from_, name)) return bad(name, "use tools with this model");
        for (const char* name : {"audio", "web_search_options"})
            if (is_given(from_, name)) return bad(name, "the provider of this model cannot do this");
        if (const json::array* modalities = array_of(from_, "modalities"))
            for (const json::value& one : *modalities)
                if (!one.is_string() || one.get_string() != "text")
                    return bad("modalities", "the provider of this model answers in text only");
        return {};
    }

    Result<void> basics() {
        const json::value* model = from_.if_contains("model");
        if (model == nullptr || !model->is_string()) return bad("model", "a string is required");
        out_["model"] = *model;
        for (const char* name : {"max_tokens", "max_completion_tokens"}) {
            const json::value* cap = from_.if_contains(name);
            if (cap == nullptr || !cap->is_int64()) continue;
            cap_ = cap_ == 0 ? cap->get_int64() : std::min(cap_, cap->get_int64());
        }
        if (cap_ < 1) return bad("max_tokens", "a whole number of at least 1 is required");
        out_["max_tokens"] = cap_;
        if (const json::value* stream = from_.if_contains("stream"); stream != nullptr && stream->is_bool())
            out_["stream"] = *stream;
        if (std::string_view user = text_of(from_, "user"); !user.empty())
            out_["metadata"] = json::object{{"user_id", user}};
        const json::value* stop = from_.if_contains("stop");
        if (stop == nullptr || stop->is_null()) return {};
        if (stop->is_string())
            out_["stop_sequences"] = json::array{*stop};
        else if (!stop->is_array())
            return bad("stop", "must be a string or an array");
        else if (!stop->get_array().empty())
            out_["stop_sequences"] = *stop;
        return {};
    }

    Result<void> messages() {
        auto turns = read_turns(from_);
        if (!turns) return fail(std::move(turns.error()));
        if (!turns->system.is_null()) out_["system"] = std::move(turns->system);
        may_think_ = turns->may_think;
        out_["messages"] = std::move(turns->turns);
        return {};
    }

    Result<void> tools() {
        const json::array* list = array_of(from_, "tools");
        if (list == nullptr) return {};
        json::array tools;
        for (const json::value& item : *list) {
            const json::object* tool = item.if_object();
            const json::object* function = tool != nullptr ? object_of(*tool, "function") : nullptr;
            if (function == nullptr || text_of(*tool, "type") != "function")
                return bad("tools", "the provider of this model takes functions only");
            json::object told{{"name", text_of(*function, "name")}};
            if (std::string_view text = text_of(*function, "description"); !text.empty())
                told["description"] = text;
            const json::object* schema = object_of(*function, "parameters");
            json::object input = schema != nullptr ? *schema : json::object{{"properties", json::object()}};
            input.emplace("type", "object");  // demanded
            told["input_schema"] = std::move(input);
            const json::value* strict = function->if_contains("strict");
            if (strict != nullptr && strict->is_bool()) told["strict"] = *strict;
            copy_cache_control(*tool, told);
            tools.push_back(std::move(told));
        }
        if (!tools.empty()) out_["tools"] = std::move(tools);
        return {};
    }

    Result<void> tool_choice() {
        const json::value* choice = from_.if_contains("tool_choice");
        json::object told;
        if (choice != nullptr && choice->is_string()) {
            std::string_view word = choice->get_string();
            if (word != "auto" && word != "none" && word != "required")
                return bad("tool_choice", "must be auto, none, required or a function");
            told["type"] = word == "required" ? "any" : word;
        } else if (choice != nullptr && choice->is_object()) {
            const json::object* function = object_of(choice->get_object(), "function");
            if (function == nullptr) return bad("tool_choice", "must be auto, none, required or a function");
            told["type"] = "tool";
            told["name"] = text_of(*function, "name");
        }
        if (!out_.contains("tools")) return {};  // a choice among none
        const json::value* parallel = from_.if_contains("parallel_tool_calls");
        bool is_single = parallel != nullptr && parallel->is_bool() && !parallel->get_bool();
        if (told.empty() && is_single) told["type"] = "auto";
        if (is_single && text_of(told, "type") != "none") told["disable_parallel_tool_use"] = true;
        is_forced_ = text_of(told, "type") == "any" || text_of(told, "type") == "tool";
        if (!told.empty()) out_["tool_choice"] = std::move(told);
        return {};
    }

    Result<void> format() {
        const json::object* format = object_of(from_, "response_format");
        if (format == nullptr) return {};
        std::string_view type = text_of(*format, "type");
        if (type == "text" || type == "json_object") return {};
        const json::object* spec = object_of(*format, "json_schema");
        const json::value* schema = spec != nullptr ? spec->if_contains("schema") : nullptr;
        if (type != "json_schema" || schema == nullptr || !schema->is_object())
            return bad("response_format", "must be text, json_object or a json_schema with its schema");
        out_["output_config"] =
            json::object{{"format", json::object{{"type", "json_schema"}, {"schema", *schema}}}};
        return {};
    }

    // 0: not asked for.
    std::int64_t wanted_budget() const {
        std::string_view effort = text_of(from_, "reasoning_effort");
        const json::object* reasoning = object_of(from_, "reasoning");
        if (reasoning != nullptr) {
            const json::value* budget = reasoning->if_contains("max_tokens");
            if (budget != nullptr && budget->is_int64()) return std::max(budget_min, budget->get_int64());
            if (std::string_view word = text_of(*reasoning, "effort"); !word.empty()) effort = word;
            const json::value* enabled = reasoning->if_contains("enabled");
            if (enabled != nullptr && enabled->is_bool()) {
                if (!enabled->get_bool()) return 0;
                if (effort.empty()) effort = "medium";
            }
        }
        if (effort.empty() || effort == "none") return 0;
        if (effort == "minimal") return budget_min;
        if (effort == "low") return low_budget;
        if (effort == "medium") return medium_budget;
        return effort == "high" ? high_budget : most_budget;
    }

    // The cap is what was held for: the budget must fit below it, and leave a quarter for the answer.
    bool thinking() {
        const json::object* reasoning = object_of(from_, "reasoning");
        const json::value* exclude = reasoning != nullptr ? reasoning->if_contains("exclude") : nullptr;
        const json::value* include = from_.if_contains("include_reasoning");
        bool is_excluded = exclude != nullptr && exclude->is_bool() && exclude->get_bool();
        bool is_included = include == nullptr || !include->is_bool() || include->get_bool();
        telling_.tells_reasoning = !is_excluded && is_included;
        std::int64_t budget = std::min(wanted_budget(), cap_ / 4 * 3);
        if (budget < budget_min || is_forced_ || !may_think_) return false;
        out_["thinking"] = json::object{{"type", "enabled"}, {"budget_tokens", budget}};
        return true;
    }

    // Thinking models take no sampling parameters.
    void sampling(bool thinks) {
        if (thinks) return;
        if (const json::value* value = from_.if_contains("temperature");
            value != nullptr && value->is_number())
            out_["temperature"] = value->to_number<double>() > 1 ? json::value(1) : *value;
        for (const char* same : {"top_p", "top_k"})
            if (const json::value* value = from_.if_contains(same); value != nullptr && value->is_number())
                out_[same] = *value;
    }

    const json::object& from_;
    Telling& telling_;
    json::object out_;
    std::int64_t cap_ = 0;
    bool is_forced_ = false;  // some tool must be called
    bool may_think_ = true;
};

}  // namespace

Result<std::string> to_messages_request(std::string_view chat_request, Telling& telling) {
    boost::system::error_code failed;
    json::parse_options options;
    options.max_depth = 512;  // deeper than what is admitted
    json::value value = json::parse(chat_request, failed, {}, options);
    if (failed || !value.is_object())
        return fail(Code::invalid_request, "the request body must be a JSON object");
    auto messages = Translation(value.get_object(), telling).run();
    if (!messages) return fail(std::move(messages.error()));
    return json::serialize(*messages);
}

}  // namespace nebula::gateway::anthropic
