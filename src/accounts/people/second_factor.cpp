#include "accounts/people/impl.hpp"
#include "accounts/people/totp.hpp"

namespace nebula::accounts {

using people_sql::Person;
using store::Tx;

namespace {

std::unexpected<Error> has_one() {
    return fail(Code::conflict, "there is a second factor already, remove it first", "totp");
}

}  // namespace

Async<Result<People::Impl::NewTotp>> People::Impl::begin_totp(Caller caller) {
    Secret secret = make_totp_secret();
    auto begin = [user = caller.user, secret](Tx& tx) -> Result<bool> {
        auto person = people_sql::person_by_id(tx, user, true);
        if (!person) return not_signed_in();
        if (!person->totp_secret.empty()) return has_one();
        people_sql::set_totp_pending(tx, user, secret);
        return true;
    };
    auto begun = co_await db.in_tx(std::move(begin));
    if (!begun) co_return fail(begun.error());
    std::string link = totp_url(secret, caller.email);
    co_return NewTotp{std::move(secret), std::move(link)};
}

Async<Result<std::vector<std::string>>> People::Impl::confirm_totp(Caller caller, std::string code) {
    std::vector<std::string> codes = make_recovery_codes();
    std::vector<std::string> hashes;
    for (const std::string& one : codes) hashes.push_back(recovery_code_hash(one));
    auto confirm = [this, caller, code = std::move(code),
                    hashes = std::move(hashes)](Tx& tx) -> Result<bool> {
        auto person = people_sql::person_by_id(tx, caller.user, true);
        if (!person) return not_signed_in();
        if (!person->totp_secret.empty()) return has_one();
        if (person->totp_pending.empty())
            return fail(Code::conflict, "begin with a new second factor first", "totp");
        auto step = matching_totp_step(person->totp_pending, code, clock.now());
        if (!step) return fail(Code::invalid_request, "the code is wrong", "code");
        people_sql::ensure_account(tx, clock, *person);
        people_sql::set_totp(tx, caller.user, person->totp_pending, *step);
        people_sql::replace_recovery_codes(tx, caller.user, hashes);
        audit(tx, *person, caller.ip, "Add", "Second Factor");
        return true;
    };
    auto confirmed = co_await db.in_tx(std::move(confirm));
    if (!confirmed) co_return fail(confirmed.error());
    co_return codes;
}

Async<Result<void>> People::Impl::remove_totp(Caller caller, Secret password) {
    auto confirmed = co_await confirm_password(caller.user, std::move(password));
    if (!confirmed) co_return fail(confirmed.error());
    auto remove = [this, caller](Tx& tx) -> Result<Person> {
        auto person = people_sql::person_by_id(tx, caller.user, true);
        if (!person) return not_signed_in();
        people_sql::ensure_account(tx, clock, *person);
        people_sql::set_totp(tx, caller.user, {}, 0);
        people_sql::replace_recovery_codes(tx, caller.user, {});
        audit(tx, *person, caller.ip, "Remove", "Second Factor");
        return std::move(*person);
    };
    auto person = co_await db.in_tx(std::move(remove));
    if (!person) co_return fail(person.error());
    mailer.send({person->user.email, "The second factor of your Nebula account was removed",
                 "Signing in to your account needs the password only from now on.\n"
                 "If that was not you, change your password at once.\n"});
    co_return Result<void>();
}

}  // namespace nebula::accounts
