// Passwords forgotten and changed. A change ends every session and every token that was made with the former
// one.
#include "accounts/people/impl.hpp"
#include "accounts/validate.hpp"
#include "base/crypto.hpp"

namespace nebula::accounts {

using people_sql::Person;
using store::Tx;

namespace {

constexpr std::chrono::hours reset_lifetime{1};
constexpr std::int64_t mails_per_hour = 3;

Mail reset_mail(const std::string& to, const std::string& url) {
    return {to, "A new password for Nebula",
            "Open this link to choose a new password:\n\n" + url +
                "\n\nIt is good for one hour. If you did not ask for it, ignore this mail.\n"};
}

Mail changed_mail(const std::string& to) {
    return {to, "Your Nebula password was changed",
            "The password of your account was changed and all sessions were ended.\n"
            "If that was not you, ask for a new password at once.\n"};
}

}  // namespace

Async<Result<void>> People::Impl::request_password_reset(std::string email, std::string ip) {
    auto allowed = may_try(ip);
    if (!allowed) co_return fail(allowed.error());
    auto address = check_email(email);
    if (!address) co_return fail(address.error());
    auto [token, text] = new_token("reset", {}, *address, reset_lifetime);
    // An unknown address gets a row too, which nobody can use: else it would be answered faster.
    auto ask = [this, token](Tx& tx) -> Result<bool> {
        purge_sometimes(tx);
        auto person = people_sql::person_by_email(tx, token.email);
        auto recent =
            people_sql::tokens_since(tx, token.email, "reset", token.created_at - std::chrono::hours(1));
        bool is_known = person && !person->is_disabled;
        people_sql::Token stored = token;
        if (is_known) stored.user = person->user.id;
        people_sql::insert_token(tx, stored);
        return is_known && recent < mails_per_hour;
    };
    auto may_mail = co_await db.in_tx(std::move(ask));
    if (!may_mail) co_return fail(may_mail.error());
    if (*may_mail) mailer.send(reset_mail(*address, url("/reset-password?token=" + text)));
    co_return Result<void>();
}

Async<Result<void>> People::Impl::reset_password(std::string token, Secret password) {
    auto good = check_password(password);
    if (!good) co_return fail(good.error());
    std::string token_hash = to_hex(sha256(token).bytes);
    auto look = [token_hash, now = clock.now()](Tx& tx) -> Result<bool> {
        return people_sql::is_open_token(tx, token_hash, "reset", now);
    };
    auto is_open = co_await db.read(std::move(look));
    if (!is_open) co_return fail(is_open.error());
    if (!*is_open) co_return bad_token();
    auto hashed = co_await hash(std::move(password));
    if (!hashed) co_return fail(hashed.error());
    auto reset = [this, token_hash, hashed = std::move(*hashed)](Tx& tx) -> Result<Person> {
        Time now = clock.now();
        auto found = people_sql::use_token(tx, token_hash, "reset", now);
        if (!found || !found->user) return bad_token();
        auto person = people_sql::person_by_id(tx, found->user, true);
        if (!person || person->is_disabled) return bad_token();
        people_sql::set_password(tx, person->user.id, hashed, now);
        people_sql::set_verified(tx, person->user.id, now);  // the link came by mail
        people_sql::ensure_account(tx, clock, *person);
        people_sql::delete_tokens_of(tx, person->user.id);
        people_sql::clear_attempts(tx, to_hex(sha256(person->user.email).bytes));
        end_sessions(tx, person->user.id);
        audit(tx, *person, {}, "Update", "Password");
        return std::move(*person);
    };
    auto person = co_await db.in_tx(std::move(reset));
    if (!person) co_return fail(person.error());
    cache.drop_user(person->user.id);
    mailer.send(changed_mail(person->user.email));
    if (person->activation_pending) co_await activate(person->user.id, person->user.account);
    co_return Result<void>();
}

Async<Result<void>> People::Impl::change_password(Caller caller, Secret current, Secret fresh) {
    if (caller.kind != Caller::Kind::person) co_return not_signed_in();
    auto good = check_password(fresh);
    if (!good) co_return fail(good.error());
    if (current == fresh)
        co_return fail(Code::invalid_request, "Current and new passwords must be different.", "password");
    auto confirmed = co_await confirm_password(caller.user, std::move(current));
    if (!confirmed) co_return fail(confirmed.error());
    auto hashed = co_await hash(std::move(fresh));
    if (!hashed) co_return fail(hashed.error());
    auto change = [this, caller, former = confirmed->password_hash,
                   hashed = std::move(*hashed)](Tx& tx) -> Result<Person> {
        auto person = people_sql::person_by_id(tx, caller.user, true);
        if (!person || person->password_hash != former)
            return fail(Code::conflict, "the password has just been changed", "current_password");
        people_sql::ensure_account(tx, clock, *person);
        people_sql::set_password(tx, caller.user, hashed, clock.now());
        people_sql::delete_tokens_of(tx, caller.user);
        end_sessions(tx, caller.user);
        audit(tx, *person, caller.ip, "Update", "Password");
        return std::move(*person);
    };
    auto person = co_await db.in_tx(std::move(change));
    if (!person) co_return fail(person.error());
    cache.drop_user(caller.user);
    mailer.send(changed_mail(person->user.email));
    co_return Result<void>();
}

Async<Result<User>> People::Impl::rename(Caller caller, std::string name) {
    auto good = check_name(name, "name");
    if (!good) co_return fail(good.error());
    auto change = [this, caller, name = *good](Tx& tx) -> Result<User> {
        auto person = people_sql::person_by_id(tx, caller.user, true);
        if (!person) return not_signed_in();
        people_sql::ensure_account(tx, clock, *person);
        people_sql::set_name(tx, caller.user, person->user.account, name);
        person->user.name = name;
        notices.publish(tx, "user", caller.user.text());
        audit(tx, *person, caller.ip, "Update", "User", caller.user.text(), name);
        return person->user;
    };
    auto user = co_await db.in_tx(std::move(change));
    if (user) cache.drop_user(caller.user);
    co_return user;
}

Async<Result<User>> People::Impl::user(UserId id) {
    auto look = [id](Tx& tx) -> Result<User> {
        auto person = people_sql::person_by_id(tx, id);
        if (!person) return not_signed_in();
        return person->user;
    };
    co_return co_await db.read(std::move(look));
}

}  // namespace nebula::accounts
