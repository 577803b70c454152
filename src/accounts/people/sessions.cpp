#include "accounts/people/impl.hpp"
#include "accounts/people/jwt.hpp"
#include "base/crypto.hpp"

namespace nebula::accounts {

using people_sql::Signed;
using store::Tx;

namespace {

constexpr std::chrono::minutes touch_interval{1};
constexpr std::size_t cookie_bytes_max = 128;

std::unexpected<Error> no_team() { return fail(Code::not_found, "there is no such team", "team_id"); }

}  // namespace

Caller People::Impl::caller_of(const Signed& found) const {
    const User& user = found.person.user;
    Caller caller;
    caller.kind = Caller::Kind::person;
    caller.account = user.account;
    caller.user = user.id;
    caller.email = user.email;
    caller.name = user.name;
    caller.is_operator = user.role == Role::operator_;
    caller.role = TeamRole::owner;
    caller.permissions = Permissions::all();
    caller.session = found.stored.session.id;
    return caller;
}

Async<Result<Caller>> People::Impl::by_session(std::string token) {
    if (token.empty() || token.size() > cookie_bytes_max) co_return not_signed_in();
    std::string hash = to_hex(sha256(token).bytes);
    std::string key = "c" + hash;
    if (auto known = cache.find(key)) co_return std::move(*known);
    std::uint64_t epoch = cache.epoch();
    auto look = [hash, now = clock.now()](Tx& tx) -> Result<std::optional<Signed>> {
        return people_sql::session_by_hash(tx, hash, now);
    };
    auto found = co_await db.read(std::move(look));
    if (!found) co_return fail(found.error());
    if (!*found || !(*found)->person.user.is_active) co_return not_signed_in();
    const people_sql::StoredSession& stored = (*found)->stored;
    Time now = clock.now();
    if (stored.session.last_seen_at + settings.session_idle <= now) co_return not_signed_in();
    if (now - stored.session.last_seen_at >= touch_interval) {
        auto touch = [id = stored.id, now](Tx& tx) -> Result<bool> {
            people_sql::touch_session(tx, id, now);
            return true;
        };
        auto touched = co_await db.in_tx(std::move(touch));
        if (!touched) co_return fail(touched.error());
    }
    Caller caller = caller_of(**found);
    Time idle_end = now + settings.session_idle;
    cache.put(key, caller, std::min(stored.session.expires_at, idle_end), epoch);
    co_return caller;
}

Async<Result<Caller>> People::Impl::by_session_id(std::int64_t id) {
    std::string key = "j" + std::to_string(id);
    if (auto known = cache.find(key)) co_return std::move(*known);
    std::uint64_t epoch = cache.epoch();
    auto look = [id, now = clock.now()](Tx& tx) -> Result<std::optional<Signed>> {
        return people_sql::session_by_id(tx, id, now);
    };
    auto found = co_await db.read(std::move(look));
    if (!found) co_return fail(found.error());
    if (!*found || !(*found)->person.user.is_active) co_return not_signed_in();
    Caller caller = caller_of(**found);
    cache.put(key, caller, (*found)->stored.session.expires_at, epoch);
    co_return caller;
}

Async<Result<Secret>> People::Impl::jwt_key() {
    {
        std::lock_guard lock(mutex);
        if (!jwt_secret.empty()) co_return jwt_secret;
    }
    // Whichever node comes first makes it; all sign with the same one.
    auto make = [now = clock.now()](Tx& tx) -> Result<Secret> {
        std::array<unsigned char, 32> random{};
        random_bytes(random);
        return Secret(people_sql::secret_text(tx, "jwt_hs256", to_hex(random), now));
    };
    auto made = co_await db.in_tx(std::move(make));
    if (!made) co_return fail(made.error());
    std::lock_guard lock(mutex);
    jwt_secret = *made;
    co_return std::move(*made);
}

Async<Result<Caller>> People::Impl::by_jwt(std::string token) {
    auto key = co_await jwt_key();
    if (!key) co_return fail(key.error());
    auto claims = verify_jwt(token, *key, clock.now());
    if (!claims) co_return fail(claims.error());
    auto session = people_sql::session_number(claims->session);
    if (!session) co_return not_signed_in();
    co_return co_await by_session_id(*session);
}

Async<Result<Secret>> People::Impl::make_jwt(Caller caller) {
    if (caller.kind != Caller::Kind::person)
        co_return fail(Code::forbidden, "tokens are for people, not for API keys");
    if (caller.session.empty()) {
        std::string no_agent;
        auto started = co_await start_session(caller.user, caller.ip, no_agent, Kind::token);
        if (!started) co_return fail(started.error());
        caller.session = started->session.id;
    }
    auto number = people_sql::session_number(caller.session);
    if (!number) co_return not_signed_in();
    auto look = [id = *number, now = clock.now()](Tx& tx) -> Result<std::optional<Signed>> {
        return people_sql::session_by_id(tx, id, now);
    };
    auto found = co_await db.read(std::move(look));
    if (!found) co_return fail(found.error());
    if (!*found || (*found)->person.user.id != caller.user) co_return not_signed_in();
    auto key = co_await jwt_key();
    if (!key) co_return fail(key.error());
    Time expires_at = std::min((*found)->stored.session.expires_at, clock.now() + settings.token_lifetime);
    JwtClaims claims;
    claims.subject = (*found)->person.user.email;
    claims.roles = {(*found)->person.user.role == Role::operator_ ? "OPERATOR" : "CUSTOMER"};
    claims.scopes = Permissions::all().names();
    claims.issued_at = to_micros(clock.now()) / 1'000'000;
    claims.expires_at = to_micros(expires_at) / 1'000'000;
    claims.session = caller.session;
    co_return Secret(sign_jwt(claims, *key));
}

Async<Result<Caller>> People::Impl::act_for(Caller caller, AccountId team) {
    if (caller.kind != Caller::Kind::person) co_return no_team();
    std::string key = "m" + std::to_string(caller.user.value) + " " + std::to_string(team.value);
    auto member = cache.find(key);
    if (!member) {
        std::uint64_t epoch = cache.epoch();
        auto look = [team, user = caller.user](Tx& tx) -> Result<std::optional<people_sql::Membership>> {
            return people_sql::membership(tx, team, user);
        };
        auto found = co_await db.read(std::move(look));
        if (!found) co_return fail(found.error());
        if (!*found) co_return no_team();
        member.emplace();
        member->user = caller.user;
        member->role = (*found)->role;
        member->permissions = (*found)->permissions;
        cache.put(key, *member, Time::max(), epoch);
    }
    caller.account = team;
    caller.role = member->role;
    caller.permissions = member->permissions;
    co_return std::move(caller);
}

Async<Result<void>> People::Impl::sign_out(std::string session_id, UserId user) {
    auto number = people_sql::session_number(session_id);
    if (!number) co_return fail(Code::not_found, "there is no such session", "session");
    auto remove = [this, id = *number, session_id, user](Tx& tx) -> Result<bool> {
        if (!people_sql::delete_session(tx, id, user))
            return fail(Code::not_found, "there is no such session", "session");
        notices.publish(tx, "session", session_id);
        if (auto person = people_sql::person_by_id(tx, user); person && person->user.account)
            audit(tx, *person, {}, "Delete", "Session", session_id);
        return true;
    };
    auto removed = co_await db.in_tx(std::move(remove));
    if (!removed) co_return fail(removed.error());
    cache.drop_session(session_id);
    co_return Result<void>();
}

Async<Result<void>> People::Impl::sign_out_everywhere(Caller caller) {
    auto remove = [this, caller](Tx& tx) -> Result<bool> {
        auto person = people_sql::person_by_id(tx, caller.user, true);
        if (!person) return not_signed_in();
        end_sessions(tx, caller.user);
        audit(tx, *person, caller.ip, "Delete", "Session", {}, "all sessions");
        return true;
    };
    auto removed = co_await db.in_tx(std::move(remove));
    if (!removed) co_return fail(removed.error());
    cache.drop_user(caller.user);
    co_return Result<void>();
}

Async<Result<std::vector<Session>>> People::Impl::sessions(UserId user) {
    auto list = [user, now = clock.now()](Tx& tx) -> Result<std::vector<Session>> {
        return people_sql::sessions_of(tx, user, now);
    };
    co_return co_await db.read(std::move(list));
}

}  // namespace nebula::accounts
