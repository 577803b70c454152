#include "accounts/people.hpp"

#include "accounts/people/impl.hpp"
#include "accounts/people/routes.hpp"
#include "base/crypto.hpp"
#include "base/log.hpp"

namespace nebula::accounts {

using people_sql::Person;
using store::Tx;

namespace {

// One Argon2id computation takes 64 MiB and 0.1 s of a core: one at a time, and few that wait.
constexpr std::size_t hashing_threads = 1;
constexpr std::size_t hashing_queue_max = 64;
constexpr std::chrono::minutes purge_interval{10};

}  // namespace

metrics::Counter& People::Impl::sign_ins(metrics::Registry& metrics, const char* result) {
    return metrics.counter("nebula_people_sign_ins_total", "Attempts to sign in by what became of them",
                           {{"result", result}});
}

People::Impl::Impl(const PeopleSettings& people, const OidcSettings& oidc, store::Db& database,
                   store::Notices& change_notices, Mailer& mails, http::Client& http_client, const Clock& now,
                   metrics::Registry& metrics)
    : settings(people),
      oidc_settings(oidc),
      db(database),
      notices(change_notices),
      mailer(mails),
      clock(now),
      cache(now),
      ip_attempts(now, people.sign_in_ip_rpm),
      provider(oidc, http_client, now),
      sign_in_ok(sign_ins(metrics, "ok")),
      sign_in_wrong(sign_ins(metrics, "wrong")),
      sign_in_locked(sign_ins(metrics, "locked")),
      sign_in_ip_limited(sign_ins(metrics, "ip_limited")),
      sign_in_totp(sign_ins(metrics, "needs_totp")),
      sign_in_inactive(sign_ins(metrics, "inactive")),
      hashes_made(metrics.counter("nebula_people_password_hashes_total", "Argon2id computations",
                                  {{"for", "storing"}})),
      hashes_compared(metrics.counter("nebula_people_password_hashes_total", "Argon2id computations",
                                      {{"for", "comparing"}})),
      hashing(hashing_threads, hashing_queue_max) {
    // Whoever signs in queues behind this, so it is there when it is needed.
    hashing.submit([this] { dummy_hash = hash_password(random_base62(22)); });
    notices.subscribe("user", [this](std::string_view payload) {
        if (auto user = UserId::parse(payload))
            cache.drop_user(*user);
        else
            cache.clear();
    });
    notices.subscribe("session",
                      [this](std::string_view payload) { cache.drop_session(std::string(payload)); });
    notices.on_gap([this] { cache.clear(); });
}

People::Impl::~Impl() = default;

Async<Result<std::string>> People::Impl::hash(Secret password) {
    hashes_made.add();
    auto work = [password = std::move(password)]() -> Result<std::string> {
        return hash_password(password.reveal());
    };
    return hashing.run(std::move(work));
}

Async<Result<bool>> People::Impl::matches(Secret password, std::string encoded) {
    hashes_compared.add();
    auto work = [this, password = std::move(password), encoded = std::move(encoded)]() -> Result<bool> {
        bool is_comparable = !encoded.empty() && encoded != people_sql::no_password;
        bool is_same = verify_password(password.reveal(), is_comparable ? encoded : dummy_hash);
        return is_comparable && is_same;
    };
    return hashing.run(std::move(work));
}

Result<void> People::Impl::may_try(std::string_view ip) {
    auto wait = ip_attempts.take(ip);
    if (wait.count() == 0) return {};
    sign_in_ip_limited.add();
    Error error{Code::rate_limited, "too many attempts from your network, try again in a minute"};
    error.retry_after_ms = static_cast<int>(wait.count());
    return fail(std::move(error));
}

Async<void> People::Impl::activate(UserId user, AccountId account) {
    auto claim = [user, now = clock.now()](Tx& tx) -> Result<bool> {
        return people_sql::claim_activation(tx, user, now);
    };
    auto claimed = co_await db.in_tx(std::move(claim));
    if (!claimed || !*claimed) co_return;
    OnActivated callback;
    {
        std::lock_guard lock(mutex);
        callback = on_activated;
    }
    bool is_done = true;
    if (callback) {
        try {
            auto done = co_await callback(user, account);
            is_done = done.has_value();
            if (!done)
                LOG_ERROR("a new user did not get everything", {"user", user.text()},
                          {"why", done.error().message}, {"detail", done.error().detail});
        } catch (const std::exception& e) {
            is_done = false;
            LOG_ERROR("a new user did not get everything", {"user", user.text()}, {"why", e.what()});
        }
    }
    auto end = [user, is_done](Tx& tx) -> Result<bool> {
        people_sql::end_activation(tx, user, is_done);
        return true;
    };
    auto ended = co_await db.in_tx(std::move(end));
    if (!ended) LOG_ERROR("an activation could not be noted", {"user", user.text()});
}

void People::Impl::audit(Tx& tx, const Person& person, std::string_view ip, std::string action,
                         std::string resource, std::string resource_id, std::string resource_name) {
    Caller caller;
    caller.kind = Caller::Kind::person;
    caller.user = person.user.id;
    caller.email = person.user.email;
    caller.ip = ip;
    AuditEntry entry{person.user.account,    std::move(action),        std::move(resource),
                     std::move(resource_id), std::move(resource_name), {}};
    write_audit(tx, clock, caller, entry);
}

void People::Impl::end_sessions(Tx& tx, UserId user) {
    people_sql::delete_sessions_of(tx, user);
    notices.publish(tx, "user", user.text());
}

std::pair<people_sql::Token, std::string> People::Impl::new_token(const char* purpose, UserId user,
                                                                  std::string email,
                                                                  std::chrono::hours lifetime) const {
    constexpr std::size_t characters = 43;  // 256 bits
    std::string text = random_base62(characters);
    Time now = clock.now();
    people_sql::Token token{
        to_hex(sha256(text).bytes), purpose, user, std::move(email), {}, now, now + lifetime};
    return {std::move(token), std::move(text)};
}

void People::Impl::purge_sometimes(Tx& tx) {
    std::int64_t now = to_micros(clock.now());
    std::int64_t due = next_purge_us.load();
    std::int64_t next = now + std::chrono::microseconds(purge_interval).count();
    if (now < due || !next_purge_us.compare_exchange_strong(due, next)) return;
    people_sql::purge(tx, clock.now());
}

std::string People::Impl::url(std::string_view path) const {
    std::string base = settings.public_url.empty() ? "http://127.0.0.1:8080" : settings.public_url;
    while (base.ends_with('/')) base.pop_back();
    return base + std::string(path);
}

People::People(const PeopleSettings& settings, const OidcSettings& oidc, store::Db& db,
               store::Notices& notices, Accounts&, Mailer& mailer, http::Client& client, const Clock& clock,
               metrics::Registry& metrics)
    : impl_(std::make_unique<Impl>(settings, oidc, db, notices, mailer, client, clock, metrics)) {}
People::~People() = default;

bool People::looks_like_jwt(std::string_view token) {
    if (!token.starts_with("eyJ")) return false;
    std::size_t first = token.find('.');
    return first != std::string_view::npos && token.find('.', first + 1) != std::string_view::npos;
}

Async<Result<Caller>> People::by_session(std::string token) { return impl_->by_session(std::move(token)); }
Async<Result<Caller>> People::by_jwt(std::string token) { return impl_->by_jwt(std::move(token)); }
Async<Result<Caller>> People::act_for(Caller caller, AccountId team) {
    return impl_->act_for(std::move(caller), team);
}
Async<Result<User>> People::sign_up(std::string email, Secret password, std::string name,
                                    std::string invitation, std::string ip) {
    return impl_->sign_up(std::move(email), std::move(password), std::move(name), std::move(invitation),
                          std::move(ip));
}
Async<Result<void>> People::verify_email(std::string token) { return impl_->verify_email(std::move(token)); }
Async<Result<SignIn>> People::sign_in(SignInRequest request) {
    return impl_->sign_in(std::move(request), Impl::Kind::cookie);
}
Async<Result<Secret>> People::make_jwt(const Caller& caller) { return impl_->make_jwt(caller); }
Async<Result<void>> People::sign_out(std::string session_id, UserId user) {
    return impl_->sign_out(std::move(session_id), user);
}
Async<Result<std::vector<Session>>> People::sessions(UserId user) { return impl_->sessions(user); }
Async<Result<void>> People::request_password_reset(std::string email, std::string ip) {
    return impl_->request_password_reset(std::move(email), std::move(ip));
}
Async<Result<void>> People::reset_password(std::string token, Secret password) {
    return impl_->reset_password(std::move(token), std::move(password));
}
Async<Result<void>> People::change_password(const Caller& caller, Secret current, Secret fresh) {
    return impl_->change_password(caller, std::move(current), std::move(fresh));
}
void People::forget(UserId user) { impl_->cache.drop_user(user); }

void People::set_on_activated(OnActivated callback) {
    std::lock_guard lock(impl_->mutex);
    impl_->on_activated = std::move(callback);
}
const PeopleSettings& People::settings() const { return impl_->settings; }

void People::register_routes(http::Router& router, Guard& guard) {
    impl_->routes = std::make_unique<PeopleRoutes>(*impl_);
    impl_->routes->add_to(router, guard);
}

}  // namespace nebula::accounts
