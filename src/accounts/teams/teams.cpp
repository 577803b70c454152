#include "accounts/teams.hpp"

#include "accounts/teams/activity_api.hpp"
#include "accounts/teams/key_api.hpp"
#include "accounts/teams/ssh_api.hpp"
#include "accounts/teams/team_api.hpp"

namespace nebula::accounts {

struct Teams::Impl {
    Impl(const PeopleSettings& settings, store::Db& db, store::Notices& notices, Accounts& accounts,
         Mailer& mailer, const Clock& clock)
        : service(db, notices, accounts, &mailer, settings.public_url, clock),
          keys(db, accounts, clock),
          ssh(db, clock),
          activity(db) {}

    TeamService service;
    TeamApi teams{service};
    KeyApi keys;
    SshApi ssh;
    ActivityApi activity;
};

Teams::Teams(const PeopleSettings& settings, store::Db& db, store::Notices& notices, Accounts& accounts,
             People& people, Mailer& mailer, const Clock& clock, metrics::Registry&)
    : impl_(std::make_unique<Impl>(settings, db, notices, accounts, mailer, clock)) {
    impl_->service.set_forget([&people](UserId user) { people.forget(user); });
}
Teams::~Teams() = default;

void Teams::set_key_usage(KeyUsageOf usage) { impl_->keys.set_key_usage(std::move(usage)); }
void Teams::set_holds_nothing(HoldsNothing hook) { impl_->service.set_holds_nothing(std::move(hook)); }

void Teams::register_routes(http::Router& router, Guard& guard) {
    impl_->teams.register_routes(router, guard);
    impl_->keys.register_routes(router, guard);
    impl_->ssh.register_routes(router, guard);
    impl_->activity.register_routes(router, guard);
}

}  // namespace nebula::accounts
