// Signing in with an OpenID Connect provider: whom its ID token means here.
#include <algorithm>

#include "accounts/people/impl.hpp"
#include "accounts/validate.hpp"
#include "base/crypto.hpp"
#include "base/text.hpp"

namespace nebula::accounts {

using people_sql::Person;
using store::Tx;

namespace {

constexpr std::size_t secret_characters = 43;  // 256 bits
constexpr std::chrono::hours state_lifetime{1};

std::unexpected<Error> not_here() {
    return fail(Code::forbidden, "this address may not sign in here", "email");
}

/// A name that the provider made up must not stop anybody.
std::string usable_name(const std::string& name) { return check_name(name, "name") ? name : std::string(); }

}  // namespace

Async<Result<People::Impl::OidcStart>> People::Impl::start_oidc(std::string ip) {
    if (!provider.is_on()) co_return fail(Code::not_found, "there is no sign-in provider");
    auto allowed = may_try(ip);
    if (!allowed) co_return fail(allowed.error());
    auto [token, state] = new_token("oidc", {}, {}, state_lifetime);
    OidcProvider::Login login{state, random_base62(secret_characters), random_base62(secret_characters),
                              url("/console/api/oidc/callback")};
    token.data = login.nonce + " " + login.verifier;
    auto address = co_await provider.authorization_url(login);
    if (!address) co_return fail(address.error());
    auto remember = [this, token](Tx& tx) -> Result<bool> {
        purge_sometimes(tx);
        people_sql::insert_token(tx, token);
        return true;
    };
    auto remembered = co_await db.in_tx(std::move(remember));
    if (!remembered) co_return fail(remembered.error());
    co_return OidcStart{std::move(*address), state};
}

Async<Result<SignIn>> People::Impl::finish_oidc(std::string state, std::string code, std::string ip,
                                                std::string user_agent) {
    if (!provider.is_on()) co_return fail(Code::not_found, "there is no sign-in provider");
    auto use = [hash = to_hex(sha256(state).bytes), now = clock.now()](Tx& tx) -> Result<people_sql::Token> {
        auto found = people_sql::use_token(tx, hash, "oidc", now);
        if (!found) return bad_token();
        return std::move(*found);
    };
    auto token = co_await db.in_tx(std::move(use));
    if (!token) co_return fail(token.error());
    std::vector<std::string_view> secrets = split(token->data, ' ');
    if (secrets.size() != 2) co_return bad_token();
    OidcProvider::Login login{state, std::string(secrets[0]), std::string(secrets[1]),
                              url("/console/api/oidc/callback")};
    auto identity = co_await provider.redeem(std::move(login), std::move(code));
    if (!identity) co_return fail(identity.error());
    auto person = co_await person_of(std::move(*identity));
    if (!person) co_return fail(person.error());
    co_return co_await start_session(*person, std::move(ip), std::move(user_agent), Kind::cookie);
}

Async<Result<UserId>> People::Impl::person_of(IdToken token) {
    auto email = check_email(token.email);
    // Whoever may write any address into a provider's profile must not become anybody.
    if (!email || !token.is_email_verified)
        co_return fail(Code::forbidden, "the provider has not verified your e-mail address", "email");
    std::string domain = email->substr(email->find('@') + 1);
    const auto& domains = oidc_settings.allowed_domains;
    auto is_same = [&domain](const std::string& allowed) { return equals_ignore_case(allowed, domain); };
    if (!domains.empty() && std::ranges::none_of(domains, is_same)) co_return not_here();

    auto find = [this, token, address = *email](Tx& tx) -> Result<UserId> {
        Time now = clock.now();
        auto known = people_sql::person_by_identity(tx, oidc_settings.issuer, token.subject);
        if (known) {
            if (!known->user.is_active) return not_here();
            return known->user.id;
        }
        auto person = people_sql::person_by_email(tx, address, true);
        if (!person) {
            if (settings.sign_up != "open") return not_here();
            person.emplace();
            person->user = {UserId::next(clock), address, Role::customer, now, usable_name(token.name), true};
            person->password_hash = people_sql::no_password;
            person->verified_at = now;
            person->activation_pending = true;
            try {
                people_sql::insert_person(tx, *person);
            } catch (const store::UniqueViolation&) {
                return fail(Code::conflict, "try again", "email");
            }
        } else if (person->is_disabled) {
            return not_here();
        } else if (!person->verified_at) {
            // Somebody else may have signed up with this address before; an operator is not taken over so.
            if (person->user.role == Role::operator_) return not_here();
            people_sql::set_password(tx, person->user.id, people_sql::no_password, now);
            people_sql::set_verified(tx, person->user.id, now);
            people_sql::set_totp(tx, person->user.id, {}, 0);
            people_sql::delete_tokens_of(tx, person->user.id);
            end_sessions(tx, person->user.id);
        }
        people_sql::ensure_account(tx, clock, *person);
        people_sql::insert_identity(tx, oidc_settings.issuer, token.subject, person->user.id, now);
        audit(tx, *person, {}, "Add", "Identity", person->user.id.text(), oidc_settings.issuer);
        return person->user.id;
    };
    auto found = co_await db.in_tx(find);
    if (!found && found.error().code == Code::conflict) found = co_await db.in_tx(find);
    if (found) cache.drop_user(*found);
    co_return found;
}

}  // namespace nebula::accounts
