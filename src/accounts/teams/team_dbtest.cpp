#include "accounts/teams/team_fixture.hpp"

namespace nebula::accounts {
namespace {

using std::chrono_literals::operator""h;
using ::testing::ElementsAre;

class TeamDb : public TeamFixture {
   public:
    void SetUp() override {
        TeamFixture::SetUp();
        for (auto [caller, name] :
             {std::pair(&owner, "owner"), std::pair(&admin, "admin"), std::pair(&second_admin, "admin2"),
              std::pair(&helper, "helper"), std::pair(&member, "member"), std::pair(&outsider, "outsider")})
            *caller = person(std::string(name) + "@example.com");
        team = ok(teams.create(owner, "Research", "")).id;
        join(owner, team, admin, TeamRole::admin, Permissions());
        join(owner, team, second_admin, TeamRole::admin, Permissions());
        join(owner, team, helper, TeamRole::member, Permissions::of_member().with(Permission::team_write));
        join(owner, team, member, TeamRole::member, Permissions::of_member());
    }
    std::optional<sql::Membership> standing(const Caller& who) {
        auto read = [&](store::Tx& tx) -> Result<std::optional<sql::Membership>> {
            return sql::membership(tx, team, who.user);
        };
        return db().read_blocking(read).value();
    }

    Caller owner, admin, second_admin, helper, member, outsider;
    AccountId team;
};
NEBULA_BOTH_ENGINES(TeamDb);

// The whole table of who may do what. A refusal must leave nothing behind, in the log neither.
TEST_P(TeamDb, EveryRoleMayDoWhatItMayAndNothingElse) {
    Caller guest = person("guest@example.com");
    auto to_error = [](auto result) { return result ? std::optional<Code>() : result.error().code; };
    using Work = std::function<std::optional<Code>(const Caller&)>;
    struct Operation {
        const char* name;
        Work work;
        // owner, admin, member with team:write, member, outsider; 'y' yes, 'f' forbidden, 'n' not found
        const char* answers;
    };
    const Operation operations[] = {
        {"get", [&](const Caller& who) { return to_error(sync_wait(teams.get(who, team))); }, "yyyyn"},
        {"members", [&](const Caller& who) { return to_error(sync_wait(teams.members(who, team))); },
         "yyyyn"},
        {"rename", [&](const Caller& who) { return to_error(sync_wait(teams.change(who, team, "New", {}))); },
         "yyffn"},
        {"invitations", [&](const Caller& who) { return to_error(sync_wait(teams.invitations(who, team))); },
         "yyyfn"},
        {"invite a member",
         [&](const Caller& who) {
             return to_error(
                 sync_wait(teams.invite(who, team, guest.email, TeamRole::member, Permissions::of_member())));
         },
         "yyyfn"},
        {"invite an admin",
         [&](const Caller& who) {
             return to_error(sync_wait(teams.invite(who, team, guest.email, TeamRole::admin, {})));
         },
         "yfffn"},
        {"invite with more than a helper has",
         [&](const Caller& who) {
             return to_error(sync_wait(teams.invite(who, team, guest.email, TeamRole::member,
                                                    Permissions().with(Permission::billing_write))));
         },
         "yyffn"},
        {"change a member",
         [&](const Caller& who) {
             return to_error(
                 sync_wait(teams.change_member(who, team, member.user, {}, Permissions::of_member())));
         },
         "yyyfn"},
        {"give more than a helper has",
         [&](const Caller& who) {
             auto result = sync_wait(teams.change_member(who, team, member.user, {}, Permissions::all()));
             if (result) ok(teams.change_member(owner, team, member.user, {}, Permissions::of_member()));
             return to_error(result);
         },
         "yyffn"},
        {"make an admin",
         [&](const Caller& who) {
             auto result = sync_wait(teams.change_member(who, team, member.user, TeamRole::admin, {}));
             if (result) ok(teams.change_member(owner, team, member.user, TeamRole::member, {}));
             return to_error(result);
         },
         "yfffn"},
        {"demote an admin",
         [&](const Caller& who) {
             auto result = sync_wait(teams.change_member(who, team, second_admin.user, TeamRole::member, {}));
             if (result) ok(teams.change_member(owner, team, second_admin.user, TeamRole::admin, {}));
             return to_error(result);
         },
         "yfffn"},
        {"remove an admin",
         [&](const Caller& who) {
             auto result = sync_wait(teams.remove_member(who, team, second_admin.user, false));
             if (result) join(owner, team, second_admin, TeamRole::admin, {});
             return to_error(result);
         },
         "yfffn"},
        {"change the owner",
         [&](const Caller& who) {
             return to_error(sync_wait(teams.change_member(who, team, owner.user, TeamRole::member, {})));
         },
         "ffffn"},
        {"remove the owner",
         [&](const Caller& who) {
             return to_error(sync_wait(teams.remove_member(who, team, owner.user, false)));
         },
         "ffffn"},
        {"make an owner",
         [&](const Caller& who) {
             auto code =
                 to_error(sync_wait(teams.change_member(who, team, member.user, TeamRole::owner, {})));
             return code == Code::invalid_request ? Code::forbidden : code;
         },
         "ffffn"},
        {"remove a member",
         [&](const Caller& who) {
             auto result = sync_wait(teams.remove_member(who, team, member.user, false));
             if (result) join(owner, team, member, TeamRole::member, Permissions::of_member());
             return to_error(result);
         },
         "yyyfn"},
        {"transfer",
         [&](const Caller& who) {
             auto result = sync_wait(teams.transfer(who, team, member.user));
             if (result) {
                 ok(teams.transfer(member, team, owner.user));
                 ok(teams.change_member(owner, team, member.user, TeamRole::member, {}));
             }
             return to_error(result);
         },
         "yfffn"},
    };
    const Caller* callers[] = {&owner, &admin, &helper, &member, &outsider};
    for (const Operation& operation : operations) {
        for (std::size_t k = 0; k < 5; ++k) {
            std::size_t lines = log(team).size();
            auto code = operation.work(*callers[k]);
            char answer = !code ? 'y' : *code == Code::forbidden ? 'f' : *code == Code::not_found ? 'n' : '?';
            EXPECT_EQ(answer, operation.answers[k]) << operation.name << " by " << callers[k]->email;
            if (code) EXPECT_EQ(log(team).size(), lines) << operation.name << " by " << callers[k]->email;
        }
    }
    // A team that does not exist looks like one that is not yours.
    Error missing = error(teams.get(outsider, AccountId::next(clock)));
    Error hidden = error(teams.get(outsider, team));
    EXPECT_EQ(missing.message, hidden.message);
    EXPECT_EQ(missing.param, hidden.param);
}

// Deleting is tried last on a team of its own: it ends the table's.
TEST_P(TeamDb, OnlyTheOwnerDeletesATeamAndOnlyAnEmptyOne) {
    Key wanted;
    wanted.account = team;
    wanted.name = "team key";
    NewKey key = ok(accounts.create_key(wanted, nullptr));
    ok(accounts.authenticate(key.text.reveal()));
    for (const Caller* who : {&admin, &helper, &member})
        EXPECT_EQ(error(teams.remove(*who, team)).code, Code::forbidden);
    EXPECT_EQ(error(teams.remove(outsider, team)).code, Code::not_found);

    bool is_empty = false;
    // Not a coroutine itself, as everywhere.
    struct Answer {
        static Async<Result<bool>> of(bool value) { co_return value; }
    };
    teams.set_holds_nothing([&is_empty](AccountId) { return Answer::of(is_empty); });
    EXPECT_EQ(error(teams.remove(owner, team)).code, Code::conflict);
    EXPECT_TRUE(sync_wait(accounts.authenticate(key.text.reveal())));
    is_empty = true;
    ok(teams.remove(owner, team));

    EXPECT_EQ(error(accounts.authenticate(key.text.reveal())).code, Code::unauthenticated);
    EXPECT_EQ(error(accounts.create_key(wanted, nullptr)).code, Code::not_found);
    EXPECT_EQ(error(teams.get(owner, team)).code, Code::not_found);
    EXPECT_TRUE(ok(teams.list(member)).empty());
    EXPECT_FALSE(standing(member));
    EXPECT_EQ(log(team).back(), "Delete Team Research");
}

TEST_P(TeamDb, TellsEachPersonOfItsTeams) {
    auto of_member = ok(teams.list(member));
    ASSERT_EQ(of_member.size(), 1u);
    EXPECT_EQ(of_member[0].name, "Research");
    EXPECT_EQ(of_member[0].role, TeamRole::member);
    EXPECT_EQ(of_member[0].permissions, Permissions::of_member());
    EXPECT_EQ(of_member[0].members, 5);
    EXPECT_EQ(of_member[0].owner, owner.user);
    EXPECT_TRUE(ok(teams.list(outsider)).empty());
    // Names are for people: two teams may have one, and a name takes nobody's address.
    ok(teams.create(outsider, "Research", ""));
    ok(teams.create(outsider, "owner@example.com", ""));
    EXPECT_EQ(error(teams.create(outsider, "a\nb", "")).param, "name");
}

// The token alone is not enough, and it is good once.
TEST_P(TeamDb, OnlyTheInvitedPersonAcceptsAndOnlyOnce) {
    auto invited = ok(teams.invite(owner, team, "Outsider@Example.com ", TeamRole::member,
                                   Permissions().with(Permission::billing_read)));
    std::string token = invited.token.reveal();
    EXPECT_EQ(ok(teams.invitation(token)).team_name, "Research");
    Caller thief = person("thief@example.com");
    Error stolen = error(teams.accept(thief, token));
    Error unknown = error(teams.accept(thief, std::string(40, 'x')));
    EXPECT_EQ(stolen.code, Code::not_found);
    EXPECT_EQ(stolen.message, unknown.message);
    Team joined = ok(teams.accept(outsider, token));
    EXPECT_EQ(joined.permissions, Permissions().with(Permission::billing_read));
    EXPECT_EQ(error(teams.accept(outsider, token)).code, Code::not_found);
    EXPECT_EQ(error(teams.invitation(token)).code, Code::not_found);
    for (const char* bad : {"", "x", "\xff", "'; --"})
        EXPECT_EQ(error(teams.invitation(bad)).code, Code::not_found) << bad;
}

// Nobody learns by inviting who has signed up.
TEST_P(TeamDb, InvitingKnownAndUnknownAddressesLooksTheSame) {
    auto known = ok(teams.invite(owner, team, "outsider@example.com", TeamRole::member, {}));
    auto unknown = ok(teams.invite(owner, team, "nobody@example.com", TeamRole::member, {}));
    EXPECT_EQ(known.token.reveal().size(), unknown.token.reveal().size());
    EXPECT_EQ(known.invitation.role, unknown.invitation.role);
    EXPECT_EQ(known.invitation.expires_at, unknown.invitation.expires_at);
    EXPECT_EQ(ok(teams.invitations(owner, team)).size(), 2u);
    // A member is known to the team anyway.
    EXPECT_EQ(error(teams.invite(owner, team, "member@example.com", TeamRole::member, {})).code,
              Code::conflict);
    EXPECT_EQ(error(teams.invite(owner, team, "nonsense", TeamRole::member, {})).param, "email");
    EXPECT_EQ(error(teams.invite(owner, team, "x@example.com", TeamRole::owner, {})).param, "role");
}

TEST_P(TeamDb, InvitationsEndByTimeByCancellingAndByANewOne) {
    auto first = ok(teams.invite(owner, team, outsider.email, TeamRole::member, {}));
    auto second = ok(teams.invite(owner, team, outsider.email, TeamRole::member, {}));
    EXPECT_EQ(error(teams.accept(outsider, first.token.reveal())).code, Code::not_found);
    EXPECT_EQ(ok(teams.invitations(owner, team)).size(), 1u);
    ok(teams.cancel(owner, team, second.invitation.id));
    EXPECT_EQ(error(teams.accept(outsider, second.token.reveal())).code, Code::not_found);
    EXPECT_EQ(error(teams.cancel(owner, team, second.invitation.id)).code, Code::not_found);
    auto third = ok(teams.invite(owner, team, outsider.email, TeamRole::member, {}));
    clock.advance(7 * 24h);
    EXPECT_EQ(error(teams.accept(outsider, third.token.reveal())).code, Code::not_found);
    EXPECT_TRUE(ok(teams.invitations(owner, team)).empty());
    // An admin's invitation is the owner's to take back.
    auto fourth = ok(teams.invite(owner, team, outsider.email, TeamRole::admin, {}));
    EXPECT_EQ(error(teams.cancel(admin, team, fourth.invitation.id)).code, Code::forbidden);
}

TEST_P(TeamDb, EverybodyButTheOwnerLeaves) {
    EXPECT_EQ(error(teams.leave(owner, team)).code, Code::conflict);
    ok(teams.leave(member, team));
    EXPECT_FALSE(standing(member));
    EXPECT_EQ(error(teams.leave(member, team)).code, Code::not_found);
    ok(teams.transfer(owner, team, admin.user));
    EXPECT_EQ(standing(admin)->role, TeamRole::owner);
    EXPECT_EQ(standing(owner)->role, TeamRole::admin);
    EXPECT_EQ(ok(teams.get(admin, team)).owner, admin.user);
    ok(teams.leave(owner, team));
    EXPECT_EQ(error(teams.transfer(admin, team, owner.user)).code, Code::not_found);
}

TEST_P(TeamDb, AnAdminWhoBecomesAMemberKeepsNotEverything) {
    EXPECT_EQ(ok(teams.change_member(owner, team, admin.user, TeamRole::member, {})).permissions,
              Permissions::of_member());
    EXPECT_EQ(standing(admin)->permissions, Permissions::of_member());
    EXPECT_EQ(error(teams.change_member(helper, team, helper.user, {}, Permissions())).code, Code::forbidden);
}

// Keys belong to the team; whoever removes a person may end that person's keys with it.
TEST_P(TeamDb, ARemovedMembersKeysEndIfAskedFor) {
    auto key_of = [&](const Caller& who) {
        Key wanted;
        wanted.account = team;
        wanted.creator = who.user;
        wanted.name = "of " + who.name;
        return ok(accounts.create_key(wanted, nullptr)).text.reveal();
    };
    std::string of_member = key_of(member), of_helper = key_of(helper), of_owner = key_of(owner);
    for (const std::string& text : {of_member, of_helper, of_owner}) ok(accounts.authenticate(text));
    ok(teams.remove_member(owner, team, member.user, false));
    ok(teams.remove_member(owner, team, helper.user, true));
    EXPECT_TRUE(sync_wait(accounts.authenticate(of_member)));
    EXPECT_FALSE(sync_wait(accounts.authenticate(of_helper)));
    EXPECT_TRUE(sync_wait(accounts.authenticate(of_owner)));
}

// A path that names a member but no team finds the one team both are in.
TEST_P(TeamDb, FindsTheTeamThatTwoPeopleShare) {
    EXPECT_EQ(ok(teams.shared_team(owner, member.user)), team);
    EXPECT_EQ(error(teams.shared_team(member, helper.user)).code, Code::not_found);
    EXPECT_EQ(error(teams.shared_team(owner, outsider.user)).code, Code::not_found);
    AccountId second = ok(teams.create(owner, "Second", "")).id;
    join(owner, second, member, TeamRole::member, {});
    EXPECT_EQ(error(teams.shared_team(owner, member.user)).param, "team_id");
    Caller acting = owner;
    acting.account = second;
    EXPECT_EQ(ok(teams.shared_team(acting, member.user)), second);
}

// What a person sees of a team must end with the change, in every process.
TEST_P(TeamDb, EachChangeIsToldWithTheUserItConcerns) {
    auto count = [](store::Tx& tx) -> Result<std::int64_t> {
        std::int64_t found = 0;
        tx.one(store::Sql{"test.changes", "SELECT COUNT(*) FROM changes WHERE topic = 'user'"}, {},
               [&](const store::Row& row) { found = row.i64(0); });
        return found;
    };
    if (GetParam() == store::Engine::sqlite) GTEST_SKIP() << "SQLite keeps notices in memory";
    std::int64_t before = db().read_blocking(count).value();
    ok(teams.change_member(owner, team, member.user, {}, Permissions()));
    EXPECT_EQ(db().read_blocking(count).value(), before + 1);
    ok(teams.remove_member(owner, team, member.user, false));
    EXPECT_EQ(db().read_blocking(count).value(), before + 2);
    (void)error(teams.remove_member(owner, team, owner.user, false));
    EXPECT_EQ(db().read_blocking(count).value(), before + 2);
}

TEST_P(TeamDb, TheLogTellsWhoDidWhat) {
    ok(teams.change(owner, team, "Renamed", "d"));
    ok(teams.remove_member(admin, team, member.user, false));
    auto lines = log(team);
    EXPECT_EQ(lines[0], "Create Team Research");
    EXPECT_THAT(std::vector(lines.end() - 2, lines.end()),
                ElementsAre("Update Team Renamed", "Remove Team Member member@example.com"));
    auto read = [this](store::Tx& tx) -> Result<AuditPage> { return read_audit(tx, team, 1, 0); };
    AuditRow newest = db().read_blocking(read).value().rows.at(0);
    EXPECT_EQ(newest.user, admin.user);
    EXPECT_EQ(newest.user_email, "admin@example.com");
    EXPECT_EQ(newest.ip, "192.0.2.1");
    EXPECT_EQ(newest.at, clock.now());
}

}  // namespace
}  // namespace nebula::accounts
