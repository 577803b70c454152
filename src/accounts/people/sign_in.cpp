// Signing in. An unknown address costs what a known one costs: one look-up, one computation, one lock.
#include "accounts/people/impl.hpp"
#include "accounts/people/totp.hpp"
#include "accounts/validate.hpp"
#include "base/crypto.hpp"

namespace nebula::accounts {

using people_sql::Person;
using store::Tx;

namespace {

std::unexpected<Error> wrong() {
    return fail(Code::unauthenticated, "the e-mail address or the password is wrong", "password");
}

std::string email_hash(std::string_view email) { return to_hex(sha256(email).bytes); }

std::unexpected<Error> locked(Time until, Time now) {
    Error error{Code::rate_limited, "too many failed attempts, wait before the next one"};
    auto wait = std::chrono::ceil<std::chrono::milliseconds>(until - now);
    error.retry_after_ms = static_cast<int>(std::max<std::int64_t>(wait.count(), 1));
    return fail(std::move(error));
}

std::string cut(std::string text, std::size_t size) {
    if (text.size() > size) text.resize(size);
    std::erase_if(text, [](char c) { return c < ' ' || c == 0x7f; });  // what is not plain ASCII too
    return text;
}

bool takes_code(People::Impl& impl, Tx& tx, const Person& person, const std::string& code) {
    if (auto step = matching_totp_step(person.totp_secret, code, impl.clock.now()))
        return people_sql::use_totp_step(tx, person.user.id, *step);
    return people_sql::use_recovery_code(tx, person.user.id, recovery_code_hash(code), impl.clock.now());
}

/// With the right password: the second factor, then the session. Not a coroutine: runs start to finish on a
/// database thread.
Result<Person> finish(People::Impl& impl, Tx& tx, const Person& checked,
                      const people_sql::StoredSession& session, const std::string& code) {
    auto person = people_sql::person_by_id(tx, checked.user.id, true);
    // Changed while the password was being compared.
    if (!person || !person->user.is_active || person->password_hash != checked.password_hash) return wrong();
    if (!person->totp_secret.empty() && !takes_code(impl, tx, *person, code))
        return fail(Code::unauthenticated, "the code is wrong or was used before", "totp");
    people_sql::clear_attempts(tx, email_hash(person->user.email));
    people_sql::ensure_account(tx, impl.clock, *person);
    people_sql::insert_session(tx, session);
    impl.audit(tx, *person, session.session.ip, "Login", "Session", session.session.id);
    return std::move(*person);
}

}  // namespace

Async<Result<SignIn>> People::Impl::sign_in(SignInRequest request, Kind kind) {
    auto allowed = may_try(request.ip);
    if (!allowed) co_return fail(allowed.error());
    auto email = check_email(request.email);
    constexpr std::size_t password_bytes_max = 1024;
    if (!email || request.password.reveal().size() > password_bytes_max) {
        sign_in_wrong.add();
        co_return wrong();
    }
    const std::string attempts = email_hash(*email);
    struct Begun {
        people_sql::Attempt attempt;
        std::optional<Person> person;
    };
    auto begin = [this, attempts, address = *email](Tx& tx) -> Result<Begun> {
        purge_sometimes(tx);
        Begun begun;
        begun.attempt =
            people_sql::begin_attempt(tx, attempts, settings.failures_before_lockout, clock.now());
        begun.person = people_sql::person_by_email(tx, address);
        return begun;
    };
    auto begun = co_await db.in_tx(std::move(begin));
    if (!begun) co_return fail(begun.error());
    if (begun->attempt.is_locked) {
        sign_in_locked.add();
        co_return locked(begun->attempt.locked_until, clock.now());
    }
    auto is_right =
        co_await matches(request.password, begun->person ? begun->person->password_hash : std::string());
    if (!is_right) co_return fail(is_right.error());
    if (!*is_right || !begun->person) {
        sign_in_wrong.add();
        co_return wrong();
    }
    const Person checked = std::move(*begun->person);
    if (!checked.user.is_active) {
        sign_in_inactive.add();
        co_return fail(Code::forbidden,
                       checked.is_disabled ? "this user has been locked by the operator"
                                           : "activate your account first: open the link in the mail",
                       "email");
    }
    if (!checked.totp_secret.empty() && request.totp.empty()) {
        auto forgive = [attempts](Tx& tx) -> Result<bool> {
            people_sql::forgive_attempt(tx, attempts);
            return true;
        };
        auto forgiven = co_await db.in_tx(std::move(forgive));
        if (!forgiven) co_return fail(forgiven.error());
        sign_in_totp.add();
        co_return SignIn{{}, checked.user, checked.user.account, true};
    }
    auto session = new_session(checked.user.id, request.ip, request.user_agent, kind);
    auto work = [this, checked, session, code = request.totp](Tx& tx) {
        return finish(*this, tx, checked, session, code);
    };
    auto person = co_await db.in_tx(std::move(work));
    if (!person) {
        sign_in_wrong.add();
        co_return fail(person.error());
    }
    sign_in_ok.add();
    if (person->activation_pending) co_await activate(person->user.id, person->user.account);
    co_return SignIn{std::move(session.session), person->user, person->user.account, false};
}

people_sql::StoredSession People::Impl::new_session(UserId user, std::string ip, std::string user_agent,
                                                    Kind kind) const {
    people_sql::StoredSession stored;
    stored.id = static_cast<std::int64_t>(next_id_value(clock));
    stored.is_cookie = kind == Kind::cookie;
    Session& session = stored.session;
    session.id = people_sql::session_text(stored.id);
    session.user = user;
    session.created_at = session.last_seen_at = clock.now();
    session.expires_at =
        clock.now() + (stored.is_cookie ? settings.session_lifetime : settings.token_lifetime);
    session.ip = std::move(ip);
    session.user_agent = cut(std::move(user_agent), 200);
    if (stored.is_cookie) {
        constexpr std::size_t characters = 43;  // 256 bits
        session.token = Secret(random_base62(characters));
        stored.token_hash = to_hex(sha256(session.token.reveal()).bytes);
    }
    return stored;
}

Async<Result<SignIn>> People::Impl::start_session(UserId user, std::string ip, std::string user_agent,
                                                  Kind kind) {
    auto session = new_session(user, ip, std::move(user_agent), kind);
    auto start = [this, user, session, ip](Tx& tx) -> Result<Person> {
        auto person = people_sql::person_by_id(tx, user, true);
        if (!person || !person->user.is_active) return not_signed_in();
        people_sql::ensure_account(tx, clock, *person);
        people_sql::insert_session(tx, session);
        audit(tx, *person, ip, "Login", "Session", session.session.id);
        return std::move(*person);
    };
    auto person = co_await db.in_tx(std::move(start));
    if (!person) co_return fail(person.error());
    if (person->activation_pending) co_await activate(person->user.id, person->user.account);
    co_return SignIn{std::move(session.session), person->user, person->user.account, false};
}

Async<Result<Person>> People::Impl::confirm_password(UserId user, Secret password) {
    struct Begun {
        people_sql::Attempt attempt;
        Person person;
    };
    auto begin = [this, user](Tx& tx) -> Result<Begun> {
        auto person = people_sql::person_by_id(tx, user);
        if (!person) return not_signed_in();
        auto attempt = people_sql::begin_attempt(tx, email_hash(person->user.email),
                                                 settings.failures_before_lockout, clock.now());
        return Begun{attempt, std::move(*person)};
    };
    auto begun = co_await db.in_tx(std::move(begin));
    if (!begun) co_return fail(begun.error());
    if (begun->attempt.is_locked) {
        sign_in_locked.add();
        co_return locked(begun->attempt.locked_until, clock.now());
    }
    auto is_right = co_await matches(std::move(password), begun->person.password_hash);
    if (!is_right) co_return fail(is_right.error());
    if (!*is_right)
        co_return fail(Code::invalid_request, "Current password is incorrect.", "current_password");
    auto clear = [attempts = email_hash(begun->person.user.email)](Tx& tx) -> Result<bool> {
        people_sql::clear_attempts(tx, attempts);
        return true;
    };
    auto cleared = co_await db.in_tx(std::move(clear));
    if (!cleared) co_return fail(cleared.error());
    co_return std::move(begun->person);
}

}  // namespace nebula::accounts
