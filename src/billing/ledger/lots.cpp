#include "billing/ledger/lots.hpp"

#include <algorithm>

namespace nebula::billing::ledger {
namespace {

using store::Param;
using store::Row;
using store::Sql;
using store::Tx;

// The earliest to expire first, what never expires last.
constexpr Sql sql_lots{"billing.credit_lots",
                       "SELECT id, remaining, COALESCE(expires_at, 9223372036854775807) AS expires"
                       " FROM credit_lots WHERE account_id = $1 AND remaining > 0 ORDER BY expires, id"};
constexpr Sql sql_update_lot{"billing.update_lot", "UPDATE credit_lots SET remaining = $2 WHERE id = $1"};
constexpr Sql sql_add_lot{"billing.add_lot",
                          "INSERT INTO credit_lots (id, account_id, amount, remaining, expires_at)"
                          " VALUES ($1, $2, $3, $3, $4)"};
constexpr Sql sql_expired{"billing.expired_lots",
                          "SELECT account_id FROM credit_lots WHERE remaining > 0 AND expires_at IS NOT NULL"
                          " AND expires_at <= $1 GROUP BY account_id ORDER BY MIN(expires_at), account_id"
                          " LIMIT $2"};

struct Lot {
    std::int64_t id = 0;
    Nanos stored;  // remaining in the table
    std::int64_t expires = 0;
    Nanos left;  // really
};

std::vector<Lot> load_lots(Tx& tx, const Funds& funds) {
    std::vector<Lot> lots;
    tx.query(sql_lots, {funds.account.db()},
             [&](const Row& row) { lots.push_back({row.i64(0), Nanos{row.i64(1)}, row.i64(2), {}}); });
    // The last to expire is spent last: of the balance it keeps what it can.
    Nanos balance = funds.bonus;
    for (auto lot = lots.rbegin(); lot != lots.rend(); ++lot) {
        lot->left = std::min(lot->stored, balance);
        balance -= lot->left;
    }
    return lots;
}

void store_lots(Tx& tx, const std::vector<Lot>& lots) {
    std::vector<Param> values;
    for (const Lot& lot : lots)
        if (lot.left != lot.stored) values.insert(values.end(), {lot.id, lot.left.value});
    if (!values.empty()) tx.exec_many(sql_update_lot, 2, values);
}

}  // namespace

void add_lot(Tx& tx, const Funds& funds, PostingId id, Nanos amount, std::optional<Time> expires_at) {
    store_lots(tx, load_lots(tx, funds));
    Param expires = expires_at ? Param(to_micros(*expires_at)) : Param(nullptr);
    tx.exec(sql_add_lot, {id.db(), funds.account.db(), amount.value, expires});
}

std::vector<AccountId> accounts_with_expired_bonus(Tx& tx, Time now, std::int64_t limit) {
    std::vector<AccountId> accounts;
    tx.query(sql_expired, {to_micros(now), limit},
             [&](const Row& row) { accounts.push_back(AccountId::from_db(row.i64(0))); });
    return accounts;
}

Nanos expire_bonus(Tx& tx, Funds& funds, PostingId id, Nanos takeable, Time now) {
    std::vector<Lot> lots = load_lots(tx, funds);
    Nanos may = std::max(takeable, Nanos{}), expired;
    for (Lot& lot : lots) {
        if (lot.expires > to_micros(now)) break;
        Nanos part = std::min(lot.left, may - expired);
        lot.left -= part;
        expired += part;
    }
    store_lots(tx, lots);
    if (expired > Nanos{}) post_expiry(tx, funds, expired, id, now);
    return expired;
}

}  // namespace nebula::billing::ledger
