// The HTTP edges of keys, SSH keys, teams and the log, as their clients see them.
#include <boost/json/serialize.hpp>

#include "accounts/teams/activity_api.hpp"
#include "accounts/teams/fake_exchange.hpp"
#include "accounts/teams/key_api.hpp"
#include "accounts/teams/ssh_api.hpp"
#include "accounts/teams/team_api.hpp"
#include "accounts/teams/team_fixture.hpp"

namespace nebula::accounts {
namespace {

constexpr const char* public_key =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINk4Gfosl9NpYcbgf1AizoKmQnAsPjLXE5HC2RFUkYhw ada@laptop";

Async<Result<KeyUsage>> some_usage() {
    co_return KeyUsage{{2'500'000'000}, {500'000'000}, {1'000'000'000}, {2'000'000'000}};
}

class TeamEdges : public TeamFixture {
   public:
    /// Runs a handler and gives what was answered.
    template <class Edge, class Method, class... Extra>
    json::value call(Edge& edge, Method handler, Caller caller, FakeExchange exchange, Extra... extra) {
        sync_wait(respond_with(exchange, (edge.*handler)(exchange, std::move(caller), extra...)));
        status = exchange.status;
        return exchange.json;
    }
    json::value make_key(const Caller& caller, std::string body, KeyStyle style = KeyStyle::openrouter) {
        return call(keys, &KeyApi::create, caller, FakeExchange(std::move(body)), style);
    }
    json::value list_keys(const Caller& caller, std::string query = {}) {
        return call(keys, &KeyApi::list, caller, FakeExchange({}, {}, std::move(query)),
                    KeyStyle::openrouter);
    }
    json::value change_key(const Caller& caller, std::string id, std::string body) {
        return call(keys, &KeyApi::change, caller, FakeExchange(std::move(body), {{"id", std::move(id)}}),
                    KeyStyle::openrouter);
    }
    static std::string text(const json::value& value) { return std::string(value.as_string()); }

    KeyApi keys{db(), accounts, clock};
    SshApi ssh{db(), clock};
    TeamApi team_api{teams};
    ActivityApi activity{db()};
    int status = 0;
};
NEBULA_BOTH_ENGINES(TeamEdges);

// Part 6 of the platform's reference: what its portal and its tests read.
TEST_P(TeamEdges, KeysHaveThePlatformsForm) {
    Caller ada = person("ada@example.com");
    json::value made = make_key(ada, R"({"name":"laptop","description":"mine"})");
    EXPECT_EQ(status, 200);
    EXPECT_EQ(made.at("message"), "API key successfully created");
    EXPECT_EQ(made.at("status"), "success");
    std::string full = text(made.at("data").at("key"));
    EXPECT_TRUE(is_well_formed_key(full));
    EXPECT_EQ(made.at("data").at("name"), "laptop");
    EXPECT_EQ(made.at("data").at("description"), "mine");

    json::value list = list_keys(ada);
    EXPECT_EQ(list.at("message"), "API keys successfully retrieved");
    const json::value& key = list.at("data").at(0);
    EXPECT_EQ(key.at("id"), made.at("data").at("id"));
    EXPECT_EQ(key.at("status"), 1);
    EXPECT_EQ(key.at("created_at"), unix_seconds(clock.now()));
    EXPECT_TRUE(key.at("team").is_null());
    // Shown once: the list has only the masked form.
    EXPECT_EQ(json::serialize(list).find(full), std::string::npos);
    EXPECT_NE(key.at("partial_key_data"), json::value(full));

    std::string id = text(key.at("id"));
    json::value again = change_key(ada, id, R"({"regenerate":true,"name":"renamed"})");
    EXPECT_EQ(status, 200);
    EXPECT_EQ(again.at("data").at("id"), json::value(id));
    EXPECT_EQ(again.at("data").at("name"), "renamed");
    EXPECT_NE(again.at("data").at("key"), json::value(full));
    EXPECT_FALSE(sync_wait(accounts.authenticate(full)));
    EXPECT_TRUE(sync_wait(accounts.authenticate(text(again.at("data").at("key")))));

    json::value gone = call(keys, &KeyApi::remove, ada, FakeExchange({}, {{"id", id}}), KeyStyle::platform);
    EXPECT_EQ(gone.at("message"), "API key successfully deleted");
    EXPECT_TRUE(gone.at("data").as_object().empty());
    EXPECT_TRUE(list_keys(ada).at("data").as_array().empty());
    change_key(ada, id, "{}");
    EXPECT_EQ(status, 404);
}

TEST_P(TeamEdges, TheTwentyFirstRegenerationIsRefusedInThePlatformsWords) {
    Caller ada = person("ada@example.com");
    std::string id = text(make_key(ada, R"({"name":"k"})").at("data").at("id"));
    for (int k = 0; k < 20; ++k) {
        change_key(ada, id, R"({"regenerate":true})");
        ASSERT_EQ(status, 200);
    }
    json::value refused = change_key(ada, id, R"({"regenerate":true})");
    EXPECT_EQ(status, 400);
    EXPECT_THAT(text(refused.at("detail")), ::testing::HasSubstr("21 API keys"));
}

// A.10 of OpenRouter's reference: its SDK refuses an answer that lacks a member or has another type.
TEST_P(TeamEdges, KeysHaveOpenRoutersForm) {
    keys.set_key_usage([](AccountId, KeyId) { return some_usage(); });
    Caller ada = person("ada@example.com");
    Key manager;
    manager.account = ada.account;
    manager.name = "management";
    Caller caller = key_caller(ok(accounts.create_key(manager, nullptr)).key);
    json::value made = make_key(
        caller, R"({"name":"app","limit":12.5,"limit_reset":"monthly","include_byok_in_limit":false})");
    EXPECT_EQ(status, 201);
    EXPECT_TRUE(is_well_formed_key(text(made.at("key"))));
    const json::object& data = made.at("data").as_object();
    for (const char* name :
         {"usage", "usage_daily", "usage_weekly", "usage_monthly", "byok_usage", "byok_usage_daily",
          "byok_usage_weekly", "byok_usage_monthly", "limit", "limit_remaining"})
        EXPECT_TRUE(data.at(name).is_number()) << name;
    EXPECT_EQ(data.at("limit").to_number<double>(), 12.5);
    EXPECT_EQ(data.at("limit_remaining").to_number<double>(), 10.5);
    EXPECT_EQ(data.at("limit_reset"), "monthly");
    EXPECT_EQ(data.at("disabled"), false);
    EXPECT_EQ(data.at("created_at"), json::value(to_iso8601(clock.now())));
    EXPECT_TRUE(data.at("updated_at").is_null());
    std::string hash = text(data.at("hash"));
    EXPECT_EQ(hash, to_hex(sha256(text(made.at("key"))).bytes));

    json::value changed = change_key(caller, hash, R"({"disabled":true,"limit":null})");
    EXPECT_EQ(changed.at("data").at("disabled"), true);
    EXPECT_TRUE(changed.at("data").at("limit").is_null());
    EXPECT_TRUE(changed.at("data").at("limit_reset").is_null());
    EXPECT_EQ(changed.at("data").at("status"), 2);
    EXPECT_EQ(list_keys(caller).at("data").as_array().size(), 2u);
    EXPECT_EQ(list_keys(caller, "include_disabled=false").at("data").as_array().size(), 1u);
    EXPECT_EQ(list_keys(caller, "offset=1").at("data").as_array().size(), 1u);
    EXPECT_TRUE(list_keys(caller, "offset=2").at("data").as_array().empty());
    json::value gone =
        call(keys, &KeyApi::remove, caller, FakeExchange({}, {{"id", hash}}), KeyStyle::openrouter);
    EXPECT_EQ(gone.at("deleted"), true);

    json::value own = call(keys, &KeyApi::own, caller, FakeExchange()).at("data");
    for (const char* name :
         {"label", "limit", "limit_remaining", "limit_reset", "include_byok_in_limit", "usage", "usage_daily",
          "usage_weekly", "usage_monthly", "byok_usage", "byok_usage_daily", "byok_usage_weekly",
          "byok_usage_monthly", "is_free_tier", "is_management_key", "is_provisioning_key", "creator_user_id",
          "expires_at", "rate_limit"})
        EXPECT_TRUE(own.as_object().contains(name)) << name;
    EXPECT_EQ(own.at("rate_limit").at("requests"), -1);
    call(keys, &KeyApi::own, ada, FakeExchange());
    EXPECT_EQ(status, 404);
}

// Each mistake names its field, and a mistyped one is no silent lack of a limit.
TEST_P(TeamEdges, BadKeyRequestsNameTheField) {
    Caller ada = person("ada@example.com");
    struct Case {
        const char* body;
        const char* param;
    };
    for (const Case& one :
         {Case{"{}", "name"}, Case{R"({"name":7})", "name"}, Case{R"({"name":"k","limt":1})", "limt"},
          Case{R"({"name":"k","limit":0})", "limit"}, Case{R"({"name":"k","limit":-1})", "limit"},
          Case{R"({"name":"k","limit":1,"limit_reset":"hourly"})", "limit_reset"},
          Case{R"({"name":"k","budget":{"yearly":1}})", "budget"},
          Case{R"({"name":"k","budget":{"daily":-1}})", "budget"},
          Case{R"({"name":"k","budget_total":"1.0000000001"})", "budget_total"},
          Case{R"({"name":"k","rpm":-1})", "rpm"}, Case{R"({"name":"k","limits":{"rpx":1}})", "limits"},
          Case{R"({"name":"k","models":"qwen"})", "models"},
          Case{R"({"name":"k","permissions":[4]})", "permissions"},
          Case{R"({"name":"k","scopes":["root"]})", "scopes"},
          Case{R"({"name":"k","expires_at":"soon"})", "expires_at"},
          Case{R"({"name":"k","expires_at":1})", "expires_at"},
          Case{R"({"name":"k","team_id":"acc_0000000000001"})", "team_id"}}) {
        json::value refused = make_key(ada, one.body);
        EXPECT_TRUE(status == 400 || status == 404) << one.body << status;
        EXPECT_EQ(refused.at("error").at("details").at("param"), one.param) << one.body;
    }
    EXPECT_TRUE(list_keys(ada).at("data").as_array().empty());
    EXPECT_TRUE(log(ada.account).empty());
}

TEST_P(TeamEdges, KeysTakeBudgetsLimitsAndScopesInEverySpelling) {
    Caller ada = person("ada@example.com");
    auto stored = [&](std::string body) {
        json::value made = make_key(ada, std::move(body));
        EXPECT_EQ(status / 100, 2) << made;
        return ok(accounts.key(ada.account, *KeyId::parse(text(made.at("data").at("id")))));
    };
    Key one = stored(R"({"name":"k","budget":{"daily":"0.5","total":2,"monthly":1.25},"rpm":5,
                         "limits":{"tpm":7},"permissions":[1,"billing:read"],"models":["a","b*"]})");
    EXPECT_EQ(one.budget.daily.value, 500'000'000);
    EXPECT_EQ(one.budget.total.value, 2'000'000'000);
    EXPECT_EQ(one.budget.monthly.value, 1'250'000'000);
    EXPECT_EQ(one.limits.rpm, 5);
    EXPECT_EQ(one.limits.tpm, 7);
    EXPECT_EQ(one.permissions, Permissions()
                                   .with(Permission::inference_read)
                                   .with(Permission::inference_write)
                                   .with(Permission::billing_read)
                                   .bits());
    EXPECT_EQ(one.models, (std::vector<std::string>{"a", "b*"}));
    Key two = stored(R"({"name":"k","budget_weekly":"3","expires_at":"2026-02-01T00:00:00Z"})");
    EXPECT_EQ(two.budget.weekly.value, 3'000'000'000);
    EXPECT_EQ(two.permissions, Permissions::of_key().bits());
    EXPECT_TRUE(two.expires_at);
    // PATCH leaves what it does not name.
    change_key(ada, two.id.text(), R"({"expires_at":null,"limit_reset":"daily"})");
    Key changed = ok(accounts.key(ada.account, two.id));
    EXPECT_FALSE(changed.expires_at);
    EXPECT_EQ(changed.budget.daily.value, 3'000'000'000);
    EXPECT_EQ(changed.budget.weekly.value, 0);
}

// "A team key is a key made with team_id"; people see theirs and their teams', as far as they may.
TEST_P(TeamEdges, TeamKeysAreSeenByWhoMayReadThem) {
    Caller ada = person("ada@example.com"), bob = person("bob@example.com"), eve = person("eve@example.com");
    AccountId team = ok(teams.create(ada, "Research", "d")).id;
    join(ada, team, bob, TeamRole::member, Permissions::of_member());
    json::value made = make_key(ada, R"({"name":"shared","team_id":")" + team.text() + R"("})");
    ASSERT_EQ(status, 200);
    std::string id = text(made.at("data").at("id"));
    EXPECT_EQ(made.at("data").at("team").at("name"), "Research");
    EXPECT_EQ(list_keys(bob).at("data").at(0).at("id"), json::value(id));
    EXPECT_TRUE(list_keys(eve).at("data").as_array().empty());
    // Reading is not changing, and to outsiders it is not there.
    for (const Caller& who : {bob, eve}) {
        change_key(who, id, R"({"regenerate":true})");
        EXPECT_EQ(status, 404);
    }
    make_key(bob, R"({"name":"x","team_id":")" + team.text() + R"("})");
    EXPECT_EQ(status, 404);
    change_key(ada, id, R"({"name":"renamed"})");
    EXPECT_EQ(status, 200);
    EXPECT_EQ(log(team).back(), "Update API Key renamed");
}

// Seed 003's text: a name in, a key out, with errors of one word.
TEST_P(TeamEdges, TheCreditApiMakesListsAndDeletesKeys) {
    Caller ada = person("ada@example.com");
    json::value made = call(keys, &KeyApi::create_credits, ada, FakeExchange(R"({"name":"My API Key"})"));
    EXPECT_EQ(status, 200);
    EXPECT_EQ(made.at("name"), "My API Key");
    EXPECT_TRUE(is_well_formed_key(text(made.at("key"))));
    json::value list = call(keys, &KeyApi::list_credits, ada, FakeExchange());
    EXPECT_EQ(list.at("keys").at(0).at("id"), made.at("id"));
    EXPECT_NE(list.at("keys").at(0).at("key"), made.at("key"));
    call(keys, &KeyApi::remove_credits, ada, FakeExchange({}, {{"id", text(made.at("id"))}}));
    EXPECT_EQ(status, 200);
    EXPECT_FALSE(sync_wait(accounts.authenticate(text(made.at("key")))));
}

// Part 7, word for word.
TEST_P(TeamEdges, SshKeysHaveThePlatformsForm) {
    Caller ada = person("ada@example.com"), bob = person("bob@example.com");
    std::string body = R"({"key_name":"laptop","key_data":")" + std::string(public_key) + R"("})";
    json::value made = call(ssh, &SshApi::create, ada, FakeExchange(body));
    EXPECT_EQ(made.at("message"), "SSH key created successfully");
    EXPECT_EQ(made.at("data").at("key_name"), "laptop");
    EXPECT_EQ(made.at("data").at("key_data"), public_key);
    EXPECT_EQ(made.at("data").at("create_time"), json::value(std::to_string(unix_seconds(clock.now()))));
    std::string id = std::to_string(made.at("data").at("id").as_int64());

    json::value twice = call(ssh, &SshApi::create, ada, FakeExchange(body));
    EXPECT_EQ(status, 400);
    EXPECT_EQ(twice.at("message"), "You already have an SSH key with the same public key content.");
    call(ssh, &SshApi::create, bob, FakeExchange(body));  // somebody else may have it too
    EXPECT_EQ(status, 200);

    json::value list = call(ssh, &SshApi::list, ada, FakeExchange());
    EXPECT_EQ(list.at("message"), "SSH keys retrieved successfully");
    EXPECT_EQ(list.at("data").at("total_ssh_keys"), 1);
    EXPECT_EQ(list.at("data").at("ssh_keys").at(0).at("create_time"),
              json::value(http::eastern_text(clock.now())));
    json::value renamed = call(ssh, &SshApi::rename, ada, FakeExchange(R"({"name":"desk"})", {{"id", id}}));
    EXPECT_EQ(renamed.at("message"), "SSH key updated successfully");
    EXPECT_EQ(renamed.at("data").at("key_name"), "desk");
    for (const std::string& bad : {std::string("999999"), std::string("x"), std::string()}) {
        call(ssh, &SshApi::remove, ada, FakeExchange({}, {{"id", bad}}));
        EXPECT_EQ(status, 404);
    }
    call(ssh, &SshApi::remove, bob, FakeExchange({}, {{"id", id}}));
    EXPECT_EQ(status, 404);
    json::value gone = call(ssh, &SshApi::remove, ada, FakeExchange({}, {{"id", id}}));
    EXPECT_EQ(gone.at("message"), "SSH key deleted successfully");
    EXPECT_THAT(log(ada.account), ::testing::ElementsAre("Create SSH Key laptop", "Update SSH Key desk",
                                                         "Delete SSH Key desk"));
}

// Part 9: the members that were seen there.
TEST_P(TeamEdges, TeamsHaveThePlatformsForm) {
    Caller ada = person("ada@example.com"), bob = person("bob@example.com");
    json::value made =
        call(team_api, &TeamApi::create, ada, FakeExchange(R"({"name":"Research","description":"d"})"));
    EXPECT_EQ(made.at("message"), "Team created successfully");
    std::string id = text(made.at("data").at("id"));
    json::value list = call(team_api, &TeamApi::list, ada, FakeExchange());
    EXPECT_EQ(list.at("message"), "Teams retrieved successfully");
    const json::value& team = list.at("data").at(0);
    EXPECT_EQ(team.at("role"), 0);
    EXPECT_EQ(team.at("members"), 1);
    EXPECT_EQ(team.at("created_at"), unix_seconds(clock.now()));
    EXPECT_EQ(team.at("owner").at("id"), json::value(ada.user.text()));
    json::value permissions = call(team_api, &TeamApi::permissions, ada, FakeExchange({}, {{"id", id}}));
    EXPECT_EQ(permissions.at("message"), "permissions retrieved successfully");
    std::vector<std::int64_t> ids;
    for (const auto& one : permissions.at("data").as_array())
        if (one.at("id").as_int64() < 100) ids.push_back(one.at("id").as_int64());
    EXPECT_THAT(ids, ::testing::ElementsAre(1, 2, 3, 5, 6, 7, 8, 10, 11, 12));

    json::value invited =
        call(team_api, &TeamApi::invite, ada,
             FakeExchange(R"({"email":"bob@example.com","role":1,"permissions":[1,12,"keys:read"]})",
                          {{"id", id}}));
    EXPECT_EQ(invited.at("message"), "Team member invited successfully");
    std::string token = text(invited.at("data").at("token"));
    json::value info = call(team_api, &TeamApi::invitation, Caller{}, FakeExchange({}, {{"token", token}}));
    EXPECT_EQ(info.at("data").at("team").at("name"), "Research");
    EXPECT_FALSE(info.at("data").as_object().contains("token"));
    json::value joined = call(team_api, &TeamApi::accept, bob, FakeExchange({}, {{"token", token}}));
    EXPECT_EQ(joined.at("data").at("permissions"), (json::array{1, 12, 102}));

    // The singular path names no team.
    json::value promoted = call(team_api, &TeamApi::change_member, ada,
                                FakeExchange(R"({"role":2})", {{"id", bob.user.text()}}));
    EXPECT_EQ(promoted.at("data").at("role"), 2);
    json::value members = call(team_api, &TeamApi::members, bob, FakeExchange({}, {{"id", id}}));
    EXPECT_EQ(members.at("data").as_array().size(), 2u);
    call(team_api, &TeamApi::remove_member, ada, FakeExchange({}, {{"id", bob.user.text()}}));
    EXPECT_EQ(status, 200);
    call(team_api, &TeamApi::get, bob, FakeExchange({}, {{"id", id}}));
    EXPECT_EQ(status, 404);
    for (const char* bad : {"", "7", "acc_", "acc_!!!!!!!!!!!!!"}) {
        call(team_api, &TeamApi::get, ada, FakeExchange({}, {{"id", bad}}));
        EXPECT_EQ(status, 404) << bad;
    }
    json::value gone = call(team_api, &TeamApi::remove, ada, FakeExchange({}, {{"id", id}}));
    EXPECT_EQ(gone.at("message"), "Team deleted successfully");
}

// Part 10, with its paging.
TEST_P(TeamEdges, TheActivityIsPagedNewestFirst) {
    Caller ada = person("ada@example.com");
    for (const char* name : {"a", "b", "c"}) make_key(ada, R"({"name":")" + std::string(name) + R"("})");
    json::value page = call(activity, &ActivityApi::list, ada, FakeExchange({}, {}, "page_size=2&page=1"));
    EXPECT_EQ(page.at("pagination").at("total_records"), 3);
    EXPECT_EQ(page.at("pagination").at("total_pages"), 2);
    EXPECT_EQ(page.at("pagination").at("has_next"), true);
    const json::value& newest = page.at("data").at(0);
    EXPECT_EQ(newest.at("resource_name"), "c");
    EXPECT_EQ(newest.at("action"), "Create");
    EXPECT_EQ(newest.at("resource"), "API Key");
    EXPECT_EQ(newest.at("user_email"), "ada@example.com");
    EXPECT_EQ(newest.at("activity_time"), "2025-12-31 19:00:00 EST");
    page = call(activity, &ActivityApi::list, ada, FakeExchange({}, {}, "page_size=2&page=2"));
    EXPECT_EQ(page.at("data").as_array().size(), 1u);
    EXPECT_EQ(page.at("pagination").at("has_next"), false);
    call(activity, &ActivityApi::list, ada, FakeExchange({}, {}, "page=0"));
    EXPECT_EQ(status, 400);
}

}  // namespace
}  // namespace nebula::accounts
