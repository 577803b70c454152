#pragma once
// What the parts of People share. Private to this module; the parts are one source file each.

#include <atomic>
#include <mutex>

#include "accounts/audit.hpp"
#include "accounts/people.hpp"
#include "accounts/people/attempts.hpp"
#include "accounts/people/oidc.hpp"
#include "accounts/people/session_cache.hpp"
#include "accounts/people/store.hpp"
#include "async/blocking_pool.hpp"

namespace nebula::accounts {

class PeopleRoutes;

struct People::Impl {
    Impl(const PeopleSettings& people, const OidcSettings& oidc_settings, store::Db& database,
         store::Notices& change_notices, Mailer& mails, http::Client& http_client, const Clock& now,
         metrics::Registry& metrics);
    ~Impl();

    // Passwords. One at a time on the hashing thread; Code::overloaded when too many wait.
    Async<Result<std::string>> hash(Secret password);
    /// Takes the same time whether there is a hash to compare with or not.
    Async<Result<bool>> matches(Secret password, std::string encoded);

    // Signing up.
    Async<Result<User>> sign_up(std::string email, Secret password, std::string name, std::string invitation,
                                std::string ip);
    Async<Result<void>> verify_email(std::string token);
    /// What happens once when a person becomes active; failures are tried again at the next sign-in.
    Async<void> activate(UserId user, AccountId account);

    // Signing in.
    enum class Kind { cookie, token };
    Async<Result<SignIn>> sign_in(SignInRequest request, Kind kind);
    /// Without asking for anything: for those whom a provider or a password has shown to be that person.
    Async<Result<SignIn>> start_session(UserId user, std::string ip, std::string user_agent, Kind kind);
    Result<void> may_try(std::string_view ip);  // counts the attempt
    /// Password of a signed-in person, with the lockout of signing in.
    Async<Result<people_sql::Person>> confirm_password(UserId user, Secret password);

    // Sessions and tokens.
    Async<Result<Caller>> by_session(std::string token);
    Async<Result<Caller>> by_jwt(std::string token);
    Async<Result<Caller>> by_session_id(std::int64_t id);
    Async<Result<Caller>> act_for(Caller caller, AccountId team);
    Async<Result<Secret>> make_jwt(Caller caller);
    Async<Result<Secret>> jwt_key();
    Async<Result<void>> sign_out(std::string session_id, UserId user);
    Async<Result<void>> sign_out_everywhere(Caller caller);
    Async<Result<std::vector<Session>>> sessions(UserId user);

    // Passwords forgotten and changed.
    Async<Result<void>> request_password_reset(std::string email, std::string ip);
    Async<Result<void>> reset_password(std::string token, Secret password);
    Async<Result<void>> change_password(Caller caller, Secret current, Secret fresh);
    Async<Result<User>> rename(Caller caller, std::string name);
    Async<Result<User>> user(UserId id);

    // Second factor.
    struct NewTotp {
        Secret secret;
        std::string url;
    };
    Async<Result<NewTotp>> begin_totp(Caller caller);
    Async<Result<std::vector<std::string>>> confirm_totp(Caller caller, std::string code);
    Async<Result<void>> remove_totp(Caller caller, Secret password);

    // OpenID Connect.
    /// Where to send the browser, and the state that it must bring back (also kept in a cookie).
    struct OidcStart {
        std::string url;
        std::string state;
    };
    Async<Result<OidcStart>> start_oidc(std::string ip);
    Async<Result<SignIn>> finish_oidc(std::string state, std::string code, std::string ip,
                                      std::string user_agent);
    Async<Result<UserId>> person_of(IdToken token);

    // The operator.
    struct UserPage {
        std::vector<people_sql::Person> people;
        std::int64_t total = 0;
    };
    struct Invited {
        std::string email;
        std::string url;
        Time expires_at;
    };
    Async<Result<UserPage>> users(std::string part, std::int64_t limit, std::int64_t offset);
    Async<Result<Invited>> invite(Caller caller, std::string email);
    Async<Result<User>> create_user(Caller caller, std::string email, Secret password, std::string name,
                                    Role role);
    struct UserChange {
        std::optional<bool> is_active;
        std::optional<Role> role;
    };
    Async<Result<User>> change_user(Caller caller, UserId id, UserChange change);

    // In a transaction.
    void audit(store::Tx& tx, const people_sql::Person& person, std::string_view ip, std::string action,
               std::string resource, std::string resource_id = {}, std::string resource_name = {});
    /// Every session and JWT of the user is void; other nodes hear of it.
    void end_sessions(store::Tx& tx, UserId user);
    /// A fresh token: what is stored, and the text that is mailed.
    std::pair<people_sql::Token, std::string> new_token(const char* purpose, UserId user, std::string email,
                                                        std::chrono::hours lifetime) const;
    people_sql::StoredSession new_session(UserId user, std::string ip, std::string user_agent,
                                          Kind kind) const;
    void purge_sometimes(store::Tx& tx);

    std::string url(std::string_view path) const;  // of the console
    Caller caller_of(const people_sql::Signed& found) const;

    const PeopleSettings settings;
    const OidcSettings oidc_settings;
    store::Db& db;
    store::Notices& notices;
    Mailer& mailer;
    const Clock& clock;
    SessionCache cache;
    IpAttempts ip_attempts;
    OidcProvider provider;

    static metrics::Counter& sign_ins(metrics::Registry& metrics, const char* result);
    metrics::Counter& sign_in_ok;
    metrics::Counter& sign_in_wrong;
    metrics::Counter& sign_in_locked;
    metrics::Counter& sign_in_ip_limited;
    metrics::Counter& sign_in_totp;
    metrics::Counter& sign_in_inactive;
    metrics::Counter& hashes_made;
    metrics::Counter& hashes_compared;

    std::mutex mutex;  // of what follows
    OnActivated on_activated;
    Secret jwt_secret;

    std::atomic<std::int64_t> next_purge_us{0};
    std::string dummy_hash;  // of the hashing thread
    std::unique_ptr<PeopleRoutes> routes;
    BlockingPool hashing;  // last: its thread ends first
};

inline std::unexpected<Error> not_signed_in() {
    return fail(Code::unauthenticated, "sign in first", "session");
}
/// Of every one-time token: unknown, used and expired ones are answered alike.
inline std::unexpected<Error> bad_token() {
    return fail(Code::invalid_request, "this link is not valid any more, ask for a new one", "token");
}

}  // namespace nebula::accounts
