// What the operator does with users. Every change stands in the log of the user's own account, in the name of
// the operator.
#include "accounts/people/impl.hpp"
#include "accounts/validate.hpp"

namespace nebula::accounts {

using people_sql::Person;
using store::Tx;

namespace {

constexpr std::chrono::hours invitation_lifetime{7 * 24};

AuditEntry entry_of(const Person& person, std::string action) {
    return {person.user.account, std::move(action), "User", person.user.id.text(), person.user.email, {}};
}

}  // namespace

Async<Result<People::Impl::UserPage>> People::Impl::users(std::string part, std::int64_t limit,
                                                          std::int64_t offset) {
    auto list = [part, limit, offset](Tx& tx) -> Result<UserPage> {
        auto page = people_sql::people(tx, part, limit, offset);
        return UserPage{std::move(page.people), page.total};
    };
    co_return co_await db.read(std::move(list));
}

Async<Result<People::Impl::Invited>> People::Impl::invite(Caller caller, std::string email) {
    auto address = check_email(email);
    if (!address) co_return fail(address.error());
    auto [token, text] = new_token("invite", {}, *address, invitation_lifetime);
    auto insert = [this, caller, token](Tx& tx) -> Result<bool> {
        if (people_sql::person_by_email(tx, token.email))
            return fail(Code::conflict, "a user with this e-mail address exists", "email");
        people_sql::insert_token(tx, token);
        write_audit(tx, clock, caller, {caller.account, "Create", "Invitation", {}, token.email, {}});
        return true;
    };
    auto inserted = co_await db.in_tx(std::move(insert));
    if (!inserted) co_return fail(inserted.error());
    Invited invited{*address, url("/sign-up?invitation=" + text + "&email=" + *address), token.expires_at};
    mailer.send(
        {*address, "You are invited to Nebula",
         "Open this link to make your account:\n\n" + invited.url + "\n\nIt is good for seven days.\n"});
    co_return invited;
}

Async<Result<User>> People::Impl::create_user(Caller caller, std::string email, Secret password,
                                              std::string name, Role role) {
    auto address = check_email(email);
    if (!address) co_return fail(address.error());
    auto good = check_password(password);
    if (!good) co_return fail(good.error());
    if (!name.empty()) {
        auto good_name = check_name(name, "name");
        if (!good_name) co_return fail(good_name.error());
    }
    auto hashed = co_await hash(std::move(password));
    if (!hashed) co_return fail(hashed.error());
    Person person;
    person.user = {UserId::next(clock), *address, role, clock.now(), std::move(name), true};
    person.password_hash = std::move(*hashed);
    person.verified_at = clock.now();  // the operator vouches
    person.activation_pending = true;
    auto insert = [this, caller, person](Tx& tx) -> Result<User> {
        Person made = person;
        try {
            people_sql::insert_person(tx, made);
        } catch (const store::UniqueViolation&) {
            return fail(Code::conflict, "a user with this e-mail address exists", "email");
        }
        people_sql::ensure_account(tx, clock, made);
        write_audit(tx, clock, caller, entry_of(made, "Create"));
        return made.user;
    };
    auto user = co_await db.in_tx(std::move(insert));
    if (user) co_await activate(user->id, user->account);
    co_return user;
}

Async<Result<User>> People::Impl::change_user(Caller caller, UserId id, UserChange change) {
    if (id == caller.user)
        co_return fail(Code::conflict, "ask another operator to change your own user", "id");
    auto apply = [this, caller, id, change](Tx& tx) -> Result<Person> {
        auto person = people_sql::person_by_id(tx, id, true);
        if (!person) return fail(Code::not_found, "there is no such user", "id");
        people_sql::ensure_account(tx, clock, *person);
        if (change.is_active && !*change.is_active) {
            people_sql::set_disabled(tx, id, clock.now());
            people_sql::delete_tokens_of(tx, id);
        } else if (change.is_active) {
            people_sql::set_disabled(tx, id, std::nullopt);
            people_sql::set_verified(tx, id, clock.now());  // the operator vouches
        }
        // Whether a key is good is remembered: every process looks again.
        if (change.is_active)
            for (const std::string& hash : people_sql::key_hashes_of(tx, id))
                notices.publish(tx, "key", hash);
        if (change.role) people_sql::set_role(tx, id, *change.role);
        // Sessions know the role they were made with for a while; both changes must count at once.
        end_sessions(tx, id);
        write_audit(tx, clock, caller, entry_of(*person, "Update"));
        auto changed = people_sql::person_by_id(tx, id);
        if (!changed) return fail(Code::not_found, "there is no such user", "id");
        return std::move(*changed);
    };
    auto person = co_await db.in_tx(std::move(apply));
    if (!person) co_return fail(person.error());
    cache.drop_user(id);
    if (person->user.is_active && person->activation_pending)
        co_await activate(person->user.id, person->user.account);
    co_return person->user;
}

}  // namespace nebula::accounts
