#pragma once
// The rails that the operator configured, ready for use, and what one request makes of them.

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/metrics.hpp"
#include "base/secret.hpp"
#include "base/settings.hpp"
#include "gateway/guardrails/filter.hpp"
#include "gateway/guardrails/settings.hpp"
#include "gateway/guardrails/texts.hpp"
#include "http/client.hpp"

namespace nebula::gateway::guardrails {

/// What a refusal by a rail has as its `param`; dialects have words for it.
inline constexpr std::string_view content_policy = "content_policy";

enum class Kind : std::uint8_t { limits, words, personal, moderation, hook };
enum class Action : std::uint8_t { block, mask, log };

/// One [[guardrail]]. Immutable; any thread.
struct Rail {
    GuardrailSettings settings;
    Kind kind = Kind::limits;
    Action action = Action::block;
    bool is_enforced = false;
    bool on_input = false, on_output = false;
    bool fails_open = false;
    Matchers matchers;
    http::ParsedUrl url;
    Secret secret;
    metrics::Counter *matched = nullptr, *failed = nullptr;
    metrics::Histogram* seconds = nullptr;  // of rails that ask somebody

    bool applies(std::string_view model, std::string_view key) const;
    bool reads_text() const { return !matchers.empty(); }
};

class Rails {
   public:
    /// `problems` gets a line for each mistake: unknown words, bad patterns and URLs, missing secrets.
    Rails(const std::vector<GuardrailSettings>& settings, metrics::Registry& metrics,
          std::vector<std::string>& problems);
    bool empty() const { return rails_.empty(); }
    /// Those for this request, in the order of the file.
    std::vector<const Rail*> of(std::string_view model, std::string_view key) const;

   private:
    std::vector<std::unique_ptr<Rail>> rails_;
};

/// Numbered names that stand for personal data of one request: "[EMAIL_1]". The same text gets the same name.
class Placeholders final : public Matcher {
   public:
    static constexpr std::size_t names_max = 10'000;

    /// `request`: names that stand in it already are not used. Only reversible ones get a meaning. Empty: too
    /// many.
    std::string name_for(std::string_view kind, std::string_view found, std::string_view request,
                         bool is_reversible);
    /// What the name stands for; empty: nothing.
    std::string_view meaning(std::string_view name) const;
    bool empty() const { return by_name_.empty(); }

    std::string_view kind() const override { return "NAME"; }
    std::size_t reach() const override { return 32; }
    std::optional<Match> find(std::string_view text, std::size_t from, std::size_t until) const override;
    /// Only what looks like the beginning of a name is held back.
    std::size_t undecided(std::string_view text) const override;

   private:
    std::map<std::string, std::string, std::less<>> by_text_, by_name_;
    std::map<std::string, std::size_t, std::less<>> counts_;
};

/// Why a request is refused.
struct Refusal {
    const Rail* rail = nullptr;
    std::string reason;        // bounded word or a category of the moderation model
    std::string excerpt;       // of the client's own text, at most 100 characters; never logged
    std::string message = {};  // of a hook; empty: ours
};

/// What the input rails that read text make of a request's JSON.
struct Judged {
    EditedTexts texts;
    std::optional<Refusal> refusal;
};
/// `placeholders` gets what reversible rails replace; `matched` each rail that found something, once.
Result<Judged> judge_input(const std::vector<const Rail*>& rails, std::string_view json,
                           Placeholders& placeholders, std::vector<const Rail*>& matched);

/// At most 100 characters around `found` for the one who wrote it.
std::string excerpt_of(std::string_view text);

}  // namespace nebula::gateway::guardrails
