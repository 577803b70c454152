// People on both engines: what an attacker would try, and what a person does.
#include "accounts/people.hpp"

#include <gmock/gmock.h>

#include <mutex>

#include "accounts/people/impl.hpp"
#include "accounts/people/totp.hpp"
#include "base/log.hpp"
#include "store/test_support/test_db.hpp"

namespace nebula::accounts {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::HasSubstr;

// Without a mail server mails are in the log; tests read them there as the operator would.
std::mutex mails_mutex;
std::vector<std::string> mails;

void keep_mail(std::string_view line) {
    std::lock_guard lock(mails_mutex);
    if (line.find("no mail server is configured") != std::string_view::npos) mails.emplace_back(line);
}
std::size_t mail_count() {
    std::lock_guard lock(mails_mutex);
    return mails.size();
}
/// Of the newest mail.
std::string mailed_token() {
    std::lock_guard lock(mails_mutex);
    if (mails.empty()) return {};
    std::size_t at = mails.back().find("token=");
    if (at == std::string::npos) at = mails.back().find("invitation=") + 5;
    std::string_view rest = std::string_view(mails.back()).substr(at + 6);
    return std::string(rest.substr(0, 43));
}

std::vector<store::Migration> all_migrations() {
    std::vector<store::Migration> all(store::migrations().begin(), store::migrations().end());
    all.insert(all.end(), migrations().begin(), migrations().end());
    return all;
}

const char* const good_password = "correct horse";

class PeopleDb : public store::EngineTest {
   public:
    void SetUp() override {
        log::set_sink_for_test(keep_mail);
        mails.clear();
        ASSERT_TRUE(db().migrate(all_migrations()));
        settings.sign_in_ip_rpm = 0;
        start();
    }
    void TearDown() override {
        notices.reset();
        people.reset();
        log::set_sink_for_test(nullptr);
    }
    void start() {
        // A subscription lasts as long as the notices do, which is longer than what they tell.
        notices.reset();
        people.reset();
        notices = std::make_unique<store::Notices>(db(), store_settings, metrics());
        people = std::make_unique<People>(settings, oidc, db(), *notices, *accounts, mailer, client, clock,
                                          metrics());
        people->set_on_activated([this](UserId, AccountId account) { return activated(account); });
    }
    Async<Result<void>> activated(AccountId account) {
        activations.push_back(account);
        if (activation_fails) co_return fail(Code::internal, "on order");
        co_return Result<void>();
    }

    metrics::Registry& metrics() { return test_db().metrics(); }
    template <class T>
    static T ok(Async<Result<T>> work) {
        Result<T> result = sync_wait(std::move(work));
        EXPECT_TRUE(result) << result.error().message << " / " << result.error().detail;
        if constexpr (!std::is_void_v<T>) return std::move(result.value());
    }
    template <class T>
    static Error error(Async<Result<T>> work) {
        Result<T> result = sync_wait(std::move(work));
        EXPECT_FALSE(result);
        return result ? Error{} : result.error();
    }

    Async<Result<User>> sign_up(std::string email) {
        return people->sign_up(std::move(email), Secret(good_password), "Ada", "", "10.0.0.1");
    }
    Async<Result<SignIn>> sign_in(std::string email, std::string password = good_password,
                                  std::string totp = {}) {
        return people->sign_in(
            {std::move(email), Secret(std::move(password)), std::move(totp), "10.0.0.1", "test"});
    }
    /// Signed up, verified.
    void customer(const std::string& email) {
        ok(sign_up(email));
        ok(people->verify_email(mailed_token()));
    }
    Caller caller_of(const SignIn& signed_in) {
        return ok(people->by_session(signed_in.session.token.reveal()));
    }
    std::uint64_t compared() {
        return metrics().counter("nebula_people_password_hashes_total", "", {{"for", "comparing"}}).value();
    }
    std::uint64_t hashed() {
        return metrics().counter("nebula_people_password_hashes_total", "", {{"for", "storing"}}).value();
    }
    std::int64_t number(const char* text) {
        auto read = [text](store::Tx& tx) -> Result<std::int64_t> {
            std::int64_t value = -1;
            tx.one(store::Sql{"test.number", text}, {}, [&](const store::Row& row) { value = row.i64(0); });
            return value;
        };
        return db().read_blocking(read).value();
    }

    FakeClock clock;
    PeopleSettings settings;
    OidcSettings oidc;
    store::StoreSettings store_settings;
    std::unique_ptr<store::Notices> notices;
    IoThreads threads{clock, 1};
    http::ClientSettings client_settings;
    http::Client client{client_settings, threads, clock, metrics()};
    SmtpSettings smtp;
    Mailer mailer{smtp, metrics()};
    std::unique_ptr<Accounts> accounts = std::make_unique<Accounts>(db(), clock, metrics());
    std::vector<AccountId> activations;
    bool activation_fails = false;
    std::unique_ptr<People> people;
};
NEBULA_BOTH_ENGINES(PeopleDb);

// Nobody may sign up for somebody else: the account is active behind the mailed link only, and the gift comes
// once, however often the link is opened.
TEST_P(PeopleDb, ASignUpIsActiveBehindTheMailedLinkAndActivatedOnce) {
    User user = ok(sign_up(" Ada@Example.com "));
    EXPECT_EQ(user.email, "ada@example.com");
    EXPECT_FALSE(user.is_active);
    EXPECT_EQ(error(sign_in("ada@example.com")).code, Code::forbidden);
    EXPECT_TRUE(activations.empty());
    std::string token = mailed_token();
    EXPECT_EQ(error(people->verify_email(token + "x")).param, "token");
    ok(people->verify_email(token));
    ok(people->verify_email(token));
    SignIn signed_in = ok(sign_in("ADA@example.com"));
    EXPECT_EQ(activations, std::vector{signed_in.account});
    EXPECT_EQ(signed_in.user.name, "Ada");
    Account account = ok(accounts->account("ada@example.com"));
    EXPECT_EQ(account.id, signed_in.account);
    Caller caller = caller_of(signed_in);
    EXPECT_EQ(caller.account, signed_in.account);
    EXPECT_EQ(caller.role, TeamRole::owner);
    EXPECT_FALSE(caller.is_operator);
}

// A gift that could not be given is given at the next sign-in.
TEST_P(PeopleDb, AFailedActivationIsTriedAgain) {
    activation_fails = true;
    customer("ada@example.com");
    EXPECT_EQ(activations.size(), 1u);
    activation_fails = false;
    ok(sign_in("ada@example.com"));
    ok(sign_in("ada@example.com"));
    EXPECT_EQ(activations.size(), 2u);
}

// The link of a sign-up brings that sign-up's password, so nobody can lay a password in wait for an address.
TEST_P(PeopleDb, TheOpenedLinkDecidesWhosePasswordCounts) {
    ok(people->sign_up("ada@example.com", Secret("attacker's one"), "", "", "10.0.0.9"));
    ok(sign_up("ada@example.com"));
    ok(people->verify_email(mailed_token()));
    ok(sign_in("ada@example.com"));
    EXPECT_EQ(error(sign_in("ada@example.com", "attacker's one")).code, Code::unauthenticated);
}

// Links in mails lie around: two days for activating.
TEST_P(PeopleDb, AnActivationLinkExpires) {
    ok(sign_up("ada@example.com"));
    std::string token = mailed_token();
    clock.advance(hours(48));
    EXPECT_EQ(error(people->verify_email(token)).code, Code::invalid_request);
    EXPECT_EQ(error(sign_in("ada@example.com")).code, Code::forbidden);
}

// The three modes of signing up.
TEST_P(PeopleDb, InvitationsOpenAClosedDoorForOneAddressOnce) {
    settings.sign_up = "closed";
    start();
    EXPECT_EQ(error(sign_up("ada@example.com")).code, Code::forbidden);
    settings.sign_up = "invite";
    start();
    EXPECT_EQ(error(sign_up("ada@example.com")).code, Code::forbidden);

    User boss = ok(accounts->create_user("boss@example.com", Secret("operator pass"), Role::operator_));
    SignIn boss_in = ok(sign_in("boss@example.com", "operator pass"));
    Caller caller = caller_of(boss_in);
    EXPECT_TRUE(caller.is_operator);
    People::Impl impl(settings, oidc, db(), *notices, mailer, client, clock, metrics());
    ok(impl.invite(caller, "ada@example.com"));
    std::string invitation = mailed_token();
    auto use = [&](const char* email) {
        return people->sign_up(email, Secret(good_password), "", invitation, "10.0.0.1");
    };
    EXPECT_EQ(error(use("eve@example.com")).code, Code::forbidden);
    EXPECT_TRUE(ok(use("ada@example.com")).is_active);
    ok(sign_in("ada@example.com"));
    EXPECT_EQ(error(use("ada@example.com")).code, Code::forbidden);
}

// Whoever invites to a team sees the token: with it he could sign up as the owner of any address.
TEST_P(PeopleDb, ATeamsInvitationOpensTheDoorButProvesNoAddress) {
    settings.sign_up = "invite";
    start();
    Account team = ok(accounts->create_account("Team"));
    const std::string token(40, 'x'), hash = to_hex(sha256(token).bytes);
    auto invite = [&](store::Tx& tx) -> Result<bool> {
        tx.exec(store::Sql{"test.invite",
                           "INSERT INTO invitations (account_id, email, role, permissions, token_hash,"
                           " created_at, expires_at) VALUES ($1, 'ada@example.com', 1, 0, $2, 1, $3)"},
                {team.id.db(), hash, to_micros(clock.now() + hours(1))});
        return true;
    };
    ASSERT_TRUE(db().in_tx_blocking(invite));
    auto use = [&](const char* email) {
        return people->sign_up(email, Secret(good_password), "", token, "10.0.0.1");
    };
    EXPECT_EQ(error(use("eve@example.com")).code, Code::forbidden);
    EXPECT_FALSE(ok(use("ada@example.com")).is_active);
    EXPECT_EQ(error(sign_in("ada@example.com")).code, Code::forbidden);
    EXPECT_FALSE(ok(use("ada@example.com")).is_active);  // again: nothing is proved by trying twice
    ok(people->verify_email(mailed_token()));
    ok(sign_in("ada@example.com"));
}

// A cookie planted before signing in must be worth nothing after it, and each sign-in makes another session.
TEST_P(PeopleDb, SessionsAreNewAtEverySignInAndStoredAsHashes) {
    customer("ada@example.com");
    SignIn first = ok(sign_in("ada@example.com"));
    SignIn second = ok(sign_in("ada@example.com"));
    EXPECT_EQ(first.session.token.reveal().size(), 43u);
    EXPECT_NE(first.session.token, second.session.token);
    EXPECT_NE(first.session.id, second.session.id);
    for (const std::string& planted :
         {std::string(43, 'a'), first.session.id, std::string(), std::string(200, 'x')})
        EXPECT_EQ(error(people->by_session(planted)).code, Code::unauthenticated);
    auto stored = [](store::Tx& tx) -> Result<std::vector<std::string>> {
        std::vector<std::string> all;
        tx.query(store::Sql{"test.tokens", "SELECT token_hash FROM sessions ORDER BY id"}, {},
                 [&](const store::Row& row) { all.emplace_back(row.text(0)); });
        return all;
    };
    auto hashes = db().read_blocking(stored).value();
    EXPECT_THAT(hashes, ::testing::ElementsAre(to_hex(sha256(first.session.token.reveal()).bytes),
                                               to_hex(sha256(second.session.token.reveal()).bytes)));
    EXPECT_EQ(ok(people->sessions(first.user.id)).size(), 2u);
    Caller caller = caller_of(first);
    caller_of(second);
    ok(people->sign_out(first.session.id, caller.user));
    EXPECT_EQ(error(people->by_session(first.session.token.reveal())).code, Code::unauthenticated);
    EXPECT_EQ(error(people->sign_out(second.session.id, UserId{1})).code, Code::not_found);
    caller_of(second);
}

// Forgotten sessions end: after a week without use, and after a month in any case.
TEST_P(PeopleDb, SessionsEndWhenIdleAndAtTheirLastDay) {
    customer("ada@example.com");
    SignIn idle = ok(sign_in("ada@example.com"));
    SignIn used = ok(sign_in("ada@example.com"));
    for (int day = 0; day < 6; ++day) {
        clock.advance(hours(24));
        caller_of(used);
    }
    clock.advance(hours(24));
    EXPECT_EQ(error(people->by_session(idle.session.token.reveal())).code, Code::unauthenticated);
    for (int day = 7; day < 29; ++day) {
        clock.advance(hours(24));
        caller_of(used);
    }
    clock.advance(hours(24));
    EXPECT_EQ(error(people->by_session(used.session.token.reveal())).code, Code::unauthenticated);
}

// Same answer, same number of computations, whether the address is known or not.
TEST_P(PeopleDb, NothingTellsWhetherAnAddressIsKnown) {
    customer("ada@example.com");
    std::uint64_t before = compared();
    Error known = error(sign_in("ada@example.com", "wrong password"));
    EXPECT_EQ(compared(), before + 1);
    Error unknown = error(sign_in("eve@example.com", "wrong password"));
    EXPECT_EQ(compared(), before + 2);
    EXPECT_EQ(std::tie(known.code, known.message, known.param),
              std::tie(unknown.code, unknown.message, unknown.param));

    std::uint64_t stored = hashed();
    std::size_t sent = mail_count();
    User taken = ok(sign_up("ada@example.com"));
    EXPECT_EQ(hashed(), stored + 1);
    User free = ok(sign_up("bob@example.com"));
    EXPECT_EQ(hashed(), stored + 2);
    EXPECT_EQ(std::tie(taken.name, taken.is_active, taken.role),
              std::tie(free.name, free.is_active, free.role));
    EXPECT_EQ(mail_count(), sent + 2);
    EXPECT_THAT(mails[sent], HasSubstr("tried to sign up with this address"));
    ok(sign_in("ada@example.com"));

    std::int64_t tokens = number("SELECT COUNT(*) FROM one_time_tokens WHERE purpose = 'reset'");
    ok(people->request_password_reset("ada@example.com", "10.0.0.1"));
    ok(people->request_password_reset("eve@example.com", "10.0.0.1"));
    EXPECT_EQ(number("SELECT COUNT(*) FROM one_time_tokens WHERE purpose = 'reset'"), tokens + 2);
    EXPECT_EQ(mail_count(), sent + 3);
    EXPECT_EQ(hashed(), stored + 2);
}

// Guessing gets slower and slower, for known and unknown addresses alike, and costs no computation while
// locked.
TEST_P(PeopleDb, AnAddressIsLockedForLongerAndLonger) {
    settings.failures_before_lockout = 2;
    start();
    customer("ada@example.com");
    for (const char* email : {"ada@example.com", "nobody@example.com"}) {
        EXPECT_EQ(error(sign_in(email, "wrong password")).code, Code::unauthenticated);
        for (int wait : {1, 2, 4}) {
            EXPECT_EQ(error(sign_in(email, "wrong password")).code, Code::unauthenticated);
            std::uint64_t before = compared();
            Error locked = error(sign_in(email));
            EXPECT_EQ(locked.code, Code::rate_limited);
            EXPECT_EQ(locked.retry_after_ms, wait * 1000);
            EXPECT_EQ(compared(), before);
            clock.advance(seconds(wait));
        }
    }
    ok(sign_in("ada@example.com"));
    EXPECT_EQ(error(sign_in("ada@example.com", "wrong password")).code, Code::unauthenticated);
    ok(sign_in("ada@example.com"));
}

// One network may not try all addresses.
TEST_P(PeopleDb, AttemptsPerNetworkAreBounded) {
    settings.sign_in_ip_rpm = 2;
    start();
    EXPECT_EQ(error(sign_in("a@example.com")).code, Code::unauthenticated);
    EXPECT_EQ(error(people->request_password_reset("bad address", "10.0.0.1")).code, Code::invalid_request);
    EXPECT_EQ(error(sign_in("c@example.com")).code, Code::rate_limited);
    EXPECT_EQ(error(sign_up("c@example.com")).code, Code::rate_limited);
    clock.advance(minutes(1));
    EXPECT_EQ(error(sign_in("c@example.com")).code, Code::unauthenticated);
}

// Whoever had the password, a session or a token before a reset has nothing after it.
TEST_P(PeopleDb, AResetLinkIsGoodOnceAndEndsEverything) {
    customer("ada@example.com");
    SignIn signed_in = ok(sign_in("ada@example.com"));
    std::string jwt = ok(people->make_jwt(caller_of(signed_in))).reveal();
    EXPECT_TRUE(People::looks_like_jwt(jwt));
    EXPECT_EQ(ok(people->by_jwt(jwt)).user, signed_in.user.id);

    ok(people->request_password_reset("ada@example.com", "10.0.0.1"));
    std::string expired = mailed_token();
    clock.advance(hours(1));
    EXPECT_EQ(error(people->reset_password(expired, Secret("a fresh password"))).param, "token");
    ok(people->request_password_reset("ada@example.com", "10.0.0.1"));
    std::string token = mailed_token();
    EXPECT_EQ(error(people->reset_password(token, Secret("short"))).param, "password");
    ok(people->reset_password(token, Secret("a fresh password")));
    EXPECT_EQ(error(people->reset_password(token, Secret("another password"))).param, "token");
    EXPECT_EQ(error(people->by_session(signed_in.session.token.reveal())).code, Code::unauthenticated);
    EXPECT_EQ(error(people->by_jwt(jwt)).code, Code::unauthenticated);
    EXPECT_EQ(error(sign_in("ada@example.com")).code, Code::unauthenticated);
    ok(sign_in("ada@example.com", "a fresh password"));
}

// Changing it needs the current one, and ends the other sessions.
TEST_P(PeopleDb, APasswordIsChangedByWhoKnowsIt) {
    customer("ada@example.com");
    SignIn signed_in = ok(sign_in("ada@example.com"));
    Caller caller = caller_of(signed_in);
    auto change = [&](const char* current, const char* fresh) {
        return people->change_password(caller, Secret(current), Secret(fresh));
    };
    EXPECT_EQ(error(change("not the password", "a fresh password")).message,
              "Current password is incorrect.");
    EXPECT_EQ(error(change(good_password, good_password)).message,
              "Current and new passwords must be different.");
    ok(change(good_password, "a fresh password"));
    EXPECT_EQ(error(people->by_session(signed_in.session.token.reveal())).code, Code::unauthenticated);
    ok(sign_in("ada@example.com", "a fresh password"));
}

// A token of the login: two hours, and not longer than its session.
TEST_P(PeopleDb, AJwtEndsWithItsTimeAndItsSession) {
    customer("ada@example.com");
    SignIn signed_in = ok(sign_in("ada@example.com"));
    Caller caller = caller_of(signed_in);
    caller.session.clear();
    std::string own = ok(people->make_jwt(caller)).reveal();
    std::string of_session = ok(people->make_jwt(caller_of(signed_in))).reveal();
    ok(people->by_jwt(own));
    ok(people->by_jwt(of_session));
    // Another process signs with the same key.
    start();
    ok(people->by_jwt(own));
    ok(people->sign_out(signed_in.session.id, caller.user));
    EXPECT_EQ(error(people->by_jwt(of_session)).code, Code::unauthenticated);
    ok(people->by_jwt(own));
    clock.advance(hours(2));
    EXPECT_EQ(error(people->by_jwt(own)).code, Code::unauthenticated);
    Caller key;
    key.kind = Caller::Kind::key;
    EXPECT_EQ(error(people->make_jwt(key)).code, Code::forbidden);
}

// A code that somebody has seen over the shoulder must be of no use, and a lost phone must not lock out.
TEST_P(PeopleDb, ASecondFactorTakesEachCodeOnce) {
    customer("ada@example.com");
    Caller caller = caller_of(ok(sign_in("ada@example.com")));
    People::Impl impl(settings, oidc, db(), *notices, mailer, client, clock, metrics());
    Secret secret = ok(impl.begin_totp(caller)).secret;
    auto code = [&](std::int64_t steps) { return *totp_code(secret, totp_step(clock.now()) + steps); };
    EXPECT_EQ(error(impl.confirm_totp(caller, code(5))).param, "code");
    EXPECT_FALSE(ok(sign_in("ada@example.com")).needs_totp);  // not confirmed yet
    auto codes = ok(impl.confirm_totp(caller, code(-1)));

    SignIn half = ok(sign_in("ada@example.com"));
    EXPECT_TRUE(half.needs_totp);
    EXPECT_TRUE(half.session.token.empty() && half.session.id.empty());
    auto with = [&](std::string text) { return sign_in("ada@example.com", good_password, std::move(text)); };
    EXPECT_EQ(error(with(code(-1))).param, "totp");  // used to confirm
    EXPECT_EQ(error(with("000000")).param, "totp");
    ok(with(code(0)));
    EXPECT_EQ(error(with(code(0))).param, "totp");
    ok(with(code(1)));
    clock.advance(seconds(60));
    EXPECT_EQ(error(with(code(-1))).param, "totp");  // an earlier step than the last one
    ok(with(codes[3]));
    EXPECT_EQ(error(with(codes[3])).param, "totp");
    EXPECT_EQ(error(impl.begin_totp(caller)).code, Code::conflict);
    EXPECT_EQ(error(impl.remove_totp(caller, Secret("wrong password"))).param, "current_password");
    ok(impl.remove_totp(caller, Secret(good_password)));
    EXPECT_FALSE(ok(sign_in("ada@example.com")).needs_totp);
}

// A provider's word is taken for the addresses it has verified, for the domains that may come, and never for
// an operator who has not verified the address here.
TEST_P(PeopleDb, AProviderLinksVerifiedAddressesOnly) {
    oidc.issuer = "https://id.test";
    oidc.allowed_domains = {"Example.com"};
    People::Impl impl(settings, oidc, db(), *notices, mailer, client, clock, metrics());
    EXPECT_EQ(error(impl.person_of({"s1", "ada@example.com", "Ada", false})).code, Code::forbidden);
    EXPECT_EQ(error(impl.person_of({"s1", "ada@evil.test", "Ada", true})).code, Code::forbidden);
    UserId ada = ok(impl.person_of({"s1", "ada@example.com", "Ada", true}));
    EXPECT_EQ(ok(impl.person_of({"s1", "renamed@example.com", "Ada", true})), ada);
    EXPECT_EQ(ok(impl.person_of({"s2", "ada@example.com", "Ada", true})), ada);
    EXPECT_EQ(error(sign_in("ada@example.com", "!")).code, Code::unauthenticated);  // has no password

    customer("bob@example.com");
    UserId bob = ok(impl.person_of({"s3", "bob@example.com", "", true}));
    EXPECT_EQ(ok(sign_in("bob@example.com")).user.id, bob);

    // Somebody waits with a password for an address that is not theirs.
    ok(sign_up("eve@example.com"));
    std::string link = mailed_token();
    UserId eve = ok(impl.person_of({"s4", "eve@example.com", "Eve", true}));
    EXPECT_EQ(error(sign_in("eve@example.com")).code, Code::unauthenticated);
    EXPECT_EQ(error(people->verify_email(link)).param, "token");
    EXPECT_TRUE(ok(impl.start_session(eve, "", "", People::Impl::Kind::cookie)).account);

    ok(accounts->create_user("boss@example.com", Secret(good_password), Role::operator_));
    EXPECT_EQ(error(impl.person_of({"s5", "boss@example.com", "Boss", true})).code, Code::forbidden);
}

// What the operator takes away is gone at once, and no mailed link brings it back.
TEST_P(PeopleDb, ALockedUserIsOutAtOnce) {
    customer("ada@example.com");
    SignIn ada = ok(sign_in("ada@example.com"));
    caller_of(ada);
    ok(accounts->create_user("boss@example.com", Secret(good_password), Role::operator_));
    Caller boss = caller_of(ok(sign_in("boss@example.com")));
    People::Impl impl(settings, oidc, db(), *notices, mailer, client, clock, metrics());
    EXPECT_EQ(error(impl.change_user(boss, boss.user, {.is_active = false, .role = {}})).code,
              Code::conflict);
    Key wanted;
    wanted.account = ada.account;
    wanted.name = "hers";
    NewKey key = ok(accounts->create_key(wanted, nullptr));
    ok(people->request_password_reset("ada@example.com", "10.0.0.1"));
    std::string link = mailed_token();
    EXPECT_FALSE(ok(impl.change_user(boss, ada.user.id, {.is_active = false, .role = {}})).is_active);
    clock.advance(seconds(10));  // on PostgreSQL another process hears of it by notice, here not started
    EXPECT_EQ(error(people->by_session(ada.session.token.reveal())).code, Code::unauthenticated);
    EXPECT_EQ(error(sign_in("ada@example.com")).code, Code::forbidden);
    EXPECT_EQ(error(accounts->authenticate(key.text.reveal())).code, Code::unauthenticated);
    EXPECT_EQ(error(people->reset_password(link, Secret("a fresh password"))).param, "token");
    std::size_t sent = mail_count();
    ok(sign_up("ada@example.com"));
    ok(people->request_password_reset("ada@example.com", "10.0.0.1"));
    EXPECT_EQ(mail_count(), sent);
    ok(impl.change_user(boss, ada.user.id, {.is_active = true, .role = Role::operator_}));
    EXPECT_TRUE(caller_of(ok(sign_in("ada@example.com"))).is_operator);
    clock.advance(seconds(11));  // for so long a refused key is remembered
    EXPECT_EQ(ok(accounts->authenticate(key.text.reveal()))->account, ada.account);
    EXPECT_EQ(ok(impl.users("ada", 10, 0)).people.at(0).user.id, ada.user.id);
    EXPECT_EQ(ok(impl.users("%", 10, 0)).total, 0);
}

// A team is acted for by its members, with what they may do there; for others there is no such team.
TEST_P(PeopleDb, OnlyMembersActForATeam) {
    customer("ada@example.com");
    Caller ada = caller_of(ok(sign_in("ada@example.com")));
    Account team = ok(accounts->create_account("Team"));
    EXPECT_EQ(error(people->act_for(ada, team.id)).code, Code::not_found);
    EXPECT_EQ(error(people->act_for(ada, AccountId{1})).code, Code::not_found);
    auto join = [team, ada](store::Tx& tx) -> Result<bool> {
        tx.exec(store::Sql{"test.join",
                           "INSERT INTO members (account_id, user_id, role, permissions, created_at)"
                           " VALUES ($1, $2, 1, 2, 1)"},
                {team.id.db(), ada.user.db()});
        return true;
    };
    ASSERT_TRUE(db().in_tx_blocking(join));
    Caller acting = ok(people->act_for(ada, team.id));
    EXPECT_EQ(acting.account, team.id);
    EXPECT_EQ(acting.role, TeamRole::member);
    EXPECT_EQ(acting.permissions.names(), std::vector<std::string>{"inference:write"});
    EXPECT_EQ(acting.session, ada.session);
}

// Databases from before people existed keep their users and accounts.
TEST(PeopleMigration, KeepsWhatWasThere) {
    for (store::Engine engine : {store::Engine::sqlite, store::Engine::postgres}) {
        store::TestDb test_db = store::TestDb::make(engine);
        auto all = all_migrations();
        std::vector<store::Migration> first;
        for (const store::Migration& one : all)
            if (one.number == 1) first.push_back(one);
        ASSERT_TRUE(test_db.db().migrate(first));
        auto fill = [](store::Tx& tx) -> Result<bool> {
            tx.script(store::Sql{"test.fill",
                                 "INSERT INTO accounts (id, name, created_at) VALUES (5, 'old', 1);"
                                 "INSERT INTO users (id, email, password_hash, role, created_at)"
                                 " VALUES (6, 'old@example.com', 'x', 'operator', 1)"});
            return true;
        };
        ASSERT_TRUE(test_db.db().in_tx_blocking(fill));
        ASSERT_TRUE(test_db.db().migrate(all));
        auto look = [](store::Tx& tx) -> Result<people_sql::Person> {
            auto person = people_sql::person_by_email(tx, "old@example.com");
            FakeClock clock;
            people_sql::ensure_account(tx, clock, *person);
            tx.one(store::Sql{"test.kind", "SELECT kind FROM accounts WHERE id = 5"}, {},
                   [](const store::Row& row) { EXPECT_EQ(row.text(0), "team"); });
            return *person;
        };
        auto person = test_db.db().in_tx_blocking(look);
        ASSERT_TRUE(person);
        EXPECT_TRUE(person->user.is_active);
        EXPECT_TRUE(person->user.account);
        EXPECT_FALSE(person->activation_pending);
    }
}

}  // namespace
}  // namespace nebula::accounts
