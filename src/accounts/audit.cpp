#include "accounts/audit.hpp"

#include <algorithm>

namespace nebula::accounts {

using store::Row;
using store::Sql;
using store::Tx;

namespace {

constexpr Sql insert_audit_sql{
    "audit.insert",
    "INSERT INTO audit_log (at, account_id, user_id, user_email, key_id, ip, action, resource, resource_id,"
    " resource_name, details) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"};
constexpr Sql read_audit_sql{
    "audit.read",
    // A key acts in the name of who made it.
    "SELECT id, at, user_id, CASE WHEN user_email = '' THEN"
    " COALESCE((SELECT u.email FROM users u WHERE u.id = l.user_id), '') ELSE user_email END, key_id, ip,"
    " action, resource, resource_id, resource_name, details"
    " FROM audit_log l WHERE account_id = $1 ORDER BY id DESC LIMIT $2 OFFSET $3"};
constexpr Sql count_audit_sql{"audit.count", "SELECT COUNT(*) FROM audit_log WHERE account_id = $1"};

template <class AnyId>
store::Param id_or_null(AnyId id) {
    if (!id) return nullptr;
    return id.db();
}

AuditRow row_from(const Row& row, AccountId account) {
    AuditRow found;
    found.id = row.i64(0);
    found.at = from_micros(row.i64(1));
    if (!row.is_null(2)) found.user = UserId::from_db(row.i64(2));
    found.user_email = row.text(3);
    if (!row.is_null(4)) found.key = KeyId::from_db(row.i64(4));
    found.ip = row.text(5);
    found.entry = {account,
                   std::string(row.text(6)),
                   std::string(row.text(7)),
                   std::string(row.text(8)),
                   std::string(row.text(9)),
                   std::string(row.text(10))};
    return found;
}

}  // namespace

void write_audit(Tx& tx, const Clock& clock, const Caller& caller, const AuditEntry& entry) {
    tx.exec(insert_audit_sql, {to_micros(clock.now()), entry.account.db(), id_or_null(caller.user),
                               caller.email, id_or_null(caller.key), caller.ip, entry.action, entry.resource,
                               entry.resource_id, entry.resource_name, entry.details});
}

AuditPage read_audit(Tx& tx, AccountId account, std::int64_t limit, std::int64_t offset) {
    AuditPage page;
    tx.one(count_audit_sql, {account.db()}, [&](const Row& row) { page.total = row.i64(0); });
    limit = std::clamp<std::int64_t>(limit, 0, 1'000);
    offset = std::max<std::int64_t>(offset, 0);
    tx.query(read_audit_sql, {account.db(), limit, offset},
             [&](const Row& row) { page.rows.push_back(row_from(row, account)); });
    return page;
}

}  // namespace nebula::accounts
