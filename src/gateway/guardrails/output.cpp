#include "gateway/guardrails/output.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <deque>

namespace nebula::gateway::guardrails {
namespace {

namespace json = boost::json;

constexpr const char* blocked_reason = "content_filter";
constexpr const char* text_members[] = {"content", "reasoning_content", "reasoning", "refusal", "thinking"};

// One rail's work on one text.
class Stage {
   public:
    Stage(const Rail* rail, const Matchers& matchers, OnMatch on_match, bool is_silent)
        : rail_(rail), is_silent_(is_silent), on_match_(std::move(on_match)), filter_(matchers, on_match_) {}
    Stage(const Stage&) = delete;
    Stage& operator=(const Stage&) = delete;

    void push(std::string_view piece, std::string& out) { run(piece, out, false); }
    void finish(std::string_view piece, std::string& out) { run(piece, out, true); }
    bool is_stopped() const { return !is_silent_ && filter_.is_stopped(); }
    const Rail* rail() const { return rail_; }

   private:
    void run(std::string_view piece, std::string& out, bool is_last) {
        std::string ignored;
        std::string& kept = is_silent_ ? ignored : out;
        filter_.push(piece, kept);
        if (is_last) filter_.finish(kept);
        if (is_silent_) out += piece;
    }

    const Rail* rail_;
    bool is_silent_;  // only looks: the text passes as it is, at once
    OnMatch on_match_;
    Filter filter_;
};

}  // namespace

struct OutputGuard::Impl {
    Impl(const std::vector<const Rail*>& the_rails, const Placeholders& the_placeholders,
         std::vector<const Rail*>& the_matched)
        : rails(the_rails), placeholders(the_placeholders), matched(the_matched) {
        names.push_back({std::shared_ptr<void>(), &placeholders});
        for (const Rail* rail : rails) {
            bool is_active = rail->on_output && rail->reads_text();
            changes = changes || (is_active && rail->is_enforced && rail->action != Action::log);
        }
        changes = changes || !placeholders.empty();
    }

    /// The rails' work on one text, one behind the other.
    struct Chain {
        std::deque<Stage> stages;

        std::string run(std::string_view piece, bool is_last) {
            std::string current(piece);
            for (Stage& stage : stages) {
                std::string next;
                is_last ? stage.finish(current, next) : stage.push(current, next);
                current = std::move(next);
            }
            return current;
        }
        bool is_stopped() const {
            return std::ranges::any_of(stages, [](const Stage& stage) { return stage.is_stopped(); });
        }
    };
    struct Tool {
        std::string arguments;
        std::int64_t index = 0;
    };
    struct Choice {
        std::int64_t index = 0;
        std::map<std::string, Chain> texts;
        std::vector<Tool> tools;
        bool is_over = false;
    };

    void note(const Rail* rail) {
        if (std::ranges::find(matched, rail) == matched.end()) matched.push_back(rail);
    }

    void build(Chain& chain) {
        for (const Rail* rail : rails) {
            if (!rail->on_output || !rail->reads_text()) continue;
            bool is_silent = !rail->is_enforced || rail->action == Action::log;
            OnMatch act = [this, rail, is_silent](const Matcher& matcher,
                                                  std::string_view found) -> std::optional<std::string> {
                note(rail);
                if (is_silent) return std::string(found);
                if (rail->action == Action::block) return std::nullopt;
                if (rail->kind == Kind::personal) return '[' + std::string(matcher.kind()) + ']';
                return rail->settings.replacement;
            };
            chain.stages.emplace_back(rail, rail->matchers, std::move(act), is_silent);
        }
        if (placeholders.empty()) return;
        // Last: no rail sees what the names stand for.
        OnMatch restore = [this](const Matcher&, std::string_view found) -> std::optional<std::string> {
            return std::string(placeholders.meaning(found));
        };
        chain.stages.emplace_back(nullptr, names, std::move(restore), false);
    }

    // What the client sees of the first choice, for whoever is told of it.
    void hear(const Choice& choice, std::string_view member, std::string_view text) {
        if (choice.index != 0 || (member != "content" && member != "text")) return;
        said += text.substr(0, said_max - std::min(said_max, said.size()));
    }

    Choice* choice_of(std::int64_t index) {
        for (Choice& choice : choices)
            if (choice.index == index) return &choice;
        if (choices.size() >= channels_max) return nullptr;
        choices.emplace_back().index = index;
        return &choices.back();
    }
    Chain* chain_of(Choice& choice, const std::string& name) {
        auto [found, is_new] = choice.texts.try_emplace(name);
        if (is_new) {
            if (++channels > channels_max) return nullptr;
            build(found->second);
        }
        return &found->second;
    }

    // Filters each text of a delta (or of the choice itself, for completions). False: beyond a bound.
    bool take_texts(Choice& choice, json::object& holder, const char* only) {
        for (const char* name : text_members) {
            if (only != nullptr && name != text_members[0]) break;
            const char* member = only != nullptr ? only : name;
            json::value* value = holder.if_contains(member);
            if (value == nullptr || !value->is_string()) continue;
            Chain* chain = chain_of(choice, member);
            if (chain == nullptr) return false;
            std::string text = chain->run(value->get_string(), false);
            if (chain->is_stopped()) {
                choice.is_over = true;
                text += chain->run({}, true);  // what rails behind it held back
            }
            hear(choice, member, text);
            *value = text;
        }
        return true;
    }

    bool take_tools(Choice& choice, json::object& delta) {
        json::value* calls = delta.if_contains("tool_calls");
        if (calls == nullptr || !calls->is_array()) return true;
        for (json::value& call : calls->get_array()) {
            if (!call.is_object()) return false;
            json::value* function = call.get_object().if_contains("function");
            if (function == nullptr || !function->is_object()) continue;
            json::value* arguments = function->get_object().if_contains("arguments");
            if (arguments == nullptr || !arguments->is_string()) continue;
            json::value* number = call.get_object().if_contains("index");
            std::int64_t index = number != nullptr && number->is_int64() ? number->get_int64() : 0;
            auto tool = std::ranges::find(choice.tools, index, &Tool::index);
            if (tool == choice.tools.end()) {
                if (++channels > channels_max) return false;
                tool = choice.tools.insert(choice.tools.end(), Tool{.arguments = {}, .index = index});
            }
            arguments_bytes += arguments->get_string().size();
            if (arguments_bytes > arguments_bytes_max) return false;
            tool->arguments += std::string_view(arguments->get_string());
            *arguments = "";
        }
        return true;
    }

    std::string judge_arguments(std::string_view arguments, bool& is_stopped) {
        EditText edit = [&](std::string_view text, std::string& instead) {
            Chain chain;
            build(chain);
            instead = chain.run(text, true);
            is_stopped = is_stopped || chain.is_stopped();
            return instead != text;
        };
        auto edited = edit_own_texts(arguments, edit);
        return edited ? std::move(*edited) : std::string(arguments);
    }

    // What was held back of the choice, into its last delta.
    void close(Choice& choice, json::object& holder, bool is_text) {
        for (auto& [name, chain] : choice.texts) {
            std::string rest = chain.run({}, true);
            if (chain.is_stopped()) choice.is_over = true;
            if (rest.empty()) continue;
            hear(choice, name, rest);
            json::value* value = holder.if_contains(name);
            if (value != nullptr && value->is_string())
                value->get_string().append(rest);
            else
                holder[name] = rest;
        }
        if (is_text || choice.tools.empty() || choice.is_over) return;
        json::array calls;
        for (Tool& tool : choice.tools) {
            bool is_stopped = false;
            std::string arguments = judge_arguments(tool.arguments, is_stopped);
            choice.is_over = choice.is_over || is_stopped;
            if (is_stopped) return;
            calls.push_back({{"index", tool.index}, {"function", {{"arguments", arguments}}}});
        }
        json::value* there = holder.if_contains("tool_calls");
        if (there != nullptr && there->is_array())
            for (json::value& call : calls) there->get_array().push_back(std::move(call));
        else
            holder["tool_calls"] = std::move(calls);
        choice.tools.clear();
    }

    // One choice of a chunk; false when nothing of it is left. `is_good` false: it cannot be judged.
    bool take_choice(json::object& told, bool& is_good) {
        json::value* number = told.if_contains("index");
        Choice* choice = choice_of(number != nullptr && number->is_int64() ? number->get_int64() : 0);
        if (choice == nullptr) {
            is_good = false;
            return false;
        }
        if (choice->is_over) return false;
        if (changes && told.contains("logprobs")) told["logprobs"] = nullptr;  // they tell the text again
        json::value* delta = told.if_contains("delta");
        bool is_text = delta == nullptr || !delta->is_object();
        json::object& holder = is_text ? told : delta->get_object();
        is_good = take_texts(*choice, holder, is_text ? "text" : nullptr);
        if (is_good && !is_text) is_good = take_tools(*choice, holder);
        if (!is_good) return false;
        json::value* reason = told.if_contains("finish_reason");
        bool is_last = reason != nullptr && reason->is_string();
        if (is_last && !choice->is_over) close(*choice, holder, is_text);
        if (choice->is_over) told["finish_reason"] = blocked_reason;
        choice->is_over = choice->is_over || is_last;
        return true;
    }

    void keep_head(const json::object& chunk) {
        head.clear();
        for (const char* name : {"id", "object", "created", "model"})
            if (const json::value* value = chunk.if_contains(name)) head[name] = *value;
    }

    // A message of a whole answer, or the choice itself for completions.
    bool take_message(json::object& holder, bool is_text) {
        bool is_stopped = false;
        auto judge = [&](json::value& value) {
            Chain chain;
            build(chain);
            value = chain.run(value.get_string(), true);
            is_stopped = is_stopped || chain.is_stopped();
        };
        auto judge_member = [&](json::object& object, const char* name) {
            json::value* value = object.if_contains(name);
            if (value != nullptr && value->is_string()) judge(*value);
            if (value == nullptr || !value->is_array()) return;
            for (json::value& part : value->get_array())
                if (part.is_object())
                    if (json::value* text = part.get_object().if_contains("text");
                        text != nullptr && text->is_string())
                        judge(*text);
        };
        if (is_text) judge_member(holder, "text");
        for (const char* name : text_members)
            if (!is_text) judge_member(holder, name);
        json::value* calls = holder.if_contains("tool_calls");
        if (calls == nullptr || !calls->is_array()) return is_stopped;
        for (json::value& call : calls->get_array()) {
            json::value* function = call.is_object() ? call.get_object().if_contains("function") : nullptr;
            json::value* arguments = function != nullptr && function->is_object()
                                         ? function->get_object().if_contains("arguments")
                                         : nullptr;
            if (arguments == nullptr || !arguments->is_string()) continue;
            *arguments = judge_arguments(arguments->get_string(), is_stopped);
        }
        if (is_stopped) holder.erase("tool_calls");
        return is_stopped;
    }

    const std::vector<const Rail*>& rails;
    const Placeholders& placeholders;
    std::vector<const Rail*>& matched;
    Matchers names;
    bool changes = false;
    std::deque<Choice> choices;
    std::string said;
    std::size_t said_max = 0;
    std::size_t channels = 0;
    std::size_t arguments_bytes = 0;
    json::object head;
};

OutputGuard::OutputGuard(const std::vector<const Rail*>& rails, const Placeholders& placeholders,
                         std::vector<const Rail*>& matched)
    : impl_(std::make_unique<Impl>(rails, placeholders, matched)) {}
OutputGuard::~OutputGuard() = default;

void OutputGuard::restart() {
    impl_->choices.clear();
    impl_->channels = impl_->arguments_bytes = 0;
    impl_->said.clear();
}

void OutputGuard::listen(std::size_t bytes_max) { impl_->said_max = bytes_max; }
std::string_view OutputGuard::said() const { return impl_->said; }

bool OutputGuard::chunk(std::string_view data, std::string& lines) {
    boost::system::error_code problem;
    json::value parsed = json::parse(data, problem);
    if (problem || !parsed.is_object()) return false;
    json::object& chunk = parsed.get_object();
    json::value* choices = chunk.if_contains("choices");
    if (choices == nullptr || !choices->is_array()) return false;
    impl_->keep_head(chunk);
    json::array& list = choices->get_array();
    bool had_choices = !list.empty(), is_good = true;
    for (auto choice = list.begin(); choice != list.end();) {
        if (!choice->is_object()) return false;
        bool is_kept = impl_->take_choice(choice->get_object(), is_good);
        if (!is_good) return false;
        choice = is_kept ? choice + 1 : list.erase(choice);
    }
    json::value* usage = chunk.if_contains("usage");
    bool has_usage = usage != nullptr && usage->is_object();
    if (had_choices && list.empty() && !has_usage) return true;
    lines += json::serialize(chunk);
    lines += '\n';
    return true;
}

void OutputGuard::finish(std::string& lines) {
    for (Impl::Choice& choice : impl_->choices) {
        if (choice.is_over) continue;
        bool is_text = choice.texts.contains("text");
        json::object told{{"index", choice.index}}, delta;
        impl_->close(choice, is_text ? told : delta, is_text);
        if (!choice.is_over && delta.empty() && !told.contains("text")) continue;
        told["finish_reason"] = choice.is_over ? json::value(blocked_reason) : json::value(nullptr);
        if (!is_text) told["delta"] = std::move(delta);
        json::object chunk = impl_->head;
        json::array one;
        one.push_back(std::move(told));
        chunk["choices"] = std::move(one);
        lines += json::serialize(chunk);
        lines += '\n';
    }
    impl_->choices.clear();
}

Result<std::string> OutputGuard::answer(std::string_view text) {
    boost::system::error_code problem;
    json::value parsed = json::parse(text, problem);
    json::value* choices =
        !problem && parsed.is_object() ? parsed.get_object().if_contains("choices") : nullptr;
    if (choices == nullptr || !choices->is_array())
        return fail(Code::upstream_failed, "the provider sent an invalid answer", {}, "no choices to judge");
    for (json::value& value : choices->get_array()) {
        if (!value.is_object())
            return fail(Code::upstream_failed, "the provider sent an invalid answer", {},
                        "choice of another shape");
        json::object& choice = value.get_object();
        if (impl_->changes && choice.contains("logprobs")) choice["logprobs"] = nullptr;
        json::value* message = choice.if_contains("message");
        bool is_text = message == nullptr || !message->is_object();
        if (impl_->take_message(is_text ? choice : message->get_object(), is_text))
            choice["finish_reason"] = blocked_reason;
    }
    return json::serialize(parsed);
}

std::string withheld(std::string_view answer) {
    json::value parsed = json::parse(answer);
    for (json::value& value : parsed.at("choices").as_array()) {
        json::object& choice = value.as_object();
        choice["finish_reason"] = blocked_reason;
        if (choice.contains("message"))
            choice["message"] = {{"role", "assistant"}, {"content", ""}};
        else
            choice["text"] = "";
        if (choice.contains("logprobs")) choice["logprobs"] = nullptr;
    }
    return json::serialize(parsed);
}

}  // namespace nebula::gateway::guardrails
