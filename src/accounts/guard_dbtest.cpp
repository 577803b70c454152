// The Guard and the routes of people through a real server: credentials, cookies, other sites, teams.
#include "accounts/guard.hpp"

#include <gmock/gmock.h>

#include "accounts/accounts.hpp"
#include "accounts/people.hpp"
#include "base/log.hpp"
#include "http/dialects.hpp"
#include "http/test_support/server_rig.hpp"
#include "store/test_support/test_db.hpp"

namespace nebula::accounts {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::vector<store::Migration> all_migrations() {
    std::vector<store::Migration> all(store::migrations().begin(), store::migrations().end());
    all.insert(all.end(), migrations().begin(), migrations().end());
    return all;
}

Async<void> say_who(http::Exchange& exchange, Caller caller) {
    std::string who = caller.kind == Caller::Kind::key ? "key" : caller.email;
    std::string text = who + " for " + caller.account.text();
    auto sent = co_await exchange.respond(200, "text/plain", text);
    (void)sent;
}

class GuardDb : public store::EngineTest {
   public:
    void SetUp() override {
        log::set_sink_for_test([](std::string_view) {});
        ASSERT_TRUE(db().migrate(all_migrations()));
        settings.verify_email = false;
        settings.sign_in_ip_rpm = 0;
        people = std::make_unique<People>(settings, oidc, db(), notices, accounts, mailer, client, rig.clock,
                                          rig.registry);
        guard = std::make_unique<Guard>(accounts, *people);
        people->register_routes(rig.router, *guard);
        route(http::Method::get, "/open", Access::anyone());
        route(http::Method::get, "/who", Access::account(Permission::inference_read));
        route(http::Method::post, "/who", Access::account(Permission::billing_write));
        route(http::Method::get, "/admin", Access::operator_());
        rig.start();
        Result<User> made = sync_wait(people->sign_up(email, Secret(password), "Ada", "", ""));
        ASSERT_TRUE(made);
        account = made->account;
    }
    void TearDown() override {
        rig.server.reset();
        log::set_sink_for_test(nullptr);
    }
    void route(http::Method method, const char* pattern, Access access) {
        guard->add(rig.router, method, pattern, http::platform_error, access, say_who);
    }
    std::string send(const std::string& line, const std::string& headers, const std::string& body = {}) {
        http::test::RawClient raw = rig.client();
        raw.send(line + " HTTP/1.1\r\nhost: nebula.test\r\n" + headers +
                 "content-length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
        return raw.read_response();
    }
    std::string signed_in_cookie(const std::string& more = {}) {
        std::string answer =
            send("POST /console/api/auth/sign-in", "content-type: application/json\r\n" + more,
                 R"({"email":"ada@example.com","password":"correct horse"})");
        std::size_t at = answer.find("set-cookie: ");
        if (at == std::string::npos) return answer;
        std::string cookie = answer.substr(at + 12);
        return cookie.substr(0, cookie.find("\r\n"));
    }
    static std::string pair_of(const std::string& cookie) { return cookie.substr(0, cookie.find(';')); }

    const std::string email = "ada@example.com";
    const std::string password = "correct horse";
    http::test::Rig rig;
    PeopleSettings settings;
    OidcSettings oidc;
    store::StoreSettings store_settings;
    store::Notices notices{db(), store_settings, rig.registry};
    http::ClientSettings client_settings;
    http::Client client{client_settings, rig.threads, rig.clock, rig.registry};
    SmtpSettings smtp;
    Mailer mailer{smtp, rig.registry};
    Accounts accounts{db(), rig.clock, rig.registry};
    std::unique_ptr<People> people;
    std::unique_ptr<Guard> guard;
    AccountId account;
};
NEBULA_BOTH_ENGINES(GuardDb);

// The platform's clients know this shape, and send a form or JSON.
TEST_P(GuardDb, ThePlatformsLoginAnswersItsShape) {
    std::string form = send("POST /api/v1/login", "content-type: application/x-www-form-urlencoded\r\n",
                            "username=ada%40example.com&password=correct+horse");
    EXPECT_THAT(form, StartsWith("HTTP/1.1 200"));
    EXPECT_THAT(form,
                HasSubstr(R"("email":"ada@example.com","is_staff":false,"is_active":true,"jwtToken":"eyJ)"));
    EXPECT_THAT(form, HasSubstr(R"("message":"Login successful")"));
    EXPECT_THAT(form, Not(HasSubstr("set-cookie")));
    std::string json = send("POST /api/v1/login", "content-type: application/json\r\n",
                            R"({"email":"ada@example.com","password":"correct horse"})");
    std::size_t at = json.find("eyJ");
    ASSERT_NE(at, std::string::npos) << json;
    std::string token = json.substr(at, json.find('"', at) - at);
    EXPECT_THAT(send("GET /who", "authorization: Bearer " + token + "\r\n"),
                HasSubstr("ada@example.com for " + account.text()));
    std::string wrong = send("POST /api/v1/login", "", "username=ada%40example.com&password=wrong");
    EXPECT_THAT(wrong, StartsWith("HTTP/1.1 401"));
    EXPECT_THAT(wrong, HasSubstr(R"("status":"error")"));
}

// The cookie is for this site's pages only, and scripts do not see it.
TEST_P(GuardDb, ACookieCountsForOwnPagesOnly) {
    std::string cookie = signed_in_cookie();
    EXPECT_THAT(cookie, HasSubstr("; Path=/; HttpOnly; SameSite=Lax; Max-Age=2592000"));
    EXPECT_THAT(cookie, Not(HasSubstr("Secure")));
    std::string header = "cookie: x=1; " + pair_of(cookie) + "\r\n";
    EXPECT_THAT(send("GET /who", header + "sec-fetch-site: cross-site\r\n"), HasSubstr(account.text()));
    const std::string json = "content-type: application/json\r\n";
    EXPECT_THAT(send("POST /who", header + json), StartsWith("HTTP/1.1 200"));
    EXPECT_THAT(send("POST /who", header + json + "sec-fetch-site: cross-site\r\n"),
                StartsWith("HTTP/1.1 403"));
    EXPECT_THAT(send("POST /who", header), StartsWith("HTTP/1.1 403"));
    EXPECT_THAT(send("POST /who", header + "origin: http://nebula.test\r\n"), StartsWith("HTTP/1.1 200"));
    // Signing a visitor of another site in as somebody else is no use of ours either.
    EXPECT_THAT(signed_in_cookie("origin: http://evil.test\r\n"), StartsWith("HTTP/1.1 403"));
    EXPECT_THAT(send("POST /console/api/auth/sign-out", header + json), HasSubstr("nebula_session=; Path=/"));
    EXPECT_THAT(send("GET /who", header), StartsWith("HTTP/1.1 401"));
}

// Whatever is asked without, with wrong, or with too small credentials.
TEST_P(GuardDb, EachRouteGetsTheCallersItAsksFor) {
    EXPECT_THAT(send("GET /open", "authorization: Bearer nonsense\r\n"), StartsWith("HTTP/1.1 200"));
    EXPECT_THAT(send("GET /who", ""), StartsWith("HTTP/1.1 401"));
    EXPECT_THAT(send("GET /who", "authorization: Bearer nonsense\r\n"), StartsWith("HTTP/1.1 401"));
    EXPECT_THAT(send("GET /who", "authorization: Bearer eyJ.eyJ.x\r\n"), StartsWith("HTTP/1.1 401"));
    std::string cookie = "cookie: " + pair_of(signed_in_cookie()) + "\r\n";
    EXPECT_THAT(send("GET /admin", cookie), StartsWith("HTTP/1.1 403"));
    EXPECT_THAT(send("GET /console/api/operator/users", cookie), StartsWith("HTTP/1.1 403"));
    Result<NewKey> key = sync_wait(accounts.create_key(account, "k", {}));
    ASSERT_TRUE(key);
    std::string bearer = "authorization: bearer " + key->text.reveal() + "\r\n";
    EXPECT_THAT(send("GET /who", bearer), HasSubstr("key for " + account.text()));
    EXPECT_THAT(send("GET /who", "x-api-key: " + key->text.reveal() + "\r\n"), HasSubstr("key for"));
    EXPECT_THAT(send("GET /console/api/me", bearer), StartsWith("HTTP/1.1 403"));
    // Naming a team one does not belong to, or a key another account, is as if there were none.
    EXPECT_THAT(send("GET /who", cookie + "x-nebula-team: acc_0000000000001\r\n"),
                StartsWith("HTTP/1.1 404"));
    EXPECT_THAT(send("GET /who?team_id=nonsense", cookie), StartsWith("HTTP/1.1 404"));
    EXPECT_THAT(send("GET /who?team_id=acc_0000000000001", bearer), StartsWith("HTTP/1.1 404"));
    EXPECT_THAT(send("GET /who?team_id=" + account.text(), bearer), StartsWith("HTTP/1.1 200"));
}

}  // namespace
}  // namespace nebula::accounts
