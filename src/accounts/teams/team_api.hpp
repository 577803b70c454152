#pragma once
// HTTP edge of teams, members and invitations. Private to this module.

#include "accounts/teams/edge.hpp"
#include "accounts/teams/team_service.hpp"

namespace nebula::accounts {

class TeamApi {
   public:
    explicit TeamApi(TeamService& teams) : teams_(teams) {}
    void register_routes(http::Router& router, Guard& guard);

    Answer create(http::Exchange& exchange, Caller caller);
    Answer list(http::Exchange& exchange, Caller caller);
    Answer get(http::Exchange& exchange, Caller caller);
    Answer change(http::Exchange& exchange, Caller caller);
    Answer remove(http::Exchange& exchange, Caller caller);
    Answer permissions(http::Exchange& exchange, Caller caller);
    Answer transfer(http::Exchange& exchange, Caller caller);
    Answer leave(http::Exchange& exchange, Caller caller);

    Answer members(http::Exchange& exchange, Caller caller);
    Answer change_member(http::Exchange& exchange, Caller caller);
    Answer remove_member(http::Exchange& exchange, Caller caller);

    Answer invite(http::Exchange& exchange, Caller caller);
    Answer invitations(http::Exchange& exchange, Caller caller);
    Answer cancel(http::Exchange& exchange, Caller caller);
    Answer invitation(http::Exchange& exchange, Caller caller);
    Answer accept(http::Exchange& exchange, Caller caller);

   private:
    struct Target {
        AccountId team;
        UserId user;
    };
    /// Of …/teams/{id}/members/{member}, or of …/team/members/{id}, which names no team.
    Async<Result<Target>> target(http::Exchange& exchange, Caller caller);

    TeamService& teams_;
};

}  // namespace nebula::accounts
