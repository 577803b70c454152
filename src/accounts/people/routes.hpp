#pragma once
// The HTTP edge of people. Private to this module.

#include "accounts/people/impl.hpp"
#include "http/json_api.hpp"

namespace nebula::accounts {

class PeopleRoutes {
   public:
    explicit PeopleRoutes(People::Impl& people) : people_(people) {}
    void add_to(http::Router& router, Guard& guard);

   private:
    using Exchange = http::Exchange;
    using Answer = Async<Result<http::Response>>;
    /// A handler computes an answer or an error; serve() sends either.
    using Operation = Answer (PeopleRoutes::*)(Exchange& exchange, Caller caller);
    Async<void> serve(Exchange& exchange, Caller caller, Operation operation);
    void add_operator_routes(http::Router& router, Guard& guard);
    void add(http::Router& router, Guard& guard, http::Method method, std::string_view pattern, Access access,
             Operation operation);

    Answer login(Exchange& exchange, Caller caller);
    Answer sign_up(Exchange& exchange, Caller caller);
    Answer verify(Exchange& exchange, Caller caller);
    Answer sign_in(Exchange& exchange, Caller caller);
    Answer sign_out(Exchange& exchange, Caller caller);
    Answer sign_out_all(Exchange& exchange, Caller caller);
    Answer request_reset(Exchange& exchange, Caller caller);
    Answer reset(Exchange& exchange, Caller caller);
    Answer auth_options(Exchange& exchange, Caller caller);
    Answer me(Exchange& exchange, Caller caller);
    Answer change_me(Exchange& exchange, Caller caller);
    Answer change_password(Exchange& exchange, Caller caller);
    Answer list_sessions(Exchange& exchange, Caller caller);
    Answer end_session(Exchange& exchange, Caller caller);
    Answer begin_totp(Exchange& exchange, Caller caller);
    Answer confirm_totp(Exchange& exchange, Caller caller);
    Answer remove_totp(Exchange& exchange, Caller caller);
    Answer start_oidc(Exchange& exchange, Caller caller);
    Answer finish_oidc(Exchange& exchange, Caller caller);
    Answer list_users(Exchange& exchange, Caller caller);
    Answer make_user(Exchange& exchange, Caller caller);
    Answer change_user(Exchange& exchange, Caller caller);

    /// Cookie sessions may be made for this site's own pages only.
    static Result<void> own_pages_only(const Exchange& exchange);
    void set_cookie(Exchange& exchange, std::string_view name, std::string_view value,
                    std::chrono::seconds age) const;
    void set_session_cookie(Exchange& exchange, const Session& session) const;
    http::json::object person_json(const User& user) const;

    People::Impl& people_;
};

}  // namespace nebula::accounts
