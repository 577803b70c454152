#include "accounts/teams/team_store.hpp"

namespace nebula::accounts::sql {

using store::Row;
using store::Sql;
using store::Tx;

namespace {

// team_from() counts on this order of columns.
#define TEAM_FROM                                                                                    \
    "SELECT a.id, a.display_name, a.description, m.role, m.permissions,"                             \
    " (SELECT COUNT(*) FROM members c WHERE c.account_id = a.id), a.owner_id, COALESCE(o.name, '')," \
    " COALESCE(o.email, ''), a.created_at FROM members m JOIN accounts a ON a.id = m.account_id"     \
    " LEFT JOIN users o ON o.id = a.owner_id WHERE m.user_id = $1 AND a.kind = 'team'"               \
    " AND a.deleted_at IS NULL"
constexpr Sql teams_of_sql{"teams.of_user", TEAM_FROM " ORDER BY a.id"};
constexpr Sql team_of_sql{"teams.one_of_user", TEAM_FROM " AND a.id = $2"};
#undef TEAM_FROM
constexpr Sql count_owned_sql{
    "teams.count_owned",
    "SELECT COUNT(*) FROM members m JOIN accounts a ON a.id = m.account_id"
    " WHERE m.user_id = $1 AND m.role = 0 AND a.kind = 'team' AND a.deleted_at IS NULL"};
constexpr Sql change_team_sql{
    "teams.change",
    "UPDATE accounts SET display_name = $2, description = $3 WHERE id = $1 AND kind = 'team'"};
constexpr Sql set_owner_sql{"teams.set_owner",
                            "UPDATE accounts SET owner_id = $2 WHERE id = $1 AND kind = 'team'"};
constexpr Sql delete_team_sql{"teams.delete",
                              "UPDATE accounts SET deleted_at = $2 WHERE id = $1 AND kind = 'team'"};
constexpr Sql delete_members_sql{"teams.delete_members", "DELETE FROM members WHERE account_id = $1"};
constexpr Sql delete_invitations_sql{"teams.delete_invitations",
                                     "DELETE FROM invitations WHERE account_id = $1"};
constexpr Sql delete_ssh_keys_sql{"teams.delete_ssh_keys", "DELETE FROM ssh_keys WHERE account_id = $1"};
constexpr Sql is_personal_sql{"teams.is_personal",
                              "SELECT id FROM accounts WHERE id = $1 AND kind = 'personal'"};

constexpr Sql membership_sql{"members.membership",
                             "SELECT m.role, m.permissions FROM members m"
                             " JOIN accounts a ON a.id = m.account_id WHERE m.account_id = $1"
                             " AND m.user_id = $2 AND a.kind = 'team' AND a.deleted_at IS NULL"};
#define MEMBER_FROM                                                                         \
    "SELECT m.user_id, u.name, u.email, m.role, m.permissions, m.created_at FROM members m" \
    " JOIN users u ON u.id = m.user_id WHERE m.account_id = $1"
constexpr Sql members_sql{"members.list", MEMBER_FROM " ORDER BY m.created_at, m.user_id"};
constexpr Sql member_sql{"members.one", MEMBER_FROM " AND m.user_id = $2"};
#undef MEMBER_FROM
constexpr Sql insert_member_sql{
    "members.insert",
    "INSERT INTO members (account_id, user_id, role, permissions, created_at) VALUES ($1, $2, $3, $4, $5)"};
constexpr Sql change_member_sql{
    "members.change",
    "UPDATE members SET role = $3, permissions = $4 WHERE account_id = $1 AND user_id = $2"};
constexpr Sql delete_member_sql{"members.delete",
                                "DELETE FROM members WHERE account_id = $1 AND user_id = $2"};
constexpr Sql user_by_email_sql{"users.id_by_email", "SELECT id FROM users WHERE email = $1"};
constexpr Sql email_of_sql{"users.email_of", "SELECT email FROM users WHERE id = $1"};

constexpr Sql drop_same_sql{"invitations.drop_same",
                            "DELETE FROM invitations WHERE account_id = $1 AND email = $2"};
constexpr Sql insert_invitation_sql{
    "invitations.insert",
    "INSERT INTO invitations (account_id, email, role, permissions, token_hash, invited_by, created_at,"
    " expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id"};
#define INVITATION_FROM                                                                                     \
    "SELECT i.id, i.account_id, a.display_name, i.email, i.role, i.permissions, i.created_at, i.expires_at" \
    " FROM invitations i JOIN accounts a ON a.id = i.account_id"
constexpr Sql invitation_by_token_sql{"invitations.by_token",
                                      INVITATION_FROM " WHERE i.token_hash = $1 AND i.expires_at > $2"};
constexpr Sql invitations_sql{"invitations.list",
                              INVITATION_FROM " WHERE i.account_id = $1 AND i.expires_at > $2 ORDER BY i.id"};
constexpr Sql invitation_sql{"invitations.one", INVITATION_FROM " WHERE i.account_id = $1 AND i.id = $2"};
#undef INVITATION_FROM
constexpr Sql delete_invitation_sql{"invitations.delete",
                                    "DELETE FROM invitations WHERE account_id = $1 AND id = $2"};

constexpr Sql insert_ssh_sql{
    "ssh_keys.insert",
    "INSERT INTO ssh_keys (account_id, user_id, name, public_key, fingerprint, created_at)"
    " VALUES ($1, $2, $3, $4, $5, $6) RETURNING id"};
#define SSH_FROM                                                                                     \
    "SELECT id, account_id, user_id, name, public_key, fingerprint, created_at FROM ssh_keys WHERE " \
    "account_id = $1"
constexpr Sql ssh_keys_sql{"ssh_keys.list", SSH_FROM " ORDER BY id LIMIT $2 OFFSET $3"};
constexpr Sql ssh_key_sql{"ssh_keys.one", SSH_FROM " AND id = $2"};
#undef SSH_FROM
constexpr Sql count_ssh_sql{"ssh_keys.count", "SELECT COUNT(*) FROM ssh_keys WHERE account_id = $1"};
constexpr Sql rename_ssh_sql{"ssh_keys.rename",
                             "UPDATE ssh_keys SET name = $3 WHERE account_id = $1 AND id = $2"};
constexpr Sql delete_ssh_sql{"ssh_keys.delete", "DELETE FROM ssh_keys WHERE account_id = $1 AND id = $2"};

Membership membership_from(const Row& row, int role_column) {
    Membership found;
    found.role = static_cast<TeamRole>(row.i64(role_column));
    found.permissions = Permissions(static_cast<std::uint32_t>(row.i64(role_column + 1)));
    if (found.role != TeamRole::member) found.permissions = Permissions::all();
    return found;
}

Team team_from(const Row& row) {
    Team team;
    team.id = AccountId::from_db(row.i64(0));
    team.name = row.text(1);
    team.description = row.text(2);
    Membership own = membership_from(row, 3);
    team.role = own.role;
    team.permissions = own.permissions;
    team.members = row.i64(5);
    if (!row.is_null(6)) team.owner = UserId::from_db(row.i64(6));
    team.owner_name = row.text(7).empty() ? row.text(8) : row.text(7);
    team.created_at = from_micros(row.i64(9));
    return team;
}

Member member_from(const Row& row) {
    Member found;
    found.user = UserId::from_db(row.i64(0));
    found.name = row.text(1);
    found.email = row.text(2);
    Membership as = membership_from(row, 3);
    found.role = as.role;
    found.permissions = as.permissions;
    found.joined_at = from_micros(row.i64(5));
    return found;
}

Invitation invitation_from(const Row& row) {
    Invitation found;
    found.id = row.i64(0);
    found.team = AccountId::from_db(row.i64(1));
    found.team_name = row.text(2);
    found.email = row.text(3);
    Membership as = membership_from(row, 4);
    found.role = as.role;
    found.permissions = as.permissions;
    found.created_at = from_micros(row.i64(6));
    found.expires_at = from_micros(row.i64(7));
    return found;
}

SshKey ssh_key_from(const Row& row) {
    SshKey key;
    key.id = row.i64(0);
    key.account = AccountId::from_db(row.i64(1));
    if (!row.is_null(2)) key.user = UserId::from_db(row.i64(2));
    key.name = row.text(3);
    key.public_key = row.text(4);
    key.fingerprint = row.text(5);
    key.created_at = from_micros(row.i64(6));
    return key;
}

store::Param user_or_null(UserId user) {
    if (!user) return nullptr;
    return user.db();
}

std::int64_t number(TeamRole role) { return static_cast<std::int64_t>(role); }

}  // namespace

std::vector<Team> teams_of(Tx& tx, UserId user) {
    std::vector<Team> all;
    tx.query(teams_of_sql, {user.db()}, [&](const Row& row) { all.push_back(team_from(row)); });
    return all;
}

std::optional<Team> team_of(Tx& tx, UserId user, AccountId team) {
    std::optional<Team> found;
    tx.one(team_of_sql, {user.db(), team.db()}, [&](const Row& row) { found = team_from(row); });
    return found;
}

std::int64_t count_owned_teams(Tx& tx, UserId user) {
    std::int64_t count = 0;
    tx.one(count_owned_sql, {user.db()}, [&](const Row& row) { count = row.i64(0); });
    return count;
}

void change_team(Tx& tx, AccountId team, std::string_view name, std::string_view description) {
    tx.exec(change_team_sql, {team.db(), name, description});
}

void set_team_owner(Tx& tx, AccountId team, UserId owner) { tx.exec(set_owner_sql, {team.db(), owner.db()}); }

void delete_team(Tx& tx, AccountId team, Time at) {
    tx.exec(delete_members_sql, {team.db()});
    tx.exec(delete_invitations_sql, {team.db()});
    tx.exec(delete_ssh_keys_sql, {team.db()});
    tx.exec(delete_team_sql, {team.db(), to_micros(at)});
}

bool is_personal(Tx& tx, AccountId account) {
    return tx.one(is_personal_sql, {account.db()}, [](const Row&) {});
}

std::optional<Membership> membership(Tx& tx, AccountId team, UserId user) {
    std::optional<Membership> found;
    tx.one(membership_sql, {team.db(), user.db()}, [&](const Row& row) { found = membership_from(row, 0); });
    return found;
}

std::vector<Member> members(Tx& tx, AccountId team) {
    std::vector<Member> all;
    tx.query(members_sql, {team.db()}, [&](const Row& row) { all.push_back(member_from(row)); });
    return all;
}

std::optional<Member> member(Tx& tx, AccountId team, UserId user) {
    std::optional<Member> found;
    tx.one(member_sql, {team.db(), user.db()}, [&](const Row& row) { found = member_from(row); });
    return found;
}

void insert_member(Tx& tx, AccountId team, UserId user, const Membership& as, Time at) {
    tx.exec(insert_member_sql,
            {team.db(), user.db(), number(as.role), std::int64_t{as.permissions.bits()}, to_micros(at)});
}

void change_member(Tx& tx, AccountId team, UserId user, const Membership& as) {
    tx.exec(change_member_sql, {team.db(), user.db(), number(as.role), std::int64_t{as.permissions.bits()}});
}

void delete_member(Tx& tx, AccountId team, UserId user) {
    tx.exec(delete_member_sql, {team.db(), user.db()});
}

std::optional<UserId> user_by_email(Tx& tx, std::string_view email) {
    std::optional<UserId> found;
    tx.one(user_by_email_sql, {email}, [&](const Row& row) { found = UserId::from_db(row.i64(0)); });
    return found;
}

std::optional<std::string> email_of(Tx& tx, UserId user) {
    std::optional<std::string> found;
    tx.one(email_of_sql, {user.db()}, [&](const Row& row) { found = std::string(row.text(0)); });
    return found;
}

std::int64_t put_invitation(Tx& tx, const Invitation& invitation, const Sha256& token, UserId by) {
    tx.exec(drop_same_sql, {invitation.team.db(), invitation.email});
    std::string hash = to_hex(token.bytes);
    std::int64_t id = 0;
    tx.one(insert_invitation_sql,
           {invitation.team.db(), invitation.email, number(invitation.role),
            std::int64_t{invitation.permissions.bits()}, hash, user_or_null(by),
            to_micros(invitation.created_at), to_micros(invitation.expires_at)},
           [&](const Row& row) { id = row.i64(0); });
    return id;
}

std::optional<Invitation> invitation_by_token(Tx& tx, const Sha256& token, Time now) {
    std::optional<Invitation> found;
    std::string hash = to_hex(token.bytes);
    tx.one(invitation_by_token_sql, {hash, to_micros(now)},
           [&](const Row& row) { found = invitation_from(row); });
    return found;
}

std::vector<Invitation> invitations(Tx& tx, AccountId team, Time now) {
    std::vector<Invitation> all;
    tx.query(invitations_sql, {team.db(), to_micros(now)},
             [&](const Row& row) { all.push_back(invitation_from(row)); });
    return all;
}

std::optional<Invitation> invitation(Tx& tx, AccountId team, std::int64_t id) {
    std::optional<Invitation> found;
    tx.one(invitation_sql, {team.db(), id}, [&](const Row& row) { found = invitation_from(row); });
    return found;
}

void delete_invitation(Tx& tx, AccountId team, std::int64_t id) {
    tx.exec(delete_invitation_sql, {team.db(), id});
}

std::int64_t insert_ssh_key(Tx& tx, const SshKey& key) {
    std::int64_t id = 0;
    tx.one(insert_ssh_sql,
           {key.account.db(), user_or_null(key.user), key.name, key.public_key, key.fingerprint,
            to_micros(key.created_at)},
           [&](const Row& row) { id = row.i64(0); });
    return id;
}

std::vector<SshKey> ssh_keys(Tx& tx, AccountId account, std::int64_t limit, std::int64_t offset) {
    std::vector<SshKey> all;
    tx.query(ssh_keys_sql, {account.db(), limit, offset},
             [&](const Row& row) { all.push_back(ssh_key_from(row)); });
    return all;
}

std::int64_t count_ssh_keys(Tx& tx, AccountId account) {
    std::int64_t count = 0;
    tx.one(count_ssh_sql, {account.db()}, [&](const Row& row) { count = row.i64(0); });
    return count;
}

std::optional<SshKey> ssh_key(Tx& tx, AccountId account, std::int64_t id) {
    std::optional<SshKey> found;
    tx.one(ssh_key_sql, {account.db(), id}, [&](const Row& row) { found = ssh_key_from(row); });
    return found;
}

void rename_ssh_key(Tx& tx, AccountId account, std::int64_t id, std::string_view name) {
    tx.exec(rename_ssh_sql, {account.db(), id, name});
}

void delete_ssh_key(Tx& tx, AccountId account, std::int64_t id) {
    tx.exec(delete_ssh_sql, {account.db(), id});
}

}  // namespace nebula::accounts::sql
