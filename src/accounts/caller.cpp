#include "accounts/caller.hpp"

#include <array>

namespace nebula::accounts {
namespace {

constexpr std::array<std::string_view, permission_count> permission_names = {
    "inference:read", "inference:write", "storage:read", "storage:write", "instance:read", "instance:write",
    "billing:read",   "billing:write",   "keys:read",    "keys:write",    "team:write",
};

constexpr std::uint32_t bit(Permission permission) { return 1u << static_cast<unsigned>(permission); }

bool is_admin(const Caller& caller) {
    return caller.role == TeamRole::owner || caller.role == TeamRole::admin;
}

}  // namespace

std::string_view permission_name(Permission permission) {
    return permission_names[static_cast<std::size_t>(permission)];
}

Permissions Permissions::of_member() {
    return Permissions(bit(Permission::inference_read) | bit(Permission::inference_write) |
                       bit(Permission::keys_read));
}

Permissions Permissions::of_key() {
    // Neither money nor people nor further keys: a key is copied into programs and gets lost.
    return Permissions(bit(Permission::inference_read) | bit(Permission::inference_write) |
                       bit(Permission::storage_read) | bit(Permission::storage_write) |
                       bit(Permission::instance_read) | bit(Permission::instance_write) |
                       bit(Permission::billing_read) | bit(Permission::keys_read));
}

Result<Permissions> Permissions::parse(const std::vector<std::string>& names) {
    Permissions parsed;
    for (const std::string& name : names) {
        std::size_t k = 0;
        while (k < permission_names.size() && permission_names[k] != name) ++k;
        if (k == permission_names.size())
            return fail(Code::invalid_request, "there is no such permission", "permissions");
        parsed = parsed.with(static_cast<Permission>(k));
    }
    return parsed;
}

std::vector<std::string> Permissions::names() const {
    std::vector<std::string> all;
    for (std::size_t k = 0; k < permission_names.size(); ++k)
        if (has(static_cast<Permission>(k))) all.emplace_back(permission_names[k]);
    return all;
}

std::string_view role_name(TeamRole role) {
    switch (role) {
        case TeamRole::owner:
            return "owner";
        case TeamRole::member:
            return "member";
        case TeamRole::admin:
            return "admin";
    }
    return "member";
}

std::string Access::name() const {
    switch (who) {
        case Who::anyone:
            return "anyone";
        case Who::caller:
            return "caller";
        case Who::person:
            return "person";
        case Who::account:
            return "account:" + std::string(permission_name(permission));
        case Who::team_admin:
            return "team_admin";
        case Who::team_owner:
            return "team_owner";
        case Who::operator_:
            return "operator";
        case Who::key:
            return "key";
    }
    return "nobody";
}

bool allows(const Access& access, const Caller& caller) {
    const bool is_person = caller.kind == Caller::Kind::person;
    switch (access.who) {
        case Access::Who::anyone:
            return true;
        case Access::Who::caller:
            return caller.kind != Caller::Kind::anyone;
        case Access::Who::person:
            return is_person;
        case Access::Who::account:
            return caller.kind != Caller::Kind::anyone && caller.permissions.has(access.permission);
        case Access::Who::team_admin:
            return is_person && is_admin(caller);
        case Access::Who::team_owner:
            return is_person && caller.role == TeamRole::owner;
        case Access::Who::operator_:
            return is_person && caller.is_operator;
        case Access::Who::key:
            return caller.kind != Caller::Kind::anyone && caller.permissions.has(Permission::inference_write);
    }
    return false;
}

}  // namespace nebula::accounts
