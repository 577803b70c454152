#pragma once
// HTTP edge of the audit log. Private to this module.

#include "accounts/teams.hpp"
#include "accounts/teams/edge.hpp"

namespace nebula::accounts {

class ActivityApi {
   public:
    explicit ActivityApi(store::Db& db) : db_(db) {}
    void register_routes(http::Router& router, Guard& guard);

    Answer list(http::Exchange& exchange, Caller caller);

   private:
    store::Db& db_;
};

}  // namespace nebula::accounts
