#pragma once
// Shared by the database tests of keys and teams: people with personal accounts, on either engine.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "accounts/accounts.hpp"
#include "accounts/audit.hpp"
#include "accounts/store.hpp"
#include "accounts/teams/team_service.hpp"
#include "store/test_support/test_db.hpp"

namespace nebula::accounts {

inline std::vector<store::Migration> migrations_of_accounts() {
    std::vector<store::Migration> all(store::migrations().begin(), store::migrations().end());
    all.insert(all.end(), migrations().begin(), migrations().end());
    return all;
}

class TeamFixture : public store::EngineTest {
   public:
    void SetUp() override {
        auto migrated = db().migrate(migrations_of_accounts());
        ASSERT_TRUE(migrated) << migrated.error().message << migrated.error().detail;
        notices.start();
    }
    void TearDown() override { notices.stop(); }

    template <class T>
    static T ok(Async<Result<T>> work) {
        Result<T> result = sync_wait(std::move(work));
        EXPECT_TRUE(result) << result.error().message << " / " << result.error().detail;
        if constexpr (!std::is_void_v<T>) return result ? std::move(*result) : T{};
    }
    template <class T>
    static Error error(Async<Result<T>> work) {
        Result<T> result = sync_wait(std::move(work));
        EXPECT_FALSE(result);
        return result ? Error{.message = "no error"} : result.error();
    }

    /// Signed up and signed in, in the personal account.
    Caller person(const std::string& email) {
        Caller caller;
        caller.kind = Caller::Kind::person;
        caller.user = UserId::next(clock);
        caller.email = email;
        caller.name = email.substr(0, email.find('@'));
        caller.account = AccountId::next(clock);
        caller.permissions = Permissions::all();
        caller.ip = "192.0.2.1";
        auto insert = [&](store::Tx& tx) -> Result<bool> {
            sql::insert_user(tx, {caller.user, email, Role::customer, clock.now()}, "$hash");
            Account account{caller.account, email, clock.now(), AccountKind::personal, caller.user};
            sql::insert_account(tx, account);
            return true;
        };
        EXPECT_TRUE(db().in_tx_blocking(insert));
        return caller;
    }
    static Caller key_caller(const Key& key) {
        Caller caller;
        caller.kind = Caller::Kind::key;
        caller.account = key.account;
        caller.user = key.creator;
        caller.key = key.id;
        caller.role = TeamRole::member;
        caller.permissions = Permissions(key.permissions) & Permissions::all();
        return caller;
    }
    void join(const Caller& owner, AccountId team, const Caller& who, TeamRole role,
              Permissions permissions) {
        auto invited = ok(teams.invite(owner, team, who.email, role, permissions));
        ok(teams.accept(who, invited.token.reveal()));
    }
    /// "Create API Key laptop" …, oldest first.
    std::vector<std::string> log(AccountId account) {
        auto read = [account](store::Tx& tx) -> Result<AuditPage> {
            return read_audit(tx, account, 1000, 0);
        };
        AuditPage page = db().read_blocking(read).value();
        std::vector<std::string> lines;
        for (auto row = page.rows.rbegin(); row != page.rows.rend(); ++row)
            lines.push_back(row->entry.action + " " + row->entry.resource + " " + row->entry.resource_name);
        EXPECT_EQ(page.total, std::ssize(lines));
        return lines;
    }

    FakeClock clock;
    store::StoreSettings settings{.url = test_db().url()};
    store::Notices notices{db(), settings, test_db().metrics()};
    Accounts accounts{db(), clock, test_db().metrics(), &notices};
    TeamService teams{db(), notices, accounts, nullptr, "http://console", clock};
};

}  // namespace nebula::accounts
