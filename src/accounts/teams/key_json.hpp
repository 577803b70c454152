#pragma once
// API keys as JSON: the union of the platform's members and OpenRouter's. Private to this module.

#include <optional>
#include <string>

#include "accounts/teams.hpp"
#include "accounts/teams/edge.hpp"

namespace nebula::accounts {

/// Whose words a path speaks. They differ in one thing that cannot be had twice: the platform's created_at is
/// UNIX seconds, OpenRouter's and the console's is ISO 8601.
enum class KeyStyle { platform, openrouter, console };

/// A key with what is told beside it.
struct KeyView {
    Key key;
    std::optional<Account> team;  // of a team's key
    KeyUsage usage;
};

/// `text` only where the key is shown: when it is made. Everywhere else `key` is its masked form.
json::object key_object(const KeyView& view, KeyStyle style, Time now, const std::string* text = nullptr);
/// `data` of OpenRouter's GET /key.
json::object own_key_object(const KeyView& view);

/// A budget as OpenRouter has it: one amount and when it starts anew (empty: never).
struct OneLimit {
    Nanos amount;  // 0 = none
    std::string reset;
};
OneLimit one_limit(const KeyBudget& budget);
/// What is left of it; nothing when there is no limit.
std::optional<Nanos> limit_remaining(const KeyBudget& budget, const KeyUsage& usage);

/// What a request asks to make or change; `current` is what the key has (a new one: nothing). Every mistake
/// names its field.
Result<KeyChange> read_key_change(http::Fields& fields, const Key& current);
/// The body has a member that only OpenRouter's API knows.
bool is_openrouter_body(const http::Fields& fields);

}  // namespace nebula::accounts
