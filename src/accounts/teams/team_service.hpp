#pragma once
// The rules of teams, without HTTP: who may do what to whom. Private to this module.
//
// Somebody who is not in a team gets not_found, whether it exists or not; who is in it but may not do that
// gets forbidden. Every change takes the account's row first, so changes of one team run one after the other.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "accounts/teams.hpp"
#include "accounts/teams/team_store.hpp"

namespace nebula::accounts {

struct NewInvitation {
    Invitation invitation;
    Secret token;  // shown once, and mailed
};

/// `caller` of every method is a person. Thread-safe.
class TeamService {
   public:
    /// `mailer` may be null (tests). `public_url`: of the console, for links.
    TeamService(store::Db& db, store::Notices& notices, Accounts& accounts, Mailer* mailer,
                std::string public_url, const Clock& clock)
        : db_(db),
          notices_(notices),
          accounts_(accounts),
          mailer_(mailer),
          public_url_(std::move(public_url)),
          clock_(clock) {}
    void set_holds_nothing(HoldsNothing hook) { holds_nothing_ = std::move(hook); }
    /// Called after the commit of whatever changed what the person may do.
    void set_forget(std::function<void(UserId)> forget) { forget_ = std::move(forget); }

    /// At most 100 own teams → conflict. Names need not be unique.
    Async<Result<Team>> create(Caller caller, std::string name, std::string description);
    Async<Result<std::vector<Team>>> list(Caller caller);
    Async<Result<Team>> get(Caller caller, AccountId team);
    /// Owner and admins.
    Async<Result<Team>> change(Caller caller, AccountId team, std::optional<std::string> name,
                               std::optional<std::string> description);
    /// Owner; conflict while it holds credits. Its keys end with it.
    Async<Result<void>> remove(Caller caller, AccountId team);

    Async<Result<std::vector<Member>>> members(Caller caller, AccountId team);
    /// Owner, admins, and members with team:write, who can give only what they have. Only the owner makes,
    /// changes and removes admins; nobody changes the owner or himself.
    Async<Result<Member>> change_member(Caller caller, AccountId team, UserId user,
                                        std::optional<TeamRole> role, std::optional<Permissions> permissions);
    Async<Result<void>> remove_member(Caller caller, AccountId team, UserId user, bool revoke_keys);
    /// Everybody but the owner.
    Async<Result<void>> leave(Caller caller, AccountId team);
    /// Owner, to a member; the former owner becomes an admin.
    Async<Result<void>> transfer(Caller caller, AccountId team, UserId to);
    /// The one team that `caller` manages and `user` is in, when a request names none: not_found, or
    /// invalid_request when there are several.
    Async<Result<AccountId>> shared_team(Caller caller, UserId user);

    /// The same for known and unknown addresses; members already → conflict. At most 100 open ones.
    Async<Result<NewInvitation>> invite(Caller caller, AccountId team, std::string email, TeamRole role,
                                        Permissions permissions);
    Async<Result<std::vector<Invitation>>> invitations(Caller caller, AccountId team);
    Async<Result<void>> cancel(Caller caller, AccountId team, std::int64_t invitation);
    /// Who holds the token may read it.
    Async<Result<Invitation>> invitation(std::string token);
    /// Only the person it is for; anybody else: not_found.
    Async<Result<Team>> accept(Caller caller, std::string token);

   private:
    struct Standing {
        sql::Membership own;
        Account team;
    };
    Result<Standing> standing(store::Tx& tx, const Caller& caller, AccountId team, bool is_change) const;
    Result<void> may_manage(const Standing& standing, const Caller& caller, const Member& target) const;
    void record(store::Tx& tx, const Caller& caller, AccountId team, const char* action, const char* resource,
                std::string id, std::string name, std::string details = {});
    void tell(store::Tx& tx, UserId user);
    std::vector<Sha256> revoke_keys(store::Tx& tx, const Caller& caller, AccountId team,
                                    std::optional<UserId> creator);
    void mail(const NewInvitation& invitation, const Caller& by);

    store::Db& db_;
    store::Notices& notices_;
    Accounts& accounts_;
    Mailer* mailer_;
    std::string public_url_;
    const Clock& clock_;
    HoldsNothing holds_nothing_;
    std::function<void(UserId)> forget_;
};

/// `caller` as it may act for `team`: itself for its own account, else as a member. Nothing for outsiders.
std::optional<Caller> acting_for(store::Tx& tx, const Caller& caller, AccountId team);

}  // namespace nebula::accounts
