#include "accounts/people/store.hpp"

#include "accounts/people/attempts.hpp"

namespace nebula::accounts::people_sql {

using store::Row;
using store::Sql;
using store::Tx;

namespace {

// person_from() counts on this order of columns.
#define PERSON_COLUMNS                                                                         \
    "u.id, u.email, u.role, u.created_at, u.name, u.is_active, u.account_id, u.password_hash," \
    " u.email_verified_at, u.disabled_at, u.totp_secret, u.totp_pending, u.activation_pending"
#define PERSON_FROM "SELECT " PERSON_COLUMNS " FROM users u"
constexpr Sql by_email_sql{"people.by_email", PERSON_FROM " WHERE u.email = $1"};
constexpr Sql by_email_locked_sql{"people.by_email_locked", PERSON_FROM " WHERE u.email = $1",
                                  PERSON_FROM " WHERE u.email = $1 FOR UPDATE"};
constexpr Sql by_id_sql{"people.by_id", PERSON_FROM " WHERE u.id = $1"};
constexpr Sql by_id_locked_sql{"people.by_id_locked", PERSON_FROM " WHERE u.id = $1",
                               PERSON_FROM " WHERE u.id = $1 FOR UPDATE"};
constexpr Sql by_identity_sql{"people.by_identity", PERSON_FROM
                              " JOIN user_identities i ON i.user_id = u.id"
                              " WHERE i.issuer = $1 AND i.subject = $2"};
constexpr Sql list_sql{"people.list", PERSON_FROM
                       " WHERE u.email LIKE $1 ESCAPE '!' ORDER BY u.email"
                       " LIMIT $2 OFFSET $3"};
constexpr Sql count_sql{"people.count", "SELECT COUNT(*) FROM users WHERE email LIKE $1 ESCAPE '!'"};
constexpr Sql insert_sql{
    "people.insert",
    "INSERT INTO users (id, email, password_hash, role, created_at, name, is_active, email_verified_at,"
    " activation_pending) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"};

constexpr Sql account_named_sql{"people.account_named", "SELECT id FROM accounts WHERE name = $1"};
constexpr Sql insert_account_sql{"people.insert_account",
                                 "INSERT INTO accounts (id, name, created_at, kind, owner_id, display_name)"
                                 " VALUES ($1, $2, $3, 'personal', $4, $5)"};
constexpr Sql set_account_sql{"people.set_account", "UPDATE users SET account_id = $2 WHERE id = $1"};

constexpr Sql set_password_sql{"people.set_password",
                               "UPDATE users SET password_hash = $2, password_changed_at = $3 WHERE id = $1"};
constexpr Sql set_name_sql{"people.set_name", "UPDATE users SET name = $2 WHERE id = $1"};
constexpr Sql set_account_name_sql{"people.set_account_name",
                                   "UPDATE accounts SET display_name = $2 WHERE id = $1"};
constexpr Sql set_role_sql{"people.set_role", "UPDATE users SET role = $2 WHERE id = $1"};
constexpr Sql key_hashes_sql{"people.key_hashes",
                             "SELECT k.key_hash, k.previous_hash FROM api_keys k"
                             " JOIN accounts a ON a.id = k.account_id"
                             " WHERE a.owner_id = $1 AND a.kind = 'personal' AND k.revoked_at IS NULL"};
constexpr Sql disable_sql{"people.disable", "UPDATE users SET disabled_at = $2 WHERE id = $1"};
constexpr Sql set_verified_sql{
    "people.set_verified",
    "UPDATE users SET is_active = 1, email_verified_at = COALESCE(email_verified_at, $2)"
    " WHERE id = $1"};
constexpr Sql insert_identity_sql{
    "people.insert_identity",
    "INSERT INTO user_identities (issuer, subject, user_id, created_at) VALUES ($1, $2, $3, $4)"
    " ON CONFLICT (issuer, subject) DO NOTHING"};

constexpr Sql claim_activation_sql{
    "people.claim_activation",
    "UPDATE users SET activation_claimed_at = $2 WHERE id = $1 AND activation_pending = 1"
    " AND (activation_claimed_at IS NULL OR activation_claimed_at < $3)"};
constexpr Sql end_activation_sql{
    "people.end_activation",
    "UPDATE users SET activation_pending = $2, activation_claimed_at = NULL WHERE id = $1"};

constexpr Sql set_totp_pending_sql{"people.set_totp_pending",
                                   "UPDATE users SET totp_pending = $2 WHERE id = $1"};
constexpr Sql set_totp_sql{
    "people.set_totp",
    "UPDATE users SET totp_secret = $2, totp_pending = NULL, totp_last_step = $3 WHERE id = $1"};
constexpr Sql use_totp_sql{"people.use_totp",
                           "UPDATE users SET totp_last_step = $2 WHERE id = $1 AND totp_last_step < $2"};
constexpr Sql delete_codes_sql{"recovery_codes.delete", "DELETE FROM recovery_codes WHERE user_id = $1"};
constexpr Sql insert_code_sql{"recovery_codes.insert",
                              "INSERT INTO recovery_codes (user_id, code_hash) VALUES ($1, $2)"};
constexpr Sql use_code_sql{
    "recovery_codes.use",
    "UPDATE recovery_codes SET used_at = $3 WHERE user_id = $1 AND code_hash = $2 AND used_at IS NULL"};

#define SESSION_COLUMNS \
    "s.id, s.user_id, s.kind, s.created_at, s.last_seen_at, s.expires_at, s.ip, s.user_agent"
constexpr int session_columns = 8;
#define SIGNED_FROM \
    "SELECT " SESSION_COLUMNS ", " PERSON_COLUMNS " FROM sessions s JOIN users u ON u.id = s.user_id"
constexpr Sql insert_session_sql{"sessions.insert",
                                 "INSERT INTO sessions (id, user_id, kind, token_hash, created_at, "
                                 "last_seen_at, expires_at, ip, user_agent)"
                                 " VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8)"};
constexpr Sql session_by_hash_sql{"sessions.by_hash",
                                  SIGNED_FROM " WHERE s.token_hash = $1 AND s.expires_at > $2"};
constexpr Sql session_by_id_sql{"sessions.by_id", SIGNED_FROM " WHERE s.id = $1 AND s.expires_at > $2"};
constexpr Sql touch_session_sql{"sessions.touch",
                                "UPDATE sessions SET last_seen_at = $2 WHERE id = $1 AND last_seen_at < $2"};
constexpr Sql sessions_of_sql{"sessions.of_user",
                              "SELECT " SESSION_COLUMNS
                              " FROM sessions s WHERE s.user_id = $1 AND s.expires_at > $2"
                              " ORDER BY s.last_seen_at DESC, s.id DESC LIMIT 200"};
constexpr Sql delete_session_sql{"sessions.delete", "DELETE FROM sessions WHERE id = $1 AND user_id = $2"};
constexpr Sql delete_sessions_of_sql{"sessions.delete_of_user", "DELETE FROM sessions WHERE user_id = $1"};
#undef SIGNED_FROM
#undef SESSION_COLUMNS
#undef PERSON_FROM
#undef PERSON_COLUMNS

constexpr Sql insert_token_sql{
    "tokens.insert",
    "INSERT INTO one_time_tokens (token_hash, purpose, user_id, email, data, created_at, expires_at)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7)"};
constexpr Sql use_token_sql{"tokens.use",
                            "UPDATE one_time_tokens SET used_at = $3 WHERE token_hash = $1 AND purpose = $2"
                            " AND used_at IS NULL AND expires_at > $3"};
constexpr Sql open_token_sql{"tokens.is_open",
                             "SELECT 1 FROM one_time_tokens WHERE token_hash = $1 AND purpose = $2 AND "
                             "used_at IS NULL AND expires_at > $3"};
constexpr Sql used_token_sql{"tokens.used",
                             "SELECT user_id, email, data, created_at, expires_at FROM one_time_tokens"
                             " WHERE token_hash = $1 AND purpose = $2 AND used_at IS NOT NULL"};
constexpr Sql tokens_since_sql{
    "tokens.since",
    "SELECT COUNT(*) FROM one_time_tokens WHERE email = $1 AND purpose = $2 AND created_at > $3"};
constexpr Sql delete_tokens_sql{"tokens.delete_of_user", "DELETE FROM one_time_tokens WHERE user_id = $1"};
constexpr Sql team_invitation_sql{
    "invitations.is_open",
    "SELECT 1 FROM invitations WHERE token_hash = $1 AND email = $2 AND expires_at > $3"};

constexpr Sql begin_attempt_sql{
    "sign_in_failures.begin",
    "INSERT INTO sign_in_failures (email_hash, failures, locked_until, last_at) VALUES ($1, 1, 0, $2)"
    " ON CONFLICT (email_hash) DO UPDATE SET last_at = $2, failures ="
    " CASE WHEN sign_in_failures.last_at < $3 THEN 1 ELSE sign_in_failures.failures + 1 END"
    " WHERE sign_in_failures.locked_until <= $2"};
constexpr Sql attempts_sql{"sign_in_failures.by_email",
                           "SELECT failures, locked_until FROM sign_in_failures WHERE email_hash = $1"};
constexpr Sql lock_attempts_sql{"sign_in_failures.lock",
                                "UPDATE sign_in_failures SET locked_until = $2 WHERE email_hash = $1"};
constexpr Sql forgive_sql{"sign_in_failures.forgive",
                          "UPDATE sign_in_failures SET failures = failures - 1, locked_until = 0"
                          " WHERE email_hash = $1 AND failures > 0"};
constexpr Sql clear_attempts_sql{"sign_in_failures.clear",
                                 "DELETE FROM sign_in_failures WHERE email_hash = $1"};

constexpr Sql purge_sessions_sql{"sessions.purge", "DELETE FROM sessions WHERE expires_at < $1"};
constexpr Sql purge_tokens_sql{"tokens.purge", "DELETE FROM one_time_tokens WHERE expires_at < $1"};
constexpr Sql purge_failures_sql{"sign_in_failures.purge", "DELETE FROM sign_in_failures WHERE last_at < $1"};

constexpr Sql insert_secret_sql{
    "server_secrets.insert",
    "INSERT INTO server_secrets (name, value, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING"};
constexpr Sql secret_sql{"server_secrets.by_name", "SELECT value FROM server_secrets WHERE name = $1"};

constexpr Sql membership_sql{
    "members.of_team",
    "SELECT m.role, m.permissions FROM members m JOIN accounts a ON a.id = m.account_id"
    " WHERE m.account_id = $1 AND m.user_id = $2 AND a.deleted_at IS NULL"};

constexpr std::chrono::hours failures_keep{24};
constexpr std::chrono::hours tokens_keep{24};  // after their end: mails of the last hour are counted

struct SessionTag {
    static constexpr std::string_view prefix = "ses";
};

Person person_from(const Row& row, int first) {
    Person person;
    User& user = person.user;
    user.id = UserId::from_db(row.i64(first));
    user.email = row.text(first + 1);
    user.role = row.text(first + 2) == "operator" ? Role::operator_ : Role::customer;
    user.created_at = from_micros(row.i64(first + 3));
    user.name = row.text(first + 4);
    if (!row.is_null(first + 6)) user.account = AccountId::from_db(row.i64(first + 6));
    person.password_hash = row.text(first + 7);
    if (!row.is_null(first + 8)) person.verified_at = from_micros(row.i64(first + 8));
    person.is_disabled = !row.is_null(first + 9);
    user.is_active = row.i64(first + 5) != 0 && !person.is_disabled;
    if (!row.is_null(first + 10)) person.totp_secret = Secret(std::string(row.text(first + 10)));
    if (!row.is_null(first + 11)) person.totp_pending = Secret(std::string(row.text(first + 11)));
    user.has_totp = !person.totp_secret.empty();
    person.activation_pending = row.i64(first + 12) != 0;
    return person;
}

StoredSession session_from(const Row& row) {
    StoredSession stored;
    stored.id = row.i64(0);
    Session& session = stored.session;
    session.id = session_text(stored.id);
    session.user = UserId::from_db(row.i64(1));
    stored.is_cookie = row.text(2) == "cookie";
    session.created_at = from_micros(row.i64(3));
    session.last_seen_at = from_micros(row.i64(4));
    session.expires_at = from_micros(row.i64(5));
    session.ip = row.text(6);
    session.user_agent = row.text(7);
    return stored;
}

std::optional<Person> one_person(Tx& tx, const Sql& sql, std::initializer_list<store::Param> params) {
    std::optional<Person> found;
    tx.one(sql, params, [&](const Row& row) { found = person_from(row, 0); });
    return found;
}

std::optional<Signed> one_signed(Tx& tx, const Sql& sql, std::initializer_list<store::Param> params) {
    std::optional<Signed> found;
    tx.one(sql, params,
           [&](const Row& row) { found = Signed{session_from(row), person_from(row, session_columns)}; });
    return found;
}

store::Param or_null(const std::optional<Time>& time) {
    if (!time) return nullptr;
    return to_micros(*time);
}
store::Param or_null(std::string_view text) {
    if (text.empty()) return nullptr;
    return text;
}

const char* role_text(Role role) { return role == Role::operator_ ? "operator" : "customer"; }

}  // namespace

std::string session_text(std::int64_t id) { return Id<SessionTag>::from_db(id).text(); }
std::optional<std::int64_t> session_number(std::string_view text) {
    auto id = Id<SessionTag>::parse(text);
    if (!id) return std::nullopt;
    return id->db();
}

std::optional<Person> person_by_email(Tx& tx, std::string_view email, bool and_lock) {
    return one_person(tx, and_lock ? by_email_locked_sql : by_email_sql, {email});
}
std::optional<Person> person_by_id(Tx& tx, UserId id, bool and_lock) {
    return one_person(tx, and_lock ? by_id_locked_sql : by_id_sql, {id.db()});
}
std::optional<Person> person_by_identity(Tx& tx, std::string_view issuer, std::string_view subject) {
    return one_person(tx, by_identity_sql, {issuer, subject});
}

PersonPage people(Tx& tx, std::string_view part, std::int64_t limit, std::int64_t offset) {
    std::string pattern = "%";
    for (char c : part) {
        if (c == '%' || c == '_' || c == '!') pattern += '!';
        pattern += c;
    }
    pattern += '%';
    PersonPage page;
    tx.one(count_sql, {pattern}, [&](const Row& row) { page.total = row.i64(0); });
    tx.query(list_sql, {pattern, limit, offset},
             [&](const Row& row) { page.people.push_back(person_from(row, 0)); });
    return page;
}

void insert_person(Tx& tx, const Person& person) {
    const User& user = person.user;
    tx.exec(insert_sql, {user.id.db(), user.email, person.password_hash, role_text(user.role),
                         to_micros(user.created_at), user.name, std::int64_t{user.is_active},
                         or_null(person.verified_at), std::int64_t{person.activation_pending}});
}

void ensure_account(Tx& tx, const Clock& clock, Person& person) {
    if (person.user.account) return;
    constexpr std::size_t name_max = 100;
    AccountId id = AccountId::next(clock);
    std::string name = person.user.email;
    bool is_taken = name.size() > name_max || tx.one(account_named_sql, {name}, [](const Row&) {});
    if (is_taken) name = person.user.id.text();
    tx.exec(insert_account_sql,
            {id.db(), name, to_micros(clock.now()), person.user.id.db(), person.user.name});
    tx.exec(set_account_sql, {person.user.id.db(), id.db()});
    person.user.account = id;
}

void set_password(Tx& tx, UserId id, std::string_view hash, Time now) {
    tx.exec(set_password_sql, {id.db(), hash, to_micros(now)});
}
void set_name(Tx& tx, UserId id, AccountId account, std::string_view name) {
    tx.exec(set_name_sql, {id.db(), name});
    tx.exec(set_account_name_sql, {account.db(), name});
}
void set_role(Tx& tx, UserId id, Role role) { tx.exec(set_role_sql, {id.db(), role_text(role)}); }
void set_disabled(Tx& tx, UserId id, std::optional<Time> at) { tx.exec(disable_sql, {id.db(), or_null(at)}); }
std::vector<std::string> key_hashes_of(Tx& tx, UserId id) {
    std::vector<std::string> hashes;
    tx.query(key_hashes_sql, {id.db()}, [&](const Row& row) {
        for (int column : {0, 1})
            if (!row.is_null(column)) hashes.emplace_back(row.text(column));
    });
    return hashes;
}
void set_verified(Tx& tx, UserId id, Time now) { tx.exec(set_verified_sql, {id.db(), to_micros(now)}); }
void insert_identity(Tx& tx, std::string_view issuer, std::string_view subject, UserId user, Time now) {
    tx.exec(insert_identity_sql, {issuer, subject, user.db(), to_micros(now)});
}

bool claim_activation(Tx& tx, UserId id, Time now) {
    return tx.exec(claim_activation_sql,
                   {id.db(), to_micros(now), to_micros(now - std::chrono::minutes(1))}) == 1;
}
void end_activation(Tx& tx, UserId id, bool is_done) {
    tx.exec(end_activation_sql, {id.db(), std::int64_t{!is_done}});
}

void set_totp_pending(Tx& tx, UserId id, const Secret& secret) {
    tx.exec(set_totp_pending_sql, {id.db(), std::string_view(secret.reveal())});
}
void set_totp(Tx& tx, UserId id, const Secret& secret, std::int64_t step) {
    tx.exec(set_totp_sql, {id.db(), or_null(std::string_view(secret.reveal())), step});
}
bool use_totp_step(Tx& tx, UserId id, std::int64_t step) {
    return tx.exec(use_totp_sql, {id.db(), step}) == 1;
}
void replace_recovery_codes(Tx& tx, UserId id, const std::vector<std::string>& hashes) {
    tx.exec(delete_codes_sql, {id.db()});
    for (const std::string& hash : hashes) tx.exec(insert_code_sql, {id.db(), hash});
}
bool use_recovery_code(Tx& tx, UserId id, std::string_view hash, Time now) {
    return tx.exec(use_code_sql, {id.db(), hash, to_micros(now)}) == 1;
}

void insert_session(Tx& tx, const StoredSession& stored) {
    const Session& session = stored.session;
    tx.exec(insert_session_sql,
            {stored.id, session.user.db(), stored.is_cookie ? "cookie" : "token", or_null(stored.token_hash),
             to_micros(session.created_at), to_micros(session.expires_at), session.ip, session.user_agent});
}
std::optional<Signed> session_by_hash(Tx& tx, std::string_view hash, Time now) {
    return one_signed(tx, session_by_hash_sql, {hash, to_micros(now)});
}
std::optional<Signed> session_by_id(Tx& tx, std::int64_t id, Time now) {
    return one_signed(tx, session_by_id_sql, {id, to_micros(now)});
}
void touch_session(Tx& tx, std::int64_t id, Time now) { tx.exec(touch_session_sql, {id, to_micros(now)}); }
std::vector<Session> sessions_of(Tx& tx, UserId user, Time now) {
    std::vector<Session> all;
    tx.query(sessions_of_sql, {user.db(), to_micros(now)},
             [&](const Row& row) { all.push_back(session_from(row).session); });
    return all;
}
bool delete_session(Tx& tx, std::int64_t id, UserId user) {
    return tx.exec(delete_session_sql, {id, user.db()}) == 1;
}
std::int64_t delete_sessions_of(Tx& tx, UserId user) { return tx.exec(delete_sessions_of_sql, {user.db()}); }

void insert_token(Tx& tx, const Token& token) {
    store::Param user = nullptr;
    if (token.user) user = token.user.db();
    tx.exec(insert_token_sql, {token.hash, token.purpose, user, token.email, token.data,
                               to_micros(token.created_at), to_micros(token.expires_at)});
}
bool is_open_token(Tx& tx, std::string_view hash, std::string_view purpose, Time now) {
    return tx.one(open_token_sql, {hash, purpose, to_micros(now)}, [](const Row&) {});
}
std::optional<Token> used_token(Tx& tx, std::string_view hash, std::string_view purpose) {
    std::optional<Token> found;
    tx.one(used_token_sql, {hash, purpose}, [&](const Row& row) {
        UserId user = row.is_null(0) ? UserId() : UserId::from_db(row.i64(0));
        found = Token{std::string(hash),        std::string(purpose),     user,
                      std::string(row.text(1)), std::string(row.text(2)), from_micros(row.i64(3)),
                      from_micros(row.i64(4))};
    });
    return found;
}
std::optional<Token> use_token(Tx& tx, std::string_view hash, std::string_view purpose, Time now) {
    if (tx.exec(use_token_sql, {hash, purpose, to_micros(now)}) != 1) return std::nullopt;
    return used_token(tx, hash, purpose);
}
std::int64_t tokens_since(Tx& tx, std::string_view email, std::string_view purpose, Time since) {
    std::int64_t count = 0;
    tx.one(tokens_since_sql, {email, purpose, to_micros(since)}, [&](const Row& row) { count = row.i64(0); });
    return count;
}
void delete_tokens_of(Tx& tx, UserId user) { tx.exec(delete_tokens_sql, {user.db()}); }
bool has_team_invitation(Tx& tx, std::string_view hash, std::string_view email, Time now) {
    return tx.one(team_invitation_sql, {hash, email, to_micros(now)}, [](const Row&) {});
}

Attempt begin_attempt(Tx& tx, std::string_view email_hash, std::int64_t free_failures, Time now) {
    bool may_try =
        tx.exec(begin_attempt_sql, {email_hash, to_micros(now), to_micros(now - failures_keep)}) == 1;
    std::int64_t failures = 0, locked_until = 0;
    tx.one(attempts_sql, {email_hash}, [&](const Row& row) {
        failures = row.i64(0);
        locked_until = row.i64(1);
    });
    if (!may_try) return {true, from_micros(locked_until)};
    auto wait = lockout_after(failures, free_failures);
    if (wait.count() > 0) tx.exec(lock_attempts_sql, {email_hash, to_micros(now + wait)});
    return {};
}
void forgive_attempt(Tx& tx, std::string_view email_hash) { tx.exec(forgive_sql, {email_hash}); }
void clear_attempts(Tx& tx, std::string_view email_hash) { tx.exec(clear_attempts_sql, {email_hash}); }

void purge(Tx& tx, Time now) {
    tx.exec(purge_sessions_sql, {to_micros(now)});
    tx.exec(purge_tokens_sql, {to_micros(now - tokens_keep)});
    tx.exec(purge_failures_sql, {to_micros(now - failures_keep)});
}

std::string secret_text(Tx& tx, std::string_view name, const std::string& fresh, Time now) {
    tx.exec(insert_secret_sql, {name, fresh, to_micros(now)});
    std::string value;
    tx.one(secret_sql, {name}, [&](const Row& row) { value = row.text(0); });
    return value;
}

std::optional<Membership> membership(Tx& tx, AccountId team, UserId user) {
    std::optional<Membership> found;
    tx.one(membership_sql, {team.db(), user.db()}, [&](const Row& row) {
        auto role = static_cast<TeamRole>(row.i64(0));
        auto bits = static_cast<std::uint32_t>(row.i64(1));
        found = {role, role == TeamRole::owner ? Permissions::all() : Permissions(bits) & Permissions::all()};
    });
    return found;
}

}  // namespace nebula::accounts::people_sql
