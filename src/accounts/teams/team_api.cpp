#include "accounts/teams/team_api.hpp"

#include "base/text.hpp"

namespace nebula::accounts {

using http::Method;

namespace {

std::unexpected<Error> no_team() { return fail(Code::not_found, "there is no such team", "team"); }
std::unexpected<Error> no_member() { return fail(Code::not_found, "there is no such member", "member"); }

std::optional<AccountId> team_of(const http::Exchange& exchange) {
    return AccountId::parse(exchange.path_param("id"));
}

json::object team_object(const Team& team) {
    json::object object;
    object["id"] = team.id.text();
    object["name"] = team.name;
    object["description"] = team.description;
    object["role"] = static_cast<int>(team.role);
    object["role_name"] = role_name(team.role);
    object["permissions"] = permission_numbers(team.permissions);
    object["scopes"] = permission_words(team.permissions);
    object["members"] = team.members;
    object["created_at"] = unix_seconds(team.created_at);
    object["owner"] = {{"id", team.owner.text()}, {"name", team.owner_name}, {"tier", nullptr}};
    return object;
}

json::object member_object(const Member& member) {
    return {{"id", member.user.text()},
            {"user_id", member.user.text()},
            {"name", member.name},
            {"email", member.email},
            {"role", static_cast<int>(member.role)},
            {"role_name", role_name(member.role)},
            {"permissions", permission_numbers(member.permissions)},
            {"scopes", permission_words(member.permissions)},
            {"joined_at", unix_seconds(member.joined_at)}};
}

json::object invitation_object(const Invitation& invitation) {
    return {{"id", invitation.id},
            {"team", {{"id", invitation.team.text()}, {"name", invitation.team_name}}},
            {"email", invitation.email},
            {"role", static_cast<int>(invitation.role)},
            {"role_name", role_name(invitation.role)},
            {"permissions", permission_numbers(invitation.permissions)},
            {"scopes", permission_words(invitation.permissions)},
            {"created_at", unix_seconds(invitation.created_at)},
            {"expires_at", unix_seconds(invitation.expires_at)}};
}

/// The platform's number or our word; what is wrong is kept in `fields`.
std::optional<TeamRole> read_role(http::Fields& fields) {
    const json::value* given = fields.raw("role");
    if (given == nullptr) return std::nullopt;
    for (TeamRole role : {TeamRole::owner, TeamRole::member, TeamRole::admin}) {
        std::string number = std::to_string(static_cast<int>(role));
        bool is_text = given->is_string();
        std::string_view text = is_text ? std::string_view(given->get_string()) : std::string_view();
        if (is_text && (text == role_name(role) || text == number)) return role;
        if (given->is_int64() && given->get_int64() == static_cast<int>(role)) return role;
    }
    fields.refuse("role", "must be 1 (member) or 2 (admin)");
    return std::nullopt;
}

std::optional<Permissions> read_permissions(http::Fields& fields) {
    for (const char* name : {"permissions", "scopes"}) {
        const json::value* given = fields.raw(name);
        if (given == nullptr) continue;
        auto permissions = permissions_from(*given);
        if (permissions) return *permissions;
        fields.refuse(name, "must be a list of known numbers or words");
    }
    return std::nullopt;
}

std::optional<std::string> text_or_none(http::Fields& fields, const char* name) {
    if (!fields.has(name)) return std::nullopt;
    return fields.text(name);
}

}  // namespace

Answer TeamApi::create(http::Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(fields.error());
    std::string name = fields->text("name");
    std::string description = fields->text_or("description", "");
    if (auto good = fields->error(); !good) co_return fail(good.error());
    auto team = co_await teams_.create(std::move(caller), std::move(name), std::move(description));
    if (!team) co_return fail(team.error());
    co_return http::platform_success(team_object(*team), "Team created successfully");
}

Answer TeamApi::list(http::Exchange&, Caller caller) {
    auto teams = co_await teams_.list(std::move(caller));
    if (!teams) co_return fail(teams.error());
    json::array data;
    for (const Team& team : *teams) data.emplace_back(team_object(team));
    co_return http::platform_success(std::move(data), "Teams retrieved successfully");
}

Answer TeamApi::get(http::Exchange& exchange, Caller caller) {
    auto id = team_of(exchange);
    if (!id) co_return no_team();
    auto team = co_await teams_.get(std::move(caller), *id);
    if (!team) co_return fail(team.error());
    co_return http::platform_success(team_object(*team), "Team retrieved successfully");
}

Answer TeamApi::change(http::Exchange& exchange, Caller caller) {
    auto id = team_of(exchange);
    if (!id) co_return no_team();
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(fields.error());
    auto name = text_or_none(*fields, "name");
    auto description = text_or_none(*fields, "description");
    if (auto good = fields->error(); !good) co_return fail(good.error());
    auto team = co_await teams_.change(std::move(caller), *id, std::move(name), std::move(description));
    if (!team) co_return fail(team.error());
    co_return http::platform_success(team_object(*team), "Team updated successfully");
}

Answer TeamApi::remove(http::Exchange& exchange, Caller caller) {
    auto id = team_of(exchange);
    if (!id) co_return no_team();
    auto removed = co_await teams_.remove(std::move(caller), *id);
    if (!removed) co_return fail(removed.error());
    co_return http::platform_success(json::object(), "Team deleted successfully");
}

Answer TeamApi::permissions(http::Exchange& exchange, Caller caller) {
    auto id = team_of(exchange);
    if (!id) co_return no_team();
    auto team = co_await teams_.get(std::move(caller), *id);
    if (!team) co_return fail(team.error());
    json::array data;
    for (const PlatformPermission& one : platform_permissions())
        data.push_back({{"id", one.id},
                        {"name", one.name},
                        {"group_id", one.group_id},
                        {"group", one.group},
                        {"scopes", permission_words(Permissions(one.bits))}});
    co_return http::platform_success(std::move(data), "permissions retrieved successfully");
}

Answer TeamApi::transfer(http::Exchange& exchange, Caller caller) {
    auto id = team_of(exchange);
    if (!id) co_return no_team();
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(fields.error());
    std::string text = fields->has("user_id") ? fields->text("user_id") : fields->text("member");
    if (auto good = fields->error(); !good) co_return fail(good.error());
    auto user = UserId::parse(text);
    if (!user) co_return no_member();
    auto done = co_await teams_.transfer(std::move(caller), *id, *user);
    if (!done) co_return fail(done.error());
    co_return http::platform_success(json::object(), "Team transferred successfully");
}

Answer TeamApi::leave(http::Exchange& exchange, Caller caller) {
    auto id = team_of(exchange);
    if (!id) co_return no_team();
    auto left = co_await teams_.leave(std::move(caller), *id);
    if (!left) co_return fail(left.error());
    co_return http::platform_success(json::object(), "You have left the team");
}

Answer TeamApi::members(http::Exchange& exchange, Caller caller) {
    auto id = team_of(exchange);
    if (!id) co_return no_team();
    auto members = co_await teams_.members(std::move(caller), *id);
    if (!members) co_return fail(members.error());
    json::array data;
    for (const Member& member : *members) data.emplace_back(member_object(member));
    co_return http::platform_success(std::move(data), "Team members retrieved successfully");
}

Async<Result<TeamApi::Target>> TeamApi::target(http::Exchange& exchange, Caller caller) {
    bool names_team = !exchange.path_param("member").empty();
    auto user = UserId::parse(exchange.path_param(names_team ? "member" : "id"));
    if (names_team) {
        auto team = team_of(exchange);
        if (!team) co_return no_team();
        if (!user) co_return no_member();
        co_return Target{*team, *user};
    }
    if (!user) co_return no_member();
    auto team = co_await teams_.shared_team(std::move(caller), *user);
    if (!team) co_return fail(team.error());
    co_return Target{*team, *user};
}

Answer TeamApi::change_member(http::Exchange& exchange, Caller caller) {
    auto whom = co_await target(exchange, caller);
    if (!whom) co_return fail(whom.error());
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(fields.error());
    auto role = read_role(*fields);
    auto permissions = read_permissions(*fields);
    if (auto good = fields->error(); !good) co_return fail(good.error());
    auto member = co_await teams_.change_member(std::move(caller), whom->team, whom->user, role, permissions);
    if (!member) co_return fail(member.error());
    co_return http::platform_success(member_object(*member), "Team member updated successfully");
}

Answer TeamApi::remove_member(http::Exchange& exchange, Caller caller) {
    auto whom = co_await target(exchange, caller);
    if (!whom) co_return fail(whom.error());
    http::Params params = http::query(exchange.head());
    bool with_keys = params.get("revoke_keys").value_or("") == "true";
    auto removed = co_await teams_.remove_member(std::move(caller), whom->team, whom->user, with_keys);
    if (!removed) co_return fail(removed.error());
    co_return http::platform_success(json::object(), "Team member removed successfully");
}

Answer TeamApi::invite(http::Exchange& exchange, Caller caller) {
    auto id = team_of(exchange);
    if (!id) co_return no_team();
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(fields.error());
    std::string email = fields->text("email");
    TeamRole role = read_role(*fields).value_or(TeamRole::member);
    Permissions permissions = read_permissions(*fields).value_or(Permissions::of_member());
    if (auto good = fields->error(); !good) co_return fail(good.error());
    auto made = co_await teams_.invite(std::move(caller), *id, std::move(email), role, permissions);
    if (!made) co_return fail(made.error());
    json::object data = invitation_object(made->invitation);
    data["token"] = made->token.reveal();
    auto response = http::platform_success(std::move(data), "Team member invited successfully");
    response.headers.emplace_back("cache-control", "no-store");
    co_return response;
}

Answer TeamApi::invitations(http::Exchange& exchange, Caller caller) {
    auto id = team_of(exchange);
    if (!id) co_return no_team();
    auto invitations = co_await teams_.invitations(std::move(caller), *id);
    if (!invitations) co_return fail(invitations.error());
    json::array data;
    for (const Invitation& invitation : *invitations) data.emplace_back(invitation_object(invitation));
    co_return http::platform_success(std::move(data), "Invitations retrieved successfully");
}

Answer TeamApi::cancel(http::Exchange& exchange, Caller caller) {
    auto id = team_of(exchange);
    if (!id) co_return no_team();
    auto invitation = parse_int<std::int64_t>(exchange.path_param("invitation"));
    if (!invitation) co_return fail(Code::not_found, "there is no such invitation", "invitation");
    auto cancelled = co_await teams_.cancel(std::move(caller), *id, *invitation);
    if (!cancelled) co_return fail(cancelled.error());
    co_return http::platform_success(json::object(), "Invitation cancelled successfully");
}

Answer TeamApi::invitation(http::Exchange& exchange, Caller) {
    auto found = co_await teams_.invitation(std::string(exchange.path_param("token")));
    if (!found) co_return fail(found.error());
    co_return http::platform_success(invitation_object(*found), "Invitation retrieved successfully");
}

Answer TeamApi::accept(http::Exchange& exchange, Caller caller) {
    auto team = co_await teams_.accept(std::move(caller), std::string(exchange.path_param("token")));
    if (!team) co_return fail(team.error());
    co_return http::platform_success(team_object(*team), "Invitation accepted successfully");
}

void TeamApi::register_routes(http::Router& router, Guard& guard) {
    Routes routes(router, guard, *this);
    // The team is the path's, not the one acted for: whether the person may is asked in TeamService.
    const Access person = Access::person();
    for (std::string root : {"/api/v1", "/console/api"}) {
        std::string teams = root + "/teams", team = teams + "/{id}";
        routes.add(Method::post, teams, person, &TeamApi::create);
        routes.add(Method::get, teams, person, &TeamApi::list);
        routes.add(Method::get, team, person, &TeamApi::get);
        routes.add(Method::put, team, person, &TeamApi::change);
        routes.add(Method::patch, team, person, &TeamApi::change);
        routes.add(Method::del, team, person, &TeamApi::remove);
        routes.add(Method::get, team + "/permissions", person, &TeamApi::permissions);
        routes.add(Method::post, team + "/transfer", person, &TeamApi::transfer);
        routes.add(Method::post, team + "/leave", person, &TeamApi::leave);

        routes.add(Method::get, team + "/members", person, &TeamApi::members);
        routes.add(Method::post, team + "/members", person, &TeamApi::invite);
        for (std::string member : {team + "/members/{member}", root + "/team/members/{id}"}) {
            routes.add(Method::put, member, person, &TeamApi::change_member);
            routes.add(Method::patch, member, person, &TeamApi::change_member);
            routes.add(Method::del, member, person, &TeamApi::remove_member);
        }
        routes.add(Method::get, team + "/invitations", person, &TeamApi::invitations);
        routes.add(Method::del, team + "/invitations/{invitation}", person, &TeamApi::cancel);
        // Who was invited may look before signing in or up: the token is the credential.
        routes.add(Method::get, teams + "/invitations/{token}", Access::anyone(), &TeamApi::invitation);
        routes.add(Method::post, teams + "/invitations/{token}", person, &TeamApi::accept);
    }
}

}  // namespace nebula::accounts
