#pragma once
// People: signing up, in and out; sessions and JWTs; passwords; second factor; OpenID Connect. All messages
// that answer "is there such an address" are the same whether there is or not, and take the same time.

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "accounts/accounts.hpp"
#include "accounts/caller.hpp"
#include "accounts/guard.hpp"
#include "async/async.hpp"
#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/secret.hpp"
#include "base/settings.hpp"
#include "http/client.hpp"
#include "http/http.hpp"
#include "store/notices.hpp"

namespace nebula::accounts {

struct PeopleSettings {            // [people]
    std::string sign_up = "open";  // open | invite | closed
    std::string public_url;        // of the console, for links in mails; empty: http://<listen>
    bool verify_email = true;      // a new account must be activated by a mailed (or logged) link
    std::chrono::milliseconds session_lifetime{30LL * 24 * 3600 * 1000};
    std::chrono::milliseconds session_idle{7LL * 24 * 3600 * 1000};
    std::chrono::milliseconds token_lifetime{2LL * 3600 * 1000};  // JWT of POST /api/v1/login
    std::int64_t failures_before_lockout = 5;  // then 1 s, 2 s, 4 s … up to 15 min between attempts
    std::int64_t sign_in_ip_rpm = 30;          // attempts per minute and IP
    bool secure_cookies = false;               // set "Secure"; on when TLS or public_url is https
    std::string default_plan;                  // subscribed at sign-up; empty: none
    std::string sign_up_credits;               // decimal; gift at activation; empty: none
    void describe(settings::Visitor& v);
};
struct SmtpSettings {  // [smtp]; without host, mails are written to the log for the operator
    std::string host;  // "smtp.example.com:587"; smtps:// for implicit TLS, smtp:// default
    std::string username;
    std::string password_env;
    std::string from = "nebula@localhost";
    bool require_tls = true;
    std::chrono::milliseconds timeout{20'000};
    void describe(settings::Visitor& v);
};
struct OidcSettings {    // [oidc]; optional OpenID Connect sign-in (authorization code with PKCE)
    std::string issuer;  // empty = off; discovery at <issuer>/.well-known/openid-configuration
    std::string client_id;
    std::string client_secret_env;
    std::string name = "Single sign-on";
    std::vector<std::string> scopes = {"openid", "email", "profile"};
    std::vector<std::string> allowed_domains;  // of e-mail addresses; empty = all
    void describe(settings::Visitor& v);
};

struct Mail {
    std::string to;
    std::string subject;
    std::string text;
};
/// Sends on a thread of its own (libcurl), with retries; bounded queue. Without SMTP: logs the text.
class Mailer {
   public:
    Mailer(const SmtpSettings& settings, metrics::Registry& metrics);
    ~Mailer();
    void send(Mail mail);

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

struct Session {
    std::string id;  // public id for listing and revoking, "ses_…"
    Secret token;    // the cookie's value; only SHA-256 is stored; empty when listed
    UserId user;
    Time created_at;
    Time last_seen_at;
    Time expires_at;
    std::string ip;
    std::string user_agent;
};
struct SignIn {
    Session session;  // kind cookie
    User user;
    AccountId account;        // personal
    bool needs_totp = false;  // then `session` is empty: send again with the code
};
struct SignInRequest {
    std::string email;
    Secret password;
    std::string totp;  // 6 digits or a recovery code; empty if none was asked for
    std::string ip;
    std::string user_agent;
};

/// What happens on other modules' ground when a person is activated (gift, plan); app connects it.
using OnActivated = std::function<Async<Result<void>>(UserId, AccountId)>;

/// Thread-safe; SQL on database threads, hashing on a pool of one thread.
class People {
   public:
    People(const PeopleSettings& settings, const OidcSettings& oidc, store::Db& db, store::Notices& notices,
           Accounts& accounts, Mailer& mailer, http::Client& client, const Clock& clock,
           metrics::Registry& metrics);
    ~People();

    /// Who presents this session cookie or JWT; unauthenticated otherwise. Answers from memory for up to 10 s
    /// (sessions are dropped at once on sign-out, by notice). Caller::account is the personal account.
    Async<Result<Caller>> by_session(std::string token);
    Async<Result<Caller>> by_jwt(std::string token);
    static bool looks_like_jwt(std::string_view token);
    /// `caller` acting for a team it belongs to; not_found otherwise.
    Async<Result<Caller>> act_for(Caller caller, AccountId team);

    Async<Result<User>> sign_up(std::string email, Secret password, std::string name, std::string invitation,
                                std::string ip);
    Async<Result<void>> verify_email(std::string token);
    Async<Result<SignIn>> sign_in(SignInRequest request);
    /// JWT of 2 hours: {sub: e-mail, roles, scopes, exp, iat, sid}, HS256 with a key kept in the database.
    Async<Result<Secret>> make_jwt(const Caller& caller);
    Async<Result<void>> sign_out(std::string session_id, UserId user);
    Async<Result<std::vector<Session>>> sessions(UserId user);
    Async<Result<void>> request_password_reset(std::string email, std::string ip);
    Async<Result<void>> reset_password(std::string token, Secret password);  // ends all sessions
    Async<Result<void>> change_password(const Caller& caller, Secret current, Secret fresh);

    void set_on_activated(OnActivated callback);
    /// What this process remembers of the person's sessions and teams; other nodes hear it by a notice.
    void forget(UserId user);
    const PeopleSettings& settings() const;

    /// Console API below /console/api/ (auth/…, me, sessions, totp, oidc) and the platform's login.
    void register_routes(http::Router& router, Guard& guard);

    struct Impl;

   private:
    std::unique_ptr<Impl> impl_;
};

}  // namespace nebula::accounts
