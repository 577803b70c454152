#pragma once
// SQL of teams, members, invitations and SSH keys, as functions of a transaction. Private to this module.

#include <optional>
#include <string>
#include <vector>

#include "accounts/teams.hpp"

namespace nebula::accounts::sql {

std::vector<Team> teams_of(store::Tx& tx, UserId user);
std::optional<Team> team_of(store::Tx& tx, UserId user, AccountId team);
std::int64_t count_owned_teams(store::Tx& tx, UserId user);
void change_team(store::Tx& tx, AccountId team, std::string_view name, std::string_view description);
void set_team_owner(store::Tx& tx, AccountId team, UserId owner);
/// The row stays, without members, invitations and SSH keys.
void delete_team(store::Tx& tx, AccountId team, Time at);
/// The personal account's own name is its person's.
bool is_personal(store::Tx& tx, AccountId account);

struct Membership {
    TeamRole role = TeamRole::member;
    Permissions permissions;  // owners and admins: all
};
std::optional<Membership> membership(store::Tx& tx, AccountId team, UserId user);
std::vector<Member> members(store::Tx& tx, AccountId team);
std::optional<Member> member(store::Tx& tx, AccountId team, UserId user);
void insert_member(store::Tx& tx, AccountId team, UserId user, const Membership& as, Time at);
void change_member(store::Tx& tx, AccountId team, UserId user, const Membership& as);
void delete_member(store::Tx& tx, AccountId team, UserId user);
std::optional<UserId> user_by_email(store::Tx& tx, std::string_view email);
std::optional<std::string> email_of(store::Tx& tx, UserId user);

/// In place of an earlier one to the same address.
std::int64_t put_invitation(store::Tx& tx, const Invitation& invitation, const Sha256& token, UserId by);
std::optional<Invitation> invitation_by_token(store::Tx& tx, const Sha256& token, Time now);
std::vector<Invitation> invitations(store::Tx& tx, AccountId team, Time now);
std::optional<Invitation> invitation(store::Tx& tx, AccountId team, std::int64_t id);
void delete_invitation(store::Tx& tx, AccountId team, std::int64_t id);

struct SshKey {
    std::int64_t id = 0;
    AccountId account;
    UserId user;
    std::string name;
    std::string public_key;
    std::string fingerprint;
    Time created_at;
};
/// Throws store::UniqueViolation when the account has the key already. Gives the id.
std::int64_t insert_ssh_key(store::Tx& tx, const SshKey& key);
std::vector<SshKey> ssh_keys(store::Tx& tx, AccountId account, std::int64_t limit, std::int64_t offset);
std::int64_t count_ssh_keys(store::Tx& tx, AccountId account);
std::optional<SshKey> ssh_key(store::Tx& tx, AccountId account, std::int64_t id);
void rename_ssh_key(store::Tx& tx, AccountId account, std::int64_t id, std::string_view name);
void delete_ssh_key(store::Tx& tx, AccountId account, std::int64_t id);

}  // namespace nebula::accounts::sql
