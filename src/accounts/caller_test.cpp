#include "accounts/caller.hpp"

#include <gmock/gmock.h>

namespace nebula::accounts {
namespace {

Caller person(TeamRole role, Permissions permissions, bool is_operator = false) {
    Caller caller;
    caller.kind = Caller::Kind::person;
    caller.role = role;
    caller.permissions = permissions;
    caller.is_operator = is_operator;
    return caller;
}

Caller key(Permissions permissions) {
    Caller caller;
    caller.kind = Caller::Kind::key;
    caller.permissions = permissions;
    caller.is_operator = true;  // must never count for a key
    return caller;
}

// The privilege matrix of all routes rests on this one decision, so every demand meets every kind of caller.
TEST(Allows, DecidesEveryDemandForEveryKindOfCaller) {
    const Caller anyone;
    const Caller customer = person(TeamRole::owner, Permissions::all());
    const Caller member = person(TeamRole::member, Permissions::of_member());
    const Caller admin = person(TeamRole::admin, Permissions::all());
    const Caller operator_person = person(TeamRole::owner, Permissions::all(), true);
    const Caller usual_key = key(Permissions::of_key());
    const Caller full_key = key(Permissions::all());
    const Caller blind_key = key(Permissions());
    struct Row {
        Access access;
        // anyone, customer, member, admin, operator, usual key, full key, key without permissions
        std::array<bool, 8> allowed;
    };
    const Row table[] = {
        {Access::anyone(), {1, 1, 1, 1, 1, 1, 1, 1}},
        {Access::person(), {0, 1, 1, 1, 1, 0, 0, 0}},
        {Access::account(Permission::inference_read), {0, 1, 1, 1, 1, 1, 1, 0}},
        {Access::account(Permission::billing_read), {0, 1, 0, 1, 1, 1, 1, 0}},
        {Access::account(Permission::billing_write), {0, 1, 0, 1, 1, 0, 1, 0}},
        {Access::account(Permission::keys_write), {0, 1, 0, 1, 1, 0, 1, 0}},
        {Access::account(Permission::team_write), {0, 1, 0, 1, 1, 0, 1, 0}},
        {Access::team_admin(), {0, 1, 0, 1, 1, 0, 0, 0}},
        {Access::team_owner(), {0, 1, 0, 0, 1, 0, 0, 0}},
        {Access::operator_(), {0, 0, 0, 0, 1, 0, 0, 0}},
        {Access::key(), {0, 1, 1, 1, 1, 1, 1, 0}},
    };
    const Caller* const callers[] = {&anyone,          &customer,  &member,   &admin,
                                     &operator_person, &usual_key, &full_key, &blind_key};
    for (const Row& row : table)
        for (std::size_t k = 0; k < 8; ++k)
            EXPECT_EQ(allows(row.access, *callers[k]), row.allowed[k])
                << row.access.name() << ", caller " << k;
}

// Words are what clients send and what is shown; the numbers behind them are stored and must stay.
TEST(PermissionNames, AreReadBackAndUnknownOnesRefused) {
    EXPECT_EQ(Permissions::parse(Permissions::all().names()), Permissions::all());
    EXPECT_EQ(Permissions::parse({"inference:write", "billing:read"})->bits(), 1u << 1 | 1u << 6);
    EXPECT_EQ(Permissions::parse({})->bits(), 0u);
    auto unknown = Permissions::parse({"inference:write", "root"});
    ASSERT_FALSE(unknown);
    EXPECT_EQ(unknown.error().param, "permissions");
    EXPECT_EQ(Access::account(Permission::billing_read).name(), "account:billing:read");
}

}  // namespace
}  // namespace nebula::accounts
