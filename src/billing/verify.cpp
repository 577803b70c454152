// Recomputes the books from what is in the database.

#include <functional>

#include "billing/billing.hpp"
#include "billing/verify.hpp"

namespace nebula::billing {
namespace {

using store::Row;
using store::Sql;
using store::Tx;

constexpr std::size_t problems_max = 100;
constexpr std::int64_t page_size = 10'000;

// One picture of the whole database; transactions of SQLite always have one.
constexpr Sql sql_snapshot{"billing.verify_snapshot", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"};

constexpr Sql sql_totals{"billing.verify_totals",
                         "SELECT (SELECT COUNT(*) FROM postings), (SELECT COUNT(*) FROM usage_records),"
                         " (SELECT CAST(COALESCE(SUM(balance), 0) AS BIGINT) FROM ledger_accounts),"
                         " (SELECT CAST(COALESCE(SUM(balance), 0) AS BIGINT) FROM ledger_accounts"
                         "   WHERE kind = 'customer_credits'),"
                         " (SELECT CAST(COALESCE(SUM(balance), 0) AS BIGINT) FROM ledger_accounts"
                         "   WHERE kind = 'revenue')"};

// Columns: the row in question, then the two numbers that differ (0 where there are none).
struct Rule {
    Sql sql;
    const char* problem;
};
constexpr Rule rules[] = {
    {{"billing.verify_balances",
      "SELECT l.id, l.balance, COALESCE(m.moved, 0) FROM ledger_accounts l LEFT JOIN"
      " (SELECT id, CAST(SUM(amount) AS BIGINT) AS moved FROM"
      "   (SELECT credit_account AS id, amount FROM postings"
      "    UNION ALL SELECT debit_account AS id, -amount AS amount FROM postings) AS sides GROUP BY id) AS m"
      " ON m.id = l.id WHERE l.balance <> COALESCE(m.moved, 0) LIMIT 101"},
     "ledger account balance differs from its postings"},
    {{"billing.verify_negative",
      "SELECT id, balance, 0 FROM ledger_accounts WHERE kind = 'customer_credits' AND balance < 0 LIMIT 101"},
     "customer balance is negative"},
    {{"billing.verify_ledger_orphans",
      "SELECT l.id, 0, 0 FROM ledger_accounts l LEFT JOIN accounts a ON a.id = l.account_id"
      " WHERE l.account_id IS NOT NULL AND a.id IS NULL LIMIT 101"},
     "ledger account belongs to no account"},
    {{"billing.verify_posting_orphans",
      "SELECT p.id, 0, 0 FROM postings p LEFT JOIN ledger_accounts d ON d.id = p.debit_account"
      " LEFT JOIN ledger_accounts c ON c.id = p.credit_account WHERE d.id IS NULL OR c.id IS NULL LIMIT 101"},
     "posting names a ledger account that does not exist"},
    {{"billing.verify_usage_sums",
      "SELECT p.id, p.amount, COALESCE(u.charged, 0) FROM postings p LEFT JOIN"
      " (SELECT posting_id, CAST(SUM(charge) AS BIGINT) AS charged FROM usage_records"
      "   WHERE posting_id IS NOT NULL GROUP BY posting_id) AS u ON u.posting_id = p.id"
      " WHERE p.kind = 'usage' AND p.amount <> COALESCE(u.charged, 0) LIMIT 101"},
     "usage posting differs from the sum of its records"},
    {{"billing.verify_usage_unposted",
      "SELECT id, charge, 0 FROM usage_records WHERE (charge <> 0 AND posting_id IS NULL)"
      " OR (charge = 0 AND posting_id IS NOT NULL) LIMIT 101"},
     "usage record is charged without a posting, or posted without a charge"},
    {{"billing.verify_usage_orphans",
      "SELECT u.id, 0, 0 FROM usage_records u LEFT JOIN accounts a ON a.id = u.account_id WHERE a.id IS NULL"
      " LIMIT 101"},
     "usage record belongs to no account"},
    {{"billing.verify_usage_postings",
      "SELECT u.id, u.charge, 0 FROM usage_records u LEFT JOIN postings p ON p.id = u.posting_id"
      " LEFT JOIN ledger_accounts d ON d.id = p.debit_account LEFT JOIN ledger_accounts c ON c.id = "
      "p.credit_account"
      " WHERE u.posting_id IS NOT NULL AND (p.id IS NULL OR p.kind <> 'usage'"
      " OR d.account_id IS NULL OR d.account_id <> u.account_id OR d.kind <> 'customer_credits'"
      " OR c.kind <> 'revenue') LIMIT 101"},
     "usage record names a posting that is missing or not its account's"},
};

constexpr Sql sql_prices{
    "billing.verify_prices",
    "SELECT account_id, id, input_tokens, cached_tokens, output_tokens, price_input_per_m,"
    " price_output_per_m, price_cached_input_per_m, charge, written_off FROM usage_records"
    " WHERE account_id > $1 OR (account_id = $1 AND id > $2) ORDER BY account_id, id LIMIT $3"};

void add_problem(VerifyReport& report, std::string text) {
    if (report.problems.size() < problems_max)
        report.problems.push_back(std::move(text));
    else if (report.problems.size() == problems_max)
        report.problems.push_back("and more");
}

void check_prices(Tx& tx, VerifyReport& report) {
    std::int64_t account = -1, id = -1, rows = page_size;
    while (rows == page_size) {
        rows = 0;
        tx.query(sql_prices, {account, id, page_size}, [&](const Row& row) {
            ++rows;
            account = row.i64(0);
            id = row.i64(1);
            Prices prices{Nanos{row.i64(5)}, Nanos{row.i64(6)}, Nanos{row.i64(7)}};
            Nanos price = charge_of(prices, {row.i64(2), row.i64(3), row.i64(4)});
            Nanos charge{row.i64(8)}, written_off{row.i64(9)};
            if (charge > price || written_off != price - charge)
                add_problem(report, "usage record charge differs from its price: " +
                                        RequestId::from_db(id).text() + ": " + charge.text() + " + " +
                                        written_off.text() + " written off, price " + price.text());
        });
    }
}

}  // namespace

VerifyReport verify_books(Tx& tx) {
    VerifyReport report;
    if (tx.engine() == store::Engine::postgres) tx.exec(sql_snapshot);
    Nanos sum;
    tx.query(sql_totals, {}, [&](const Row& row) {
        report.postings = row.i64(0);
        report.usage_records = row.i64(1);
        sum = Nanos{row.i64(2)};
        report.customer_credits = Nanos{row.i64(3)};
        report.revenue = Nanos{row.i64(4)};
    });
    if (sum != Nanos{}) add_problem(report, "the ledger accounts sum to " + sum.text() + ", not zero");
    for (const Rule& rule : rules) {
        tx.query(rule.sql, {}, [&](const Row& row) {
            std::string text = std::string(rule.problem) + ": " + std::to_string(row.i64(0));
            if (row.i64(1) != row.i64(2))
                text += " (" + Nanos{row.i64(1)}.text() + ", expected " + Nanos{row.i64(2)}.text() + ")";
            add_problem(report, std::move(text));
        });
    }
    check_prices(tx, report);
    return report;
}

Result<VerifyReport> Billing::verify(store::Db& db) {
    auto work = [](Tx& tx) -> Result<VerifyReport> { return verify_books(tx); };
    try {
        return db.read_blocking(work);
    } catch (const store::DbError& e) {
        return fail(Code::internal, "the database failed; try again", "", e.what());
    }
}

}  // namespace nebula::billing
