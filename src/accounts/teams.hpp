#pragma once
// Teams: accounts with several people. Roles, permission groups, invitations by token, transfer, leave,
// remove. Every change writes its audit row in the same transaction and tells other nodes ("user" notice).

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "accounts/accounts.hpp"
#include "accounts/audit.hpp"
#include "accounts/caller.hpp"
#include "accounts/guard.hpp"
#include "accounts/people.hpp"

namespace nebula::accounts {

struct Team {
    AccountId id;
    std::string name;
    std::string description;
    TeamRole role = TeamRole::member;  // of who asks
    Permissions permissions;
    std::int64_t members = 0;
    UserId owner;
    std::string owner_name;
    Time created_at;
};
struct Member {
    UserId user;
    std::string name;
    std::string email;
    TeamRole role = TeamRole::member;
    Permissions permissions;
    Time joined_at;
};
struct Invitation {
    std::int64_t id = 0;
    AccountId team;
    std::string team_name;
    std::string email;  // who it is for; only that person may accept it
    TeamRole role = TeamRole::member;
    Permissions permissions;
    Time created_at;
    Time expires_at;  // 7 days
};

/// What a key has spent: in all, today, since Monday, this month (UTC).
struct KeyUsage {
    Nanos total;
    Nanos daily;
    Nanos weekly;
    Nanos monthly;
    // The list price of what went to providers with the customer's own keys.
    Nanos byok_total = {};
    Nanos byok_daily = {};
    Nanos byok_weekly = {};
    Nanos byok_monthly = {};
};
/// Billing answers; app connects it.
using KeyUsageOf = std::function<Async<Result<KeyUsage>>(AccountId, KeyId)>;
/// True when the account holds no credits, so that its team may be deleted.
using HoldsNothing = std::function<Async<Result<bool>>(AccountId)>;

/// Thread-safe; the setters before the routes are served.
class Teams {
   public:
    Teams(const PeopleSettings& settings, store::Db& db, store::Notices& notices, Accounts& accounts,
          People& people, Mailer& mailer, const Clock& clock, metrics::Registry& metrics);
    ~Teams();

    /// Without it every figure is 0.
    void set_key_usage(KeyUsageOf usage);
    /// Without it every team may be deleted by its owner.
    void set_holds_nothing(HoldsNothing hook);

    /// Routes of teams, invitations, API keys (all spellings), SSH keys and the audit log:
    /// platform /api/v1/teams…, /api/v1/keys, /api-keys, /api_keys, /api/v1/ssh-keys,
    /// /api/v1/users/user-activity; credit API /api/keys; OpenRouter /api/v1/key, /api/v1/keys/{hash};
    /// console /console/api/….
    void register_routes(http::Router& router, Guard& guard);

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nebula::accounts
