#include "accounts/people/routes.hpp"

#include "accounts/people/csrf.hpp"
#include "http/dialects.hpp"

namespace nebula::accounts {

using http::Exchange;
using http::Fields;
using http::Method;
using http::platform_success;
using http::Response;
namespace json = http::json;

namespace {

std::string user_agent(const Exchange& exchange) {
    return std::string(exchange.head().header("user-agent").value_or(std::string_view()));
}

std::string path_param(const Exchange& exchange, std::string_view name) {
    return std::string(exchange.path_param(name));
}

/// The clients of the platform's login call the address `username`, the console `email`.
SignInRequest sign_in_request(Fields& fields, const Exchange& exchange) {
    SignInRequest request;
    request.email = fields.has("username") ? fields.text("username") : fields.text("email");
    request.password = Secret(fields.text("password"));
    request.totp = fields.has("totp") ? fields.text_or("totp", {}) : fields.text_or("code", {});
    request.ip = exchange.remote_ip();
    request.user_agent = user_agent(exchange);
    return request;
}

json::object session_json(const Session& session, const Caller& caller) {
    return {{"id", session.id},
            {"created_at", to_iso8601(session.created_at)},
            {"last_seen_at", to_iso8601(session.last_seen_at)},
            {"expires_at", to_iso8601(session.expires_at)},
            {"ip", session.ip},
            {"user_agent", session.user_agent},
            {"is_current", session.id == caller.session}};
}

}  // namespace

Async<void> PeopleRoutes::serve(Exchange& exchange, Caller caller, Operation operation) {
    auto answer = co_await (this->*operation)(exchange, std::move(caller));
    auto sent = answer ? exchange.respond(std::move(*answer)) : exchange.respond_error(answer.error());
    auto done = co_await std::move(sent);
    (void)done;
}

void PeopleRoutes::add(http::Router& router, Guard& guard, Method method, std::string_view pattern,
                       Access access, Operation operation) {
    auto handle = [this, operation](Exchange& exchange, Caller caller) {
        return serve(exchange, std::move(caller), operation);
    };
    guard.add(router, method, pattern, http::platform_error, access, handle);
}

void PeopleRoutes::add_to(http::Router& router, Guard& guard) {
    using R = PeopleRoutes;
    const Access anyone = Access::anyone(), person = Access::person();
    add(router, guard, Method::post, "/api/v1/login", anyone, &R::login);
    add(router, guard, Method::get, "/console/api/auth/options", anyone, &R::auth_options);
    add(router, guard, Method::post, "/console/api/auth/sign-up", anyone, &R::sign_up);
    add(router, guard, Method::post, "/console/api/auth/verify", anyone, &R::verify);
    add(router, guard, Method::post, "/console/api/auth/sign-in", anyone, &R::sign_in);
    add(router, guard, Method::post, "/console/api/auth/sign-out", person, &R::sign_out);
    add(router, guard, Method::post, "/console/api/auth/sign-out-all", person, &R::sign_out_all);
    add(router, guard, Method::post, "/console/api/auth/request-reset", anyone, &R::request_reset);
    add(router, guard, Method::post, "/console/api/auth/reset", anyone, &R::reset);
    add(router, guard, Method::post, "/console/api/auth/password-reset", anyone, &R::request_reset);
    add(router, guard, Method::post, "/console/api/auth/password-reset/confirm", anyone, &R::reset);
    add(router, guard, Method::get, "/console/api/me", person, &R::me);
    add(router, guard, Method::patch, "/console/api/me", person, &R::change_me);
    add(router, guard, Method::post, "/console/api/password", person, &R::change_password);
    add(router, guard, Method::post, "/console/api/me/password", person, &R::change_password);
    add(router, guard, Method::get, "/console/api/sessions", person, &R::list_sessions);
    add(router, guard, Method::del, "/console/api/sessions/{id}", person, &R::end_session);
    add(router, guard, Method::post, "/console/api/totp", person, &R::begin_totp);
    add(router, guard, Method::post, "/console/api/totp/begin", person, &R::begin_totp);
    add(router, guard, Method::post, "/console/api/totp/confirm", person, &R::confirm_totp);
    add(router, guard, Method::del, "/console/api/totp", person, &R::remove_totp);
    add(router, guard, Method::get, "/console/api/oidc/start", anyone, &R::start_oidc);
    add(router, guard, Method::get, "/console/api/oidc/callback", anyone, &R::finish_oidc);
    add_operator_routes(router, guard);
}

Result<void> PeopleRoutes::own_pages_only(const Exchange& exchange) {
    const http::RequestHead& head = exchange.head();
    bool is_browser = head.header("sec-fetch-site") || head.header("origin");
    // Programs may send the form, another site's page may not: it would sign its visitor in as somebody else.
    if (is_browser && !is_from_this_site(head))
        return fail(Code::forbidden, "this request did not come from this site");
    return {};
}

void PeopleRoutes::set_cookie(Exchange& exchange, std::string_view name, std::string_view value,
                              std::chrono::seconds age) const {
    bool is_secure = people_.settings.secure_cookies || people_.settings.public_url.starts_with("https://");
    exchange.add_header("set-cookie", std::string(name) + "=" + std::string(value) +
                                          "; Path=/; HttpOnly; SameSite=Lax; Max-Age=" +
                                          std::to_string(age.count()) + (is_secure ? "; Secure" : ""));
}

void PeopleRoutes::set_session_cookie(Exchange& exchange, const Session& session) const {
    auto age = std::chrono::duration_cast<std::chrono::seconds>(people_.settings.session_lifetime);
    set_cookie(exchange, session_cookie, session.token.reveal(), age);
}

json::object PeopleRoutes::person_json(const User& user) const {
    return {{"id", user.id.text()},
            {"email", user.email},
            {"name", user.name},
            {"is_active", user.is_active},
            {"is_operator", user.role == Role::operator_},
            {"is_staff", user.role == Role::operator_},
            {"has_totp", user.has_totp},
            {"created_at", to_iso8601(user.created_at)},
            {"account", user.account ? json::value(user.account.text()) : json::value()}};
}

PeopleRoutes::Answer PeopleRoutes::login(Exchange& exchange, Caller) {
    auto own = own_pages_only(exchange);
    if (!own) co_return fail(own.error());
    auto fields = co_await http::read_form_or_fields(exchange);
    if (!fields) co_return fail(fields.error());
    SignInRequest request = sign_in_request(*fields, exchange);
    auto read = fields->error();
    if (!read) co_return fail(read.error());
    auto signed_in = co_await people_.sign_in(std::move(request), People::Impl::Kind::token);
    if (!signed_in) co_return fail(signed_in.error());
    if (signed_in->needs_totp)
        co_return fail(Code::unauthenticated, "send the code of the second factor as totp", "totp");
    Caller caller;
    caller.kind = Caller::Kind::person;
    caller.user = signed_in->user.id;
    caller.session = signed_in->session.id;
    auto token = co_await people_.make_jwt(std::move(caller));
    if (!token) co_return fail(token.error());
    const User& user = signed_in->user;
    json::object data{{"id", user.id.text()},        {"name", user.name},
                      {"email", user.email},         {"is_staff", user.role == Role::operator_},
                      {"is_active", user.is_active}, {"jwtToken", token->reveal()}};
    co_return platform_success(std::move(data), "Login successful");
}

PeopleRoutes::Answer PeopleRoutes::auth_options(Exchange&, Caller) {
    json::object data{
        {"sign_up", people_.settings.sign_up},
        {"verify_email", people_.settings.verify_email},
        {"oidc", people_.provider.is_on() ? json::value(people_.oidc_settings.name) : json::value()}};
    co_return platform_success(std::move(data), "Ways to sign in");
}

PeopleRoutes::Answer PeopleRoutes::sign_up(Exchange& exchange, Caller caller) {
    auto own = own_pages_only(exchange);
    if (!own) co_return fail(own.error());
    auto fields = co_await http::read_form_or_fields(exchange);
    if (!fields) co_return fail(fields.error());
    std::string email = fields->text("email");
    Secret password(fields->text("password"));
    std::string name = fields->text_or("name", {});
    std::string invitation = fields->text_or("invitation", {});
    auto read = fields->error();
    if (!read) co_return fail(read.error());
    auto user = co_await people_.sign_up(std::move(email), std::move(password), std::move(name),
                                         std::move(invitation), caller.ip);
    if (!user) co_return fail(user.error());
    // No id: whether there was such an address before must not show.
    json::object data{{"email", user->email}, {"name", user->name}, {"is_active", user->is_active}};
    co_return platform_success(std::move(data), user->is_active
                                                    ? "You can sign in now"
                                                    : "Open the link in the mail to activate the account");
}

PeopleRoutes::Answer PeopleRoutes::verify(Exchange& exchange, Caller) {
    auto fields = co_await http::read_form_or_fields(exchange);
    if (!fields) co_return fail(fields.error());
    std::string token = fields->text("token");
    auto read = fields->error();
    if (!read) co_return fail(read.error());
    auto verified = co_await people_.verify_email(std::move(token));
    if (!verified) co_return fail(verified.error());
    co_return platform_success(nullptr, "The account is active");
}

PeopleRoutes::Answer PeopleRoutes::sign_in(Exchange& exchange, Caller) {
    auto own = own_pages_only(exchange);
    if (!own) co_return fail(own.error());
    auto fields = co_await http::read_form_or_fields(exchange);
    if (!fields) co_return fail(fields.error());
    SignInRequest request = sign_in_request(*fields, exchange);
    auto read = fields->error();
    if (!read) co_return fail(read.error());
    auto signed_in = co_await people_.sign_in(std::move(request), People::Impl::Kind::cookie);
    if (!signed_in) co_return fail(signed_in.error());
    if (signed_in->needs_totp) {
        json::object data{{"needs_totp", true}};
        co_return platform_success(std::move(data), "Send the code of the second factor");
    }
    set_session_cookie(exchange, signed_in->session);
    json::object data = person_json(signed_in->user);
    data["needs_totp"] = false;
    data["session"] = signed_in->session.id;
    co_return platform_success(std::move(data), "Signed in");
}

PeopleRoutes::Answer PeopleRoutes::sign_out(Exchange& exchange, Caller caller) {
    auto ended = co_await people_.sign_out(caller.session, caller.user);
    // Gone already is as good.
    if (!ended && ended.error().code != Code::not_found) co_return fail(ended.error());
    set_cookie(exchange, session_cookie, {}, std::chrono::seconds(0));
    co_return platform_success(nullptr, "Signed out");
}

PeopleRoutes::Answer PeopleRoutes::sign_out_all(Exchange& exchange, Caller caller) {
    auto ended = co_await people_.sign_out_everywhere(std::move(caller));
    if (!ended) co_return fail(ended.error());
    set_cookie(exchange, session_cookie, {}, std::chrono::seconds(0));
    co_return platform_success(nullptr, "Signed out everywhere");
}

PeopleRoutes::Answer PeopleRoutes::request_reset(Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_form_or_fields(exchange);
    if (!fields) co_return fail(fields.error());
    std::string email = fields->text("email");
    auto read = fields->error();
    if (!read) co_return fail(read.error());
    auto asked = co_await people_.request_password_reset(std::move(email), caller.ip);
    if (!asked) co_return fail(asked.error());
    co_return platform_success(nullptr, "If there is an account with this address, a link is on its way");
}

PeopleRoutes::Answer PeopleRoutes::reset(Exchange& exchange, Caller) {
    auto fields = co_await http::read_form_or_fields(exchange);
    if (!fields) co_return fail(fields.error());
    std::string token = fields->text("token");
    Secret password(fields->text("password"));
    auto read = fields->error();
    if (!read) co_return fail(read.error());
    auto done = co_await people_.reset_password(std::move(token), std::move(password));
    if (!done) co_return fail(done.error());
    co_return platform_success(nullptr, "The password is changed, sign in with it");
}

PeopleRoutes::Answer PeopleRoutes::me(Exchange&, Caller caller) {
    auto user = co_await people_.user(caller.user);
    if (!user) co_return fail(user.error());
    json::object data = person_json(*user);
    json::array permissions;
    for (const std::string& name : caller.permissions.names()) permissions.emplace_back(name);
    data["acting_for"] = caller.account.text();
    data["role"] = role_name(caller.role);
    data["permissions"] = std::move(permissions);
    data["session"] = caller.session;
    co_return platform_success(std::move(data), "Who you are");
}

PeopleRoutes::Answer PeopleRoutes::change_me(Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(fields.error());
    fields->only({"name"});
    std::string name = fields->text("name");
    auto read = fields->error();
    if (!read) co_return fail(read.error());
    auto user = co_await people_.rename(std::move(caller), std::move(name));
    if (!user) co_return fail(user.error());
    co_return platform_success(person_json(*user), "Changed");
}

PeopleRoutes::Answer PeopleRoutes::change_password(Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(fields.error());
    Secret current(fields->has("current") ? fields->text("current") : fields->text("current_password"));
    Secret fresh(fields->has("new_password") ? fields->text("new_password") : fields->text("password"));
    auto read = fields->error();
    if (!read) co_return fail(read.error());
    auto changed = co_await people_.change_password(caller, std::move(current), std::move(fresh));
    if (!changed) co_return fail(changed.error());
    // Every session is over, this one too; who changed the password goes on with a fresh one.
    if (!http::cookie(exchange.head(), session_cookie)) co_return platform_success(nullptr, "Changed");
    auto session = co_await people_.start_session(caller.user, caller.ip, user_agent(exchange),
                                                  People::Impl::Kind::cookie);
    if (!session) co_return fail(session.error());
    set_session_cookie(exchange, session->session);
    co_return platform_success(nullptr, "Changed");
}

PeopleRoutes::Answer PeopleRoutes::list_sessions(Exchange&, Caller caller) {
    auto sessions = co_await people_.sessions(caller.user);
    if (!sessions) co_return fail(sessions.error());
    json::array list;
    for (const Session& session : *sessions) list.push_back(session_json(session, caller));
    co_return platform_success(std::move(list), "Sessions");
}

PeopleRoutes::Answer PeopleRoutes::end_session(Exchange& exchange, Caller caller) {
    auto ended = co_await people_.sign_out(path_param(exchange, "id"), caller.user);
    if (!ended) co_return fail(ended.error());
    co_return platform_success(nullptr, "The session is ended");
}

PeopleRoutes::Answer PeopleRoutes::begin_totp(Exchange&, Caller caller) {
    auto begun = co_await people_.begin_totp(std::move(caller));
    if (!begun) co_return fail(begun.error());
    json::object data{{"secret", begun->secret.reveal()}, {"url", begun->url}, {"otpauth_url", begun->url}};
    co_return platform_success(std::move(data), "Confirm with a code of the authenticator");
}

PeopleRoutes::Answer PeopleRoutes::confirm_totp(Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(fields.error());
    std::string code = fields->has("totp") ? fields->text("totp") : fields->text("code");
    auto read = fields->error();
    if (!read) co_return fail(read.error());
    auto codes = co_await people_.confirm_totp(std::move(caller), std::move(code));
    if (!codes) co_return fail(codes.error());
    json::object data{{"recovery_codes", json::array(codes->begin(), codes->end())}};
    co_return platform_success(std::move(data), "Keep the recovery codes, each is good once");
}

PeopleRoutes::Answer PeopleRoutes::remove_totp(Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(fields.error());
    Secret password(fields->text("password"));
    auto read = fields->error();
    if (!read) co_return fail(read.error());
    auto removed = co_await people_.remove_totp(std::move(caller), std::move(password));
    if (!removed) co_return fail(removed.error());
    co_return platform_success(nullptr, "The second factor is removed");
}

}  // namespace nebula::accounts
