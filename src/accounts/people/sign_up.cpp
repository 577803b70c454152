// Signing up. Whoever asks learns nothing about who is here already: the answer, the hashing and the SQL are
// the same, and what there is to say goes by mail to the address itself.
#include "accounts/people/impl.hpp"
#include "accounts/validate.hpp"
#include "base/crypto.hpp"

namespace nebula::accounts {

using people_sql::Person;
using store::Tx;

namespace {

constexpr std::chrono::hours verify_lifetime{48};
constexpr std::int64_t mails_per_hour = 5;

std::unexpected<Error> not_invited() {
    return fail(Code::forbidden, "signing up needs an invitation for this e-mail address", "invitation");
}

struct Wanted {
    std::string email;
    std::string name;
    std::string password_hash;
    std::string invitation;  // hash; empty: none
};

/// What came of it, to be told by mail after the commit.
struct SignedUp {
    Person person;
    bool is_new = false;
    bool is_active_now = false;  // became active by this
    bool may_mail = true;
};

Mail verify_mail(const std::string& to, const std::string& url) {
    return {to, "Activate your Nebula account",
            "Open this link to activate your account:\n\n" + url +
                "\n\nIt is good for two days. If you did not sign up, ignore this mail.\n"};
}

Mail exists_mail(const std::string& to, const std::string& url) {
    return {to, "You have a Nebula account already",
            "Somebody, perhaps you, tried to sign up with this address, which has an account.\n"
            "Sign in, or ask for a new password, here:\n\n" +
                url + "\n"};
}

}  // namespace

Async<Result<User>> People::Impl::sign_up(std::string email, Secret password, std::string name,
                                          std::string invitation, std::string ip) {
    if (settings.sign_up == "closed")
        co_return fail(Code::forbidden, "signing up is closed, ask the operator for an account");
    auto allowed = may_try(ip);
    if (!allowed) co_return fail(allowed.error());
    auto good_email = check_email(email);
    if (!good_email) co_return fail(good_email.error());
    auto good_password = check_password(password);
    if (!good_password) co_return fail(good_password.error());
    if (!name.empty()) {
        auto good_name = check_name(name, "name");
        if (!good_name) co_return fail(good_name.error());
    }
    if (settings.sign_up == "invite" && invitation.empty()) co_return not_invited();
    auto hashed = co_await hash(std::move(password));
    if (!hashed) co_return fail(hashed.error());

    Wanted wanted{*good_email, name, std::move(*hashed), {}};
    if (!invitation.empty()) wanted.invitation = to_hex(sha256(invitation).bytes);
    auto [token, token_text] = new_token("verify", {}, *good_email, verify_lifetime);
    token.data = wanted.password_hash;
    // Not a coroutine: runs start to finish on a database thread.
    auto enter = [this, wanted, token, ip](Tx& tx) -> Result<SignedUp> {
        Time now = clock.now();
        SignedUp done;
        // The operator's invitation vouches for the address. The token of a team's is seen by whoever
        // invites, so it lets somebody sign up but proves nothing.
        bool is_vouched = false, is_invited = false;
        if (!wanted.invitation.empty()) {
            auto invited = people_sql::use_token(tx, wanted.invitation, "invite", now);
            is_vouched = invited && invited->email == wanted.email;
            is_invited =
                is_vouched || people_sql::has_team_invitation(tx, wanted.invitation, wanted.email, now);
            if (invited && invited->email != wanted.email) return not_invited();
        }
        if (settings.sign_up == "invite" && !is_invited) return not_invited();
        done.may_mail = people_sql::tokens_since(tx, wanted.email, "verify", now - std::chrono::hours(1)) <
                        mails_per_hour;
        auto known = people_sql::person_by_email(tx, wanted.email, true);
        bool becomes_active = is_vouched || !settings.verify_email;
        people_sql::Token stored = token;
        if (!known) {
            Person& person = done.person;
            person.user = {UserId::next(clock), wanted.email,  Role::customer, now,
                           wanted.name,         becomes_active};
            person.password_hash = wanted.password_hash;
            if (is_vouched) person.verified_at = now;
            person.activation_pending = true;
            done.is_new = true;
            done.is_active_now = becomes_active;
            try {
                people_sql::insert_person(tx, person);
            } catch (const store::UniqueViolation&) {
                return fail(Code::conflict, "try again", "email");
            }
            people_sql::ensure_account(tx, clock, person);
            audit(tx, person, ip, "Create", "User", person.user.id.text(), person.user.email);
        } else {
            done.person = *known;
            bool is_waiting = !known->verified_at && !known->user.is_active && !known->is_disabled;
            if (is_waiting && is_vouched) {
                // The invitation was mailed to the address, so this is its owner, whoever came first.
                people_sql::set_password(tx, known->user.id, wanted.password_hash, now);
                people_sql::set_verified(tx, known->user.id, now);
                done.is_active_now = true;
            } else if (is_waiting) {
                stored.user = known->user.id;
            }
        }
        if (done.is_new) stored.user = done.person.user.id;
        people_sql::insert_token(tx, stored);  // for a known address too: it takes its time
        return done;
    };
    auto done = co_await db.in_tx(enter);
    // Two at once with one address: the second one finds the first.
    if (!done && done.error().code == Code::conflict) done = co_await db.in_tx(enter);
    if (!done) co_return fail(done.error());

    const User& person = done->person.user;
    User answer{UserId::next(clock), *good_email, Role::customer,
                clock.now(),         name,        !settings.verify_email || done->is_active_now};
    if (done->is_new) answer = person;
    if (done->is_active_now) {
        co_await activate(person.id, person.account);
    } else if (done->may_mail && !done->person.is_disabled) {
        bool is_waiting = done->is_new || (!done->person.verified_at && !person.is_active);
        Mail mail = is_waiting ? verify_mail(*good_email, url("/verify-email?token=" + token_text))
                               : exists_mail(*good_email, url("/sign-in"));
        mailer.send(std::move(mail));
    }
    co_return answer;
}

Async<Result<void>> People::Impl::verify_email(std::string token) {
    std::string hash = to_hex(sha256(token).bytes);
    auto verify = [this, hash](Tx& tx) -> Result<Person> {
        Time now = clock.now();
        auto found = people_sql::use_token(tx, hash, "verify", now);
        bool is_first = found.has_value();
        // Mail programs open links too: a second time is no mistake.
        if (!found) found = people_sql::used_token(tx, hash, "verify");
        if (!found || !found->user) return bad_token();
        auto person = people_sql::person_by_id(tx, found->user, true);
        if (!person || person->is_disabled || (!is_first && !person->verified_at)) return bad_token();
        if (person->verified_at) return std::move(*person);
        // The password of the sign-up whose link was opened, not of somebody else's with this address.
        people_sql::set_password(tx, person->user.id, found->data, now);
        people_sql::set_verified(tx, person->user.id, now);
        people_sql::ensure_account(tx, clock, *person);
        end_sessions(tx, person->user.id);
        audit(tx, *person, {}, "Update", "User", person->user.id.text(), "e-mail address verified");
        return std::move(*person);
    };
    auto person = co_await db.in_tx(std::move(verify));
    if (!person) co_return fail(person.error());
    cache.drop_user(person->user.id);
    if (person->activation_pending) co_await activate(person->user.id, person->user.account);
    co_return Result<void>();
}

}  // namespace nebula::accounts
