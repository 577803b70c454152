#include "accounts/guard.hpp"

#include "accounts/accounts.hpp"
#include "accounts/people.hpp"
#include "accounts/people/csrf.hpp"
#include "base/text.hpp"
#include "http/json_api.hpp"

namespace nebula::accounts {
namespace {

std::unexpected<Error> no_credentials() {
    return fail(Code::unauthenticated, "sign in, or send an API key", "api_key");
}
std::unexpected<Error> no_team() { return fail(Code::not_found, "there is no such team", "team_id"); }

/// The token of "Bearer …"; other schemes are not ours.
std::optional<std::string> bearer(const http::RequestHead& head) {
    constexpr std::string_view scheme = "bearer ";
    auto value = head.header("authorization");
    if (!value || value->size() <= scheme.size() ||
        !equals_ignore_case(value->substr(0, scheme.size()), scheme))
        return std::nullopt;
    return std::string(trim(value->substr(scheme.size())));
}

/// The team that the request names, as written; empty: none.
std::string named_team(const http::RequestHead& head) {
    if (auto named = head.header("x-nebula-team")) return std::string(trim(*named));
    if (head.query.find("team_id") == std::string_view::npos) return {};
    http::Params params = http::query(head);
    return std::string(params.get("team_id").value_or(std::string_view()));
}

}  // namespace

Async<Result<Caller>> Guard::by_key(std::string token) {
    auto key = co_await accounts_.authenticate(std::move(token));
    if (!key) co_return fail(key.error());
    accounts_.note_use(**key);
    Caller caller;
    caller.kind = Caller::Kind::key;
    caller.account = (*key)->account;
    caller.user = (*key)->creator;
    caller.key = (*key)->id;
    caller.name = (*key)->name;
    caller.role = TeamRole::member;
    caller.permissions = Permissions((*key)->permissions) & Permissions::all();
    co_return caller;
}

Async<Result<Caller>> Guard::by_credentials(http::Exchange& exchange) {
    const http::RequestHead& head = exchange.head();
    if (auto token = bearer(head)) {
        bool is_jwt = People::looks_like_jwt(*token);
        auto found = is_jwt ? people_.by_jwt(std::move(*token)) : by_key(std::move(*token));
        co_return co_await std::move(found);
    }
    if (auto key = head.header("x-api-key")) co_return co_await by_key(std::string(trim(*key)));
    auto cookie = http::cookie(head, session_cookie);
    if (!cookie || cookie->empty()) co_return no_credentials();
    // A cookie comes along with whatever another site makes the browser send.
    if (changes_something(head.method) && !is_from_this_site(head))
        co_return fail(Code::forbidden, "this request did not come from this site");
    co_return co_await people_.by_session(std::string(*cookie));
}

Async<Result<Caller>> Guard::identify(http::Exchange& exchange) {
    auto caller = co_await by_credentials(exchange);
    if (!caller) co_return caller;
    caller->ip = exchange.remote_ip();
    std::string named = named_team(exchange.head());
    if (named.empty()) co_return caller;
    auto team = AccountId::parse(named);
    if (!team) co_return no_team();
    if (*team == caller->account) co_return caller;
    // A key belongs to one account; to name another is a mistake that must not be answered with its own.
    if (caller->kind != Caller::Kind::person) co_return no_team();
    co_return co_await people_.act_for(std::move(*caller), *team);
}

Async<void> Guard::serve(http::Exchange& exchange, Access access, std::shared_ptr<const Handler> handler) {
    exchange.add_header("cache-control", "no-store");
    if (access.who == Access::Who::anyone) {
        Caller anyone;
        anyone.ip = exchange.remote_ip();
        co_await (*handler)(exchange, std::move(anyone));
        co_return;
    }
    auto caller = co_await identify(exchange);
    if (caller && !allows(access, *caller))
        caller =
            fail(Code::forbidden, caller->kind == Caller::Kind::key ? "this API key is not allowed to do that"
                                                                    : "you are not allowed to do that");
    if (!caller) {
        auto refused = co_await exchange.respond_error(caller.error());
        (void)refused;
        co_return;
    }
    co_await (*handler)(exchange, std::move(*caller));
}

void Guard::add(http::Router& router, http::Method method, std::string_view pattern, http::Dialect dialect,
                Access access, Handler handler) {
    auto kept = std::make_shared<const Handler>(std::move(handler));
    auto guarded = [this, access, kept](http::Exchange& exchange) { return serve(exchange, access, kept); };
    router.add(method, pattern, dialect, guarded, access.name());
}

}  // namespace nebula::accounts
