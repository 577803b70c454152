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
    std::string ip;
};

/// What came of it, to be told by mail after the commit.
struct SignedUp {
    Person person;
    bool is_new = false;
    bool is_waiting = false;     // for the mailed link to be opened
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

/// Everything that can be told from the request alone; the address in its normal form.
Result<std::string> checked(const std::string& email, const Secret& password, const std::string& name) {
    auto address = check_email(email);
    if (!address) return address;
    auto good = check_password(password);
    if (!good) return fail(good.error());
    if (name.empty()) return address;
    auto good_name = check_name(name, "name");
    if (!good_name) return fail(good_name.error());
    return address;
}

/// For this very address. The operator's invitation vouches for it. The token of a team's is seen by whoever
/// invites, a customer: it opens a closed door but proves nothing, or anybody could sign up as anybody.
struct Invited {
    bool may_enter = false;
    bool is_vouched = false;
};
Result<Invited> is_invited(Tx& tx, const Wanted& wanted, Time now) {
    if (wanted.invitation.empty()) return Invited{};
    auto invited = people_sql::use_token(tx, wanted.invitation, "invite", now);
    if (invited && invited->email != wanted.email) return not_invited();
    if (invited) return Invited{true, true};
    return Invited{people_sql::has_team_invitation(tx, wanted.invitation, wanted.email, now), false};
}

bool is_waiting(const Person& person) {
    return !person.verified_at && !person.user.is_active && !person.is_disabled;
}

/// Nothing happens to whom the address belongs already, unless nobody has shown yet that it is theirs.
SignedUp known_address(Tx& tx, const Wanted& wanted, Person known, bool is_vouched, Time now) {
    SignedUp done;
    done.is_waiting = is_waiting(known);
    if (done.is_waiting && is_vouched) {
        // The operator gave the invitation to the owner of the address, whoever came first.
        people_sql::set_password(tx, known.user.id, wanted.password_hash, now);
        people_sql::set_verified(tx, known.user.id, now);
        done.is_active_now = true;
    }
    done.person = std::move(known);
    return done;
}

/// Not a coroutine: runs start to finish on a database thread.
Result<SignedUp> enter(People::Impl& impl, Tx& tx, const Wanted& wanted, people_sql::Token token) {
    Time now = impl.clock.now();
    auto invited = is_invited(tx, wanted, now);
    if (!invited) return fail(invited.error());
    if (impl.settings.sign_up == "invite" && !invited->may_enter) return not_invited();
    bool may_mail =
        people_sql::tokens_since(tx, wanted.email, "verify", now - std::chrono::hours(1)) < mails_per_hour;
    SignedUp done;
    if (auto known = people_sql::person_by_email(tx, wanted.email, true)) {
        done = known_address(tx, wanted, std::move(*known), invited->is_vouched, now);
        if (done.is_waiting) token.user = done.person.user.id;
    } else {
        Person& person = done.person;
        person.user = {UserId::next(impl.clock),
                       wanted.email,
                       Role::customer,
                       now,
                       wanted.name,
                       invited->is_vouched || !impl.settings.verify_email};
        person.password_hash = wanted.password_hash;
        if (invited->is_vouched) person.verified_at = now;
        person.activation_pending = true;
        done.is_new = done.is_waiting = true;
        done.is_active_now = person.user.is_active;
        try {
            people_sql::insert_person(tx, person);
        } catch (const store::UniqueViolation&) {
            return fail(Code::conflict, "try again", "email");
        }
        people_sql::ensure_account(tx, impl.clock, person);
        impl.audit(tx, person, wanted.ip, "Create", "User", person.user.id.text(), person.user.email);
        token.user = person.user.id;
    }
    done.may_mail = may_mail && !done.person.is_disabled;
    people_sql::insert_token(tx, token);  // for a known address too: it takes its time
    return done;
}

}  // namespace

Async<Result<User>> People::Impl::sign_up(std::string email, Secret password, std::string name,
                                          std::string invitation, std::string ip) {
    if (settings.sign_up == "closed")
        co_return fail(Code::forbidden, "signing up is closed, ask the operator for an account");
    auto allowed = may_try(ip);
    if (!allowed) co_return fail(allowed.error());
    auto address = checked(email, password, name);
    if (!address) co_return fail(address.error());
    if (settings.sign_up == "invite" && invitation.empty()) co_return not_invited();
    auto hashed = co_await hash(std::move(password));
    if (!hashed) co_return fail(hashed.error());

    Wanted wanted{*address, name, std::move(*hashed), {}, ip};
    if (!invitation.empty()) wanted.invitation = to_hex(sha256(invitation).bytes);
    auto [token, token_text] = new_token("verify", {}, *address, verify_lifetime);
    token.data = wanted.password_hash;
    auto work = [this, wanted, token](Tx& tx) { return enter(*this, tx, wanted, token); };
    auto done = co_await db.in_tx(work);
    // Two at once with one address: the second one finds the first.
    if (!done && done.error().code == Code::conflict) done = co_await db.in_tx(work);
    if (!done) co_return fail(done.error());

    const User& person = done->person.user;
    User answer{UserId::next(clock), *address, Role::customer,
                clock.now(),         name,     !settings.verify_email || done->is_active_now};
    if (done->is_new) answer = person;
    if (done->is_active_now) {
        co_await activate(person.id, person.account);
    } else if (done->may_mail) {
        Mail mail = done->is_waiting ? verify_mail(*address, url("/verify-email?token=" + token_text))
                                     : exists_mail(*address, url("/sign-in"));
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
