#pragma once
// What people and keys changed, written in the transaction of the change. Append-only.

#include <string>
#include <string_view>
#include <vector>

#include "accounts/caller.hpp"
#include "async/async.hpp"
#include "base/clock.hpp"
#include "store/store.hpp"

namespace nebula::accounts {

/// Words of the platform: Create, Update, Delete, Add, Remove, Start, Stop, Reboot (also Login, Redeem, Pay).
struct AuditEntry {
    AccountId account;  // whose log shows it
    std::string action;
    std::string resource;  // "API Key", "SSH Key", "Team", "Team Member", "Plan", "Payment", …
    std::string resource_id;
    std::string resource_name;
    std::string details;  // JSON text or empty; never a secret
};
struct AuditRow {
    std::int64_t id = 0;
    Time at;
    UserId user;
    std::string user_email;
    KeyId key;
    std::string ip;
    AuditEntry entry;
};
struct AuditPage {
    std::vector<AuditRow> rows;  // newest first
    std::int64_t total = 0;
};

/// Any module, in its own transaction.
void write_audit(store::Tx& tx, const Clock& clock, const Caller& caller, const AuditEntry& entry);
AuditPage read_audit(store::Tx& tx, AccountId account, std::int64_t limit, std::int64_t offset);

}  // namespace nebula::accounts
