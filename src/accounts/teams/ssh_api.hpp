#pragma once
// HTTP edge of SSH keys. Private to this module.

#include "accounts/teams.hpp"
#include "accounts/teams/edge.hpp"

namespace nebula::accounts {

class SshApi {
   public:
    SshApi(store::Db& db, const Clock& clock) : db_(db), clock_(clock) {}
    void register_routes(http::Router& router, Guard& guard);

    Answer list(http::Exchange& exchange, Caller caller);
    Answer create(http::Exchange& exchange, Caller caller);
    Answer rename(http::Exchange& exchange, Caller caller);
    Answer remove(http::Exchange& exchange, Caller caller);

   private:
    store::Db& db_;
    const Clock& clock_;
};

}  // namespace nebula::accounts
