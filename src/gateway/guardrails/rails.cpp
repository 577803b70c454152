#include "gateway/guardrails/rails.hpp"

#include <algorithm>
#include <cstdlib>

namespace nebula::gateway::guardrails {
namespace {

constexpr std::size_t excerpt_characters_max = 100;

Kind kind_of(const std::string& word) {
    if (word == "limits") return Kind::limits;
    if (word == "pii") return Kind::personal;
    if (word == "moderation") return Kind::moderation;
    return word == "hook" ? Kind::hook : Kind::words;
}

Action action_of(const std::string& word) {
    if (word == "mask") return Action::mask;
    return word == "log" ? Action::log : Action::block;
}

bool is_named(const std::vector<std::string>& names, std::string_view name) {
    return names.empty() || std::ranges::any_of(names, [name](const std::string& allowed) {
               return allowed.ends_with('*')
                          ? name.starts_with(std::string_view(allowed).substr(0, allowed.size() - 1))
                          : name == allowed;
           });
}

// Fills what only this kind needs; the mistake, if there is one.
Result<void> prepare(Rail& rail) {
    const GuardrailSettings& settings = rail.settings;
    switch (rail.kind) {
        case Kind::limits:
            if (settings.prompt_bytes_max == 0 && settings.messages_max == 0)
                return fail(Code::invalid_request, "needs prompt_bytes_max or messages_max");
            return {};
        case Kind::words: {
            if (settings.words.empty() && settings.patterns.empty())
                return fail(Code::invalid_request, "needs words or patterns");
            if (!settings.words.empty()) {
                auto words = make_words(settings.words);
                if (!words) return fail(std::move(words.error()));
                rail.matchers.push_back(std::move(*words));
            }
            for (const std::string& text : settings.patterns) {
                auto pattern = make_pattern(text, static_cast<std::size_t>(settings.match_bytes_max));
                if (!pattern) return fail(std::move(pattern.error()));
                rail.matchers.push_back(std::move(*pattern));
            }
            return {};
        }
        case Kind::personal:
            for (const std::string& entity : settings.entities)
                rail.matchers.push_back(make_personal(entity));
            if (rail.matchers.empty()) return fail(Code::invalid_request, "needs entities");
            if (settings.reversible && (rail.action != Action::mask || rail.on_output))
                return fail(Code::invalid_request, "reversible needs action mask and apply_to input");
            return {};
        case Kind::moderation:
            if (settings.moderation_model.empty())
                return fail(Code::invalid_request, "needs moderation_model");
            if (rail.on_output) return fail(Code::invalid_request, "moderation is for apply_to input only");
            return {};
        case Kind::hook: {
            auto url = http::parse_url(settings.url);
            if (!url) return fail(Code::invalid_request, "url: " + url.error().message);
            rail.url = std::move(*url);
            if (settings.secret_env.empty()) return {};
            const char* secret = std::getenv(settings.secret_env.c_str());
            if (secret == nullptr || *secret == '\0')
                return fail(Code::invalid_request, "the environment has no " + settings.secret_env);
            rail.secret = Secret(secret);
            return {};
        }
    }
    return {};
}

}  // namespace

bool Rail::applies(std::string_view model, std::string_view key) const {
    return is_named(settings.models, model) && is_named(settings.keys, key);
}

Rails::Rails(const std::vector<GuardrailSettings>& all, metrics::Registry& metrics,
             std::vector<std::string>& problems) {
    for (const GuardrailSettings& settings : all) {
        auto rail = std::make_unique<Rail>();
        rail->settings = settings;
        rail->kind = kind_of(settings.kind);
        rail->action = action_of(settings.action);
        rail->is_enforced = settings.mode == "enforce";
        rail->on_input = settings.apply_to != "output";
        rail->on_output = settings.apply_to != "input";
        rail->fails_open = settings.on_failure == "open";
        auto is_same = [&settings](const auto& other) { return other->settings.name == settings.name; };
        auto good = prepare(*rail);
        if (good && std::ranges::any_of(rails_, is_same))
            good = fail(Code::invalid_request, "the name is used twice");
        if (!good) {
            problems.push_back("guardrail '" + settings.name + "': " + good.error().message);
            continue;
        }
        metrics::Labels labels{{"rail", settings.name}, {"mode", settings.mode}};
        auto outcome = [&](const char* word) {
            metrics::Labels with = labels;
            with.emplace_back("outcome", word);
            return &metrics.counter("nebula_guardrail_total",
                                    "Requests in which a guard rail found something.", with);
        };
        rail->matched = outcome(rail->reads_text() ? settings.action.c_str() : "block");
        rail->failed = outcome("failed");
        if (rail->kind == Kind::moderation || rail->kind == Kind::hook)
            rail->seconds = &metrics.histogram("nebula_guardrail_seconds", "Asking a guard rail.", labels);
        rails_.push_back(std::move(rail));
    }
}

std::vector<const Rail*> Rails::of(std::string_view model, std::string_view key) const {
    std::vector<const Rail*> found;
    for (const auto& rail : rails_)
        if (rail->applies(model, key)) found.push_back(rail.get());
    return found;
}

std::string Placeholders::name_for(std::string_view kind, std::string_view found, std::string_view request,
                                   bool is_reversible) {
    std::string key = std::string(kind) + ' ' + std::string(found);
    if (auto known = by_text_.find(key); known != by_text_.end()) return known->second;
    if (by_text_.size() >= names_max) return {};
    std::size_t& count = counts_[std::string(kind)];
    std::string name;
    do {
        name = '[' + std::string(kind) + '_' + std::to_string(++count) + ']';
    } while (request.find(name) != std::string_view::npos);
    by_text_.emplace(std::move(key), name);
    if (is_reversible) by_name_.emplace(name, found);
    return name;
}

std::string_view Placeholders::meaning(std::string_view name) const {
    auto known = by_name_.find(name);
    return known == by_name_.end() ? std::string_view() : std::string_view(known->second);
}

std::optional<Match> Placeholders::find(std::string_view text, std::size_t from, std::size_t until) const {
    for (std::size_t at = text.find('[', from); at < until; at = text.find('[', at + 1)) {
        std::size_t end = text.substr(at, reach()).find(']');
        if (end == std::string_view::npos) continue;
        if (!meaning(text.substr(at, end + 1)).empty()) return Match{at, at + end + 1};
    }
    return std::nullopt;
}

std::size_t Placeholders::undecided(std::string_view text) const {
    std::size_t from = Matcher::undecided(text);
    std::size_t open = text.find_last_of('[');
    bool may_go_on = open != std::string_view::npos && open >= from &&
                     std::ranges::all_of(text.substr(open + 1), [](char c) {
                         return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
                     });
    return may_go_on ? open : text.size();
}

std::string excerpt_of(std::string_view text) {
    std::size_t end = 0;
    for (std::size_t characters = 0; end < text.size(); ++end) {
        bool is_first_byte = (static_cast<unsigned char>(text[end]) & 0xC0) != 0x80;
        if (is_first_byte && ++characters > excerpt_characters_max) break;
    }
    return std::string(text.substr(0, end));
}

namespace {

class Judge {
   public:
    Judge(const std::vector<const Rail*>& rails, std::string_view json, Placeholders& placeholders,
          std::vector<const Rail*>& matched)
        : rails_(rails), json_(json), placeholders_(placeholders), matched_(matched) {}

    Result<Judged> judge() {
        EditText edit = [this](std::string_view text, std::string& instead) { return look(text, instead); };
        auto texts = edit_texts(json_, edit);
        if (!texts) return fail(std::move(texts.error()));
        judged_.texts = std::move(*texts);
        for (const Rail* rail : rails_) check(*rail);
        return std::move(judged_);
    }

   private:
    void note(const Rail& rail) {
        if (std::ranges::find(matched_, &rail) == matched_.end()) matched_.push_back(&rail);
    }
    void refuse(const Rail& rail, std::string_view reason, std::string_view text) {
        note(rail);
        if (!rail.is_enforced || judged_.refusal) return;
        judged_.refusal = {.rail = &rail, .reason = std::string(reason), .excerpt = excerpt_of(text)};
    }

    // What does not depend on single texts.
    void check(const Rail& rail) {
        if (!rail.on_input) return;
        const GuardrailSettings& settings = rail.settings;
        if (rail.kind == Kind::limits) {
            if (settings.prompt_bytes_max > 0 &&
                judged_.texts.bytes > static_cast<std::size_t>(settings.prompt_bytes_max))
                refuse(rail, "prompt_bytes_max", {});
            if (settings.messages_max > 0 &&
                judged_.texts.messages > static_cast<std::size_t>(settings.messages_max))
                refuse(rail, "messages_max", {});
        } else if (judged_.texts.has_tokens && (rail.reads_text() || rail.kind == Kind::moderation)) {
            refuse(rail, "unreadable", {});  // nobody can see what it says
        }
    }

    bool look(std::string_view text, std::string& instead) {
        std::string current;
        bool is_changed = false;
        for (const Rail* rail : rails_) {
            if (!rail->on_input || !rail->reads_text()) continue;
            std::string_view now = is_changed ? std::string_view(current) : text;
            bool is_stopped = false;
            OnMatch on_match = [this, rail, now](const Matcher& matcher, std::string_view found) {
                return act(*rail, matcher, found, now);
            };
            auto filtered = filter_text(rail->matchers, on_match, now, is_stopped);
            if (judged_.refusal) return false;
            if (!filtered) continue;
            current = std::move(*filtered);
            is_changed = true;
        }
        if (is_changed) instead = std::move(current);
        return is_changed;
    }

    std::optional<std::string> act(const Rail& rail, const Matcher& matcher, std::string_view found,
                                   std::string_view text) {
        note(rail);
        if (!rail.is_enforced || rail.action == Action::log) return std::string(found);
        if (rail.action == Action::mask) {
            if (rail.kind != Kind::personal) return rail.settings.replacement;
            std::string name = placeholders_.name_for(matcher.kind(), found, json_, rail.settings.reversible);
            if (!name.empty()) return name;
        }
        std::size_t at = text.find(found);
        refuse(rail, matcher.kind(), at == std::string_view::npos ? found : text.substr(at));
        return std::nullopt;
    }

    const std::vector<const Rail*>& rails_;
    std::string_view json_;
    Placeholders& placeholders_;
    std::vector<const Rail*>& matched_;
    Judged judged_;
};

}  // namespace

Result<Judged> judge_input(const std::vector<const Rail*>& rails, std::string_view json,
                           Placeholders& placeholders, std::vector<const Rail*>& matched) {
    return Judge(rails, json, placeholders, matched).judge();
}

}  // namespace nebula::gateway::guardrails
