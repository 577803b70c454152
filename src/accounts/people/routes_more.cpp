// Single sign-on, and the operator's view of users.
#include "accounts/people/routes.hpp"
#include "base/crypto.hpp"
#include "http/dialects.hpp"

namespace nebula::accounts {

using http::Exchange;
using http::Method;
using http::platform_success;
using http::Response;
namespace json = http::json;

namespace {

// Ties the way back to the browser that went: else somebody could be signed in as somebody else.
constexpr std::string_view oidc_cookie = "nebula_oidc";
constexpr std::chrono::minutes oidc_cookie_age{60};

Response redirect(const std::string& url) {
    Response response;
    response.status = 302;
    response.content_type = {};
    response.headers.emplace_back("location", url);
    return response;
}

Result<Role> role_from(const std::string& word) {
    if (word == "operator") return Role::operator_;
    if (word == "customer") return Role::customer;
    return fail(Code::invalid_request, "'role' must be operator or customer", "role");
}

}  // namespace

void PeopleRoutes::add_operator_routes(http::Router& router, Guard& guard) {
    const Access access = Access::operator_();
    add(router, guard, Method::get, "/console/api/operator/users", access, &PeopleRoutes::list_users);
    add(router, guard, Method::post, "/console/api/operator/users", access, &PeopleRoutes::make_user);
    add(router, guard, Method::patch, "/console/api/operator/users/{id}", access, &PeopleRoutes::change_user);
}

PeopleRoutes::Answer PeopleRoutes::start_oidc(Exchange& exchange, Caller caller) {
    auto started = co_await people_.start_oidc(caller.ip);
    if (!started) co_return fail(started.error());
    set_cookie(exchange, oidc_cookie, started->state, oidc_cookie_age);
    co_return redirect(started->url);
}

PeopleRoutes::Answer PeopleRoutes::finish_oidc(Exchange& exchange, Caller caller) {
    http::Params params = http::query(exchange.head());
    if (params.has("error")) co_return fail(Code::forbidden, "the provider did not sign you in");
    std::string state(params.get("state").value_or(std::string_view()));
    std::string code(params.get("code").value_or(std::string_view()));
    auto cookie = http::cookie(exchange.head(), oidc_cookie);
    if (state.empty() || code.empty() || !cookie || !constant_time_equal(*cookie, state))
        co_return fail(Code::invalid_request, "this is not the browser that began to sign in", "state");
    std::string agent(exchange.head().header("user-agent").value_or(std::string_view()));
    auto signed_in =
        co_await people_.finish_oidc(std::move(state), std::move(code), caller.ip, std::move(agent));
    if (!signed_in) co_return fail(signed_in.error());
    set_cookie(exchange, oidc_cookie, {}, std::chrono::seconds(0));
    set_session_cookie(exchange, signed_in->session);
    co_return redirect(people_.url("/"));
}

PeopleRoutes::Answer PeopleRoutes::list_users(Exchange& exchange, Caller) {
    http::Params params = http::query(exchange.head());
    auto limit = params.integer("limit", 100, 1, 1'000);
    if (!limit) co_return fail(limit.error());
    auto offset = params.integer("offset", 0, 0, 1'000'000'000);
    if (!offset) co_return fail(offset.error());
    std::string part(params.get("email").value_or(std::string_view()));
    auto page = co_await people_.users(std::move(part), *limit, *offset);
    if (!page) co_return fail(page.error());
    json::array list;
    for (const people_sql::Person& person : page->people) {
        json::object one = person_json(person.user);
        one["role"] = person.user.role == Role::operator_ ? "operator" : "customer";
        one["is_locked"] = person.is_disabled;
        one["is_verified"] = person.verified_at.has_value();
        list.push_back(std::move(one));
    }
    co_return platform_success(std::move(list), "Users", {{"total", page->total}});
}

PeopleRoutes::Answer PeopleRoutes::make_user(Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(fields.error());
    fields->only({"email", "password", "name", "role"});
    std::string email = fields->text("email");
    Secret password(fields->text_or("password", {}));
    std::string name = fields->text_or("name", {});
    std::string word = fields->text_or("role", "customer");
    auto read = fields->error();
    if (!read) co_return fail(read.error());
    auto role = role_from(word);
    if (!role) co_return fail(role.error());
    if (password.empty()) {
        if (*role == Role::operator_)
            co_return fail(Code::invalid_request, "an operator is created with a password", "password");
        auto invited = co_await people_.invite(std::move(caller), std::move(email));
        if (!invited) co_return fail(invited.error());
        json::object data{{"email", invited->email},
                          {"url", invited->url},
                          {"expires_at", to_iso8601(invited->expires_at)}};
        co_return platform_success(std::move(data), "Invited");
    }
    auto user = co_await people_.create_user(std::move(caller), std::move(email), std::move(password),
                                             std::move(name), *role);
    if (!user) co_return fail(user.error());
    co_return platform_success(person_json(*user), "Created");
}

PeopleRoutes::Answer PeopleRoutes::change_user(Exchange& exchange, Caller caller) {
    auto id = UserId::parse(exchange.path_param("id"));
    if (!id) co_return fail(Code::not_found, "there is no such user", "id");
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(fields.error());
    fields->only({"is_active", "role"});
    People::Impl::UserChange change;
    if (fields->has("is_active")) change.is_active = fields->flag_or("is_active", true);
    std::string word = fields->text_or("role", {});
    auto read = fields->error();
    if (!read) co_return fail(read.error());
    if (!word.empty()) {
        auto role = role_from(word);
        if (!role) co_return fail(role.error());
        change.role = *role;
    }
    auto user = co_await people_.change_user(std::move(caller), *id, change);
    if (!user) co_return fail(user.error());
    co_return platform_success(person_json(*user), "Changed");
}

}  // namespace nebula::accounts
