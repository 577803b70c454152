#pragma once
// The SQL of people, as functions of a transaction. Private to this module.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "accounts/people.hpp"

namespace nebula::accounts::people_sql {

/// A user with what signing in needs.
struct Person {
    User user;
    std::string password_hash;  // no_password: signs in by OpenID Connect only
    std::optional<Time> verified_at;
    bool is_disabled = false;
    Secret totp_secret;  // base32; empty: no second factor
    Secret totp_pending;
    bool activation_pending = false;
};
constexpr std::string_view no_password = "!";

/// `and_lock`: nobody else changes the row until the transaction ends.
std::optional<Person> person_by_email(store::Tx& tx, std::string_view email, bool and_lock = false);
std::optional<Person> person_by_id(store::Tx& tx, UserId id, bool and_lock = false);
std::optional<Person> person_by_identity(store::Tx& tx, std::string_view issuer, std::string_view subject);
struct PersonPage {
    std::vector<Person> people;
    std::int64_t total = 0;
};
/// By e-mail address; those whose address contains `part`.
PersonPage people(store::Tx& tx, std::string_view part, std::int64_t limit, std::int64_t offset);

/// Throws UniqueViolation when the address is taken.
void insert_person(store::Tx& tx, const Person& person);
/// Makes the person's own account, named by the e-mail address (by the user's id where an account of that
/// name exists or the address is too long), unless there is one. Sets `person.user.account`.
void ensure_account(store::Tx& tx, const Clock& clock, Person& person);
void set_password(store::Tx& tx, UserId id, std::string_view hash, Time now);
void set_name(store::Tx& tx, UserId id, AccountId account, std::string_view name);
void set_role(store::Tx& tx, UserId id, Role role);
void set_disabled(store::Tx& tx, UserId id, std::optional<Time> at);
/// Of the personal account's keys, former ones included: in hexadecimal.
std::vector<std::string> key_hashes_of(store::Tx& tx, UserId id);
/// Active, address verified.
void set_verified(store::Tx& tx, UserId id, Time now);
void insert_identity(store::Tx& tx, std::string_view issuer, std::string_view subject, UserId user, Time now);

/// True: the caller runs what happens at activation; nobody else does for a minute.
bool claim_activation(store::Tx& tx, UserId id, Time now);
void end_activation(store::Tx& tx, UserId id, bool is_done);

// Second factor.
void set_totp_pending(store::Tx& tx, UserId id, const Secret& secret);
void set_totp(store::Tx& tx, UserId id, const Secret& secret, std::int64_t step);  // empty: none
/// False when that step, or a newer one, was used before.
bool use_totp_step(store::Tx& tx, UserId id, std::int64_t step);
void replace_recovery_codes(store::Tx& tx, UserId id, const std::vector<std::string>& hashes);
bool use_recovery_code(store::Tx& tx, UserId id, std::string_view hash, Time now);

// Sessions. "ses_…" and the number behind it.
std::string session_text(std::int64_t id);
std::optional<std::int64_t> session_number(std::string_view text);
struct StoredSession {
    Session session;
    std::int64_t id = 0;
    bool is_cookie = true;
    std::string token_hash;
};
void insert_session(store::Tx& tx, const StoredSession& stored);
/// With the person it belongs to; expired ones are not found.
struct Signed {
    StoredSession stored;
    Person person;
};
std::optional<Signed> session_by_hash(store::Tx& tx, std::string_view hash, Time now);
std::optional<Signed> session_by_id(store::Tx& tx, std::int64_t id, Time now);
void touch_session(store::Tx& tx, std::int64_t id, Time now);
std::vector<Session> sessions_of(store::Tx& tx, UserId user, Time now);
bool delete_session(store::Tx& tx, std::int64_t id, UserId user);
std::int64_t delete_sessions_of(store::Tx& tx, UserId user);

// One-time tokens.
struct Token {
    std::string hash;
    std::string purpose;
    UserId user;  // may be empty
    std::string email;
    std::string data;
    Time created_at;
    Time expires_at;
};
void insert_token(store::Tx& tx, const Token& token);
/// Marks it used; nothing when it is unknown, used or expired.
std::optional<Token> use_token(store::Tx& tx, std::string_view hash, std::string_view purpose, Time now);
/// Could be used; it is not marked.
bool is_open_token(store::Tx& tx, std::string_view hash, std::string_view purpose, Time now);
std::optional<Token> used_token(store::Tx& tx, std::string_view hash, std::string_view purpose);
std::int64_t tokens_since(store::Tx& tx, std::string_view email, std::string_view purpose, Time since);
void delete_tokens_of(store::Tx& tx, UserId user);
/// A team's open invitation for that address.
bool has_team_invitation(store::Tx& tx, std::string_view hash, std::string_view email, Time now);

// Failed sign-ins.
struct Attempt {
    bool is_locked = false;
    Time locked_until;
};
/// Counts an attempt as failed until it is known to be none, so that guesses side by side gain nothing.
Attempt begin_attempt(store::Tx& tx, std::string_view email_hash, std::int64_t free_failures, Time now);
void forgive_attempt(store::Tx& tx, std::string_view email_hash);  // neither right nor wrong
void clear_attempts(store::Tx& tx, std::string_view email_hash);

/// What has expired: sessions, tokens, failures.
void purge(store::Tx& tx, Time now);

std::string secret_text(store::Tx& tx, std::string_view name, const std::string& fresh, Time now);

struct Membership {
    TeamRole role = TeamRole::member;
    Permissions permissions;
};
std::optional<Membership> membership(store::Tx& tx, AccountId team, UserId user);

}  // namespace nebula::accounts::people_sql
