#pragma once
// The one place where a request becomes a Caller and a route's demand is checked. Every route of the
// management APIs is registered through it, so none can forget its permission.
//
// Credentials, in this order: `Authorization: Bearer` (API key, or a JWT of POST /api/v1/login), `x-api-key`,
// the session cookie "nebula_session". With the cookie, methods that change something also need:
// Sec-Fetch-Site that is same-origin or none, else an Origin of this host, else (no browser) a content type
// that no HTML form can send; else 403. The account acted for: the key's, or the person's personal account,
// or the team named by `x-nebula-team` or the query's `team_id` if the person belongs to it (else as if there
// were no such team).

#include <functional>
#include <memory>
#include <string_view>

#include "accounts/caller.hpp"
#include "async/async.hpp"
#include "http/http.hpp"

namespace nebula::accounts {

class Accounts;
class People;

constexpr std::string_view session_cookie = "nebula_session";

class Guard {
   public:
    Guard(Accounts& accounts, People& people) : accounts_(accounts), people_(people) {}

    using Handler = std::function<Async<void>(http::Exchange& exchange, Caller caller)>;
    /// Errors are answered in the route's dialect: unauthenticated, forbidden, not_found (team).
    void add(http::Router& router, http::Method method, std::string_view pattern, http::Dialect dialect,
             Access access, Handler handler);
    /// For edges that register themselves (the gateway).
    Async<Result<Caller>> identify(http::Exchange& exchange);

   private:
    Async<void> serve(http::Exchange& exchange, Access access, std::shared_ptr<const Handler> handler);
    Async<Result<Caller>> by_credentials(http::Exchange& exchange);
    Async<Result<Caller>> by_key(std::string token);

    Accounts& accounts_;
    People& people_;
};

}  // namespace nebula::accounts
