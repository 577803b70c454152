#pragma once
// Who calls, and what they may do. One value per request, made by the Guard.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.hpp"
#include "base/result.hpp"

namespace nebula::accounts {

/// What a person in a team, or an API key, may be allowed; groups as the platform names them. Stored as the
/// bit mask of these numbers: never renumber.
enum class Permission : std::uint8_t {
    inference_read = 0,
    inference_write = 1,  // call models
    storage_read = 2,
    storage_write = 3,
    instance_read = 4,
    instance_write = 5,
    billing_read = 6,
    billing_write = 7,  // pay, subscribe, redeem
    keys_read = 8,
    keys_write = 9,   // create, change, revoke API keys and SSH keys
    team_write = 10,  // invite, change and remove members
};
constexpr std::size_t permission_count = 11;
/// "inference:read" …; the words of the APIs and the console.
std::string_view permission_name(Permission permission);

class Permissions {
   public:
    constexpr Permissions() = default;
    constexpr explicit Permissions(std::uint32_t bits) : bits_(bits) {}
    static constexpr Permissions all() { return Permissions((1u << permission_count) - 1); }
    /// What a new member of a team gets, and what a new API key gets at most unless asked for more.
    static Permissions of_member();
    static Permissions of_key();
    constexpr bool has(Permission p) const { return (bits_ >> static_cast<unsigned>(p)) & 1u; }
    constexpr Permissions with(Permission p) const {
        return Permissions(bits_ | 1u << static_cast<unsigned>(p));
    }
    constexpr Permissions operator&(Permissions other) const { return Permissions(bits_ & other.bits_); }
    constexpr std::uint32_t bits() const { return bits_; }
    bool operator==(const Permissions&) const = default;
    /// Unknown words are refused.
    static Result<Permissions> parse(const std::vector<std::string>& names);
    std::vector<std::string> names() const;

   private:
    std::uint32_t bits_ = 0;
};

/// In a team. The numbers are the platform's: 0 owner, 1 member, 2 admin.
enum class TeamRole : std::uint8_t { owner = 0, member = 1, admin = 2 };
std::string_view role_name(TeamRole role);

struct Caller {
    enum class Kind : std::uint8_t { anyone, person, key };
    Kind kind = Kind::anyone;
    AccountId account;  // acted for: personal or team
    UserId user;        // the person; of a key: who made it (may be empty for operators' keys)
    KeyId key;          // of a key
    std::string email;  // of the person, for the audit log
    std::string name;
    bool is_operator = false;
    TeamRole role = TeamRole::owner;  // in the account
    Permissions permissions;
    std::string session;  // id of the session row, for signing out; empty for keys
    std::string ip;
};

/// What a route demands.
struct Access {
    enum class Who : std::uint8_t {
        anyone,      // no credentials needed; given ones are ignored
        caller,      // person or any usable API key
        person,      // signed in (cookie session or JWT), no API key
        account,     // person or API key with `permission` in the account acted for
        team_admin,  // person who is owner or admin of the account acted for
        team_owner,  // person who owns it
        operator_,   // signed-in operator
        key,         // an API key or JWT of inference; checked by the gateway itself
    };
    Who who = Who::anyone;
    Permission permission = Permission::inference_read;
    /// "anyone", "person", "account:billing:read", "operator", …: as the route table lists it.
    std::string name() const;

    static Access anyone() { return {Who::anyone, {}}; }
    static Access caller() { return {Who::caller, {}}; }
    static Access person() { return {Who::person, {}}; }
    static Access account(Permission p) { return {Who::account, p}; }
    static Access team_admin() { return {Who::team_admin, {}}; }
    static Access team_owner() { return {Who::team_owner, {}}; }
    static Access operator_() { return {Who::operator_, {}}; }
    static Access key() { return {Who::key, {}}; }
};
/// The whole decision, without I/O: what the privilege matrix tests. Missing = forbidden.
bool allows(const Access& access, const Caller& caller);

}  // namespace nebula::accounts
