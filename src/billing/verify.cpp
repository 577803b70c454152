// Recomputes the books from what is in the database: one walk over all accounts in order, in which every
// table is read once, a page at a time.

#include "billing/verify.hpp"

#include <algorithm>
#include <limits>

#include "billing/billing.hpp"
#include "billing/ledger/verify_parts.hpp"

namespace nebula::billing {
namespace {

using ledger::add_problem;
using ledger::LedgerRow;
using ledger::LedgerRows;
using ledger::Pages;
using store::Row;
using store::Sql;
using store::Tx;

constexpr std::size_t problems_max = 100;
constexpr std::int64_t none = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t least = std::numeric_limits<std::int64_t>::min();

// One picture of the whole database; transactions of SQLite always have one.
constexpr Sql sql_snapshot{"billing.verify_snapshot", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"};
constexpr Sql sql_accounts{"billing.verify_accounts",
                           "SELECT id FROM accounts WHERE id > $1 ORDER BY id LIMIT $2"};
constexpr Sql sql_ledger{"billing.verify_ledger",
                         "SELECT account_id, id, kind, balance FROM ledger_accounts"
                         " WHERE (account_id, kind) > ($1, $2) ORDER BY account_id, kind LIMIT $3"};
constexpr Sql sql_own{"billing.verify_own",
                      "SELECT id, kind, balance FROM ledger_accounts WHERE account_id IS NULL"};
constexpr Sql sql_chains{"billing.verify_chains",
                         "SELECT account_id, length, hash, sliced FROM ledger_chains"
                         " WHERE account_id > $1 ORDER BY account_id LIMIT $2"};
constexpr Sql sql_lots{"billing.verify_lots",
                       "SELECT account_id, CAST(SUM(remaining) AS BIGINT) FROM credit_lots"
                       " WHERE remaining > 0 AND account_id > $1 GROUP BY account_id ORDER BY account_id"
                       " LIMIT $2"};

struct ChainRow {
    std::int64_t account = 0;
    ledger::ChainEnd end;
    Nanos sliced;
};
struct LotsRow {
    std::int64_t account = 0;
    Nanos remaining;
};

/// A sign that cannot be.
bool is_impossible(const LedgerRow& row) {
    bool is_customer = row.kind == "customer_credits" || row.kind == "customer_bonus";
    bool is_owed = row.kind == "customer_debt" || row.kind == "payments" || row.kind == "promotions";
    return (is_customer && row.balance < Nanos{}) || (is_owed && row.balance > Nanos{});
}

class Books {
   public:
    Books(Tx& tx, VerifyReport& report)
        : tx_(tx),
          report_(report),
          chains_(tx, report),
          usage_(tx, report),
          accounts_([&tx](const std::int64_t* last, std::vector<std::int64_t>& page) {
              tx.query(sql_accounts, {last == nullptr ? least : *last, Pages<int>::size},
                       [&](const Row& row) { page.push_back(row.i64(0)); });
          }),
          ledger_([&tx](const LedgerRow* last, std::vector<LedgerRow>& page) {
              tx.query(
                  sql_ledger,
                  {last == nullptr ? least : last->account,
                   last == nullptr ? std::string_view() : std::string_view(last->kind), Pages<int>::size},
                  [&](const Row& row) {
                      page.push_back(
                          {row.i64(0), row.i64(1), std::string(row.text(2)), Nanos{row.i64(3)}, {}});
                  });
          }),
          ends_([&tx](const ChainRow* last, std::vector<ChainRow>& page) {
              tx.query(sql_chains, {last == nullptr ? least : last->account, Pages<int>::size},
                       [&](const Row& row) {
                           page.push_back(
                               {row.i64(0), {row.i64(1), ledger::hash_from(row.blob(2))}, Nanos{row.i64(3)}});
                       });
          }),
          lots_([&tx](const LotsRow* last, std::vector<LotsRow>& page) {
              tx.query(sql_lots, {last == nullptr ? least : last->account, Pages<int>::size},
                       [&](const Row& row) { page.push_back({row.i64(0), Nanos{row.i64(1)}}); });
          }) {}

    void verify() {
        for (std::int64_t account = next(); account != none; account = next()) verify_account(account);
        tx_.query(sql_own, {}, [&](const Row& row) {
            LedgerRow own{0, row.i64(0), std::string(row.text(1)), Nanos{row.i64(2)}, {}};
            verify_row(own);
        });
        if (sum_ != Nanos{}) add_problem(report_, "the ledger accounts sum to " + sum_.text() + ", not zero");
        chains_.finish();
        usage_.finish();
    }

   private:
    std::int64_t next() const {
        std::int64_t least_account = std::min(chains_.next_account(), usage_.next_account());
        if (auto row = accounts_.peek()) least_account = std::min(least_account, *row);
        if (auto row = ledger_.peek()) least_account = std::min(least_account, row->account);
        if (auto row = ends_.peek()) least_account = std::min(least_account, row->account);
        if (auto row = lots_.peek()) least_account = std::min(least_account, row->account);
        return least_account;
    }

    void verify_account(std::int64_t account) {
        bool is_known = accounts_.peek() != nullptr && *accounts_.peek() == account;
        if (is_known) accounts_.pop();
        LedgerRows rows;
        for (; ledger_.peek() != nullptr && ledger_.peek()->account == account; ledger_.pop())
            rows[ledger_.peek()->id] = *ledger_.peek();
        if (!is_known && !rows.empty())
            add_problem(report_,
                        "ledger account belongs to no account: " + std::to_string(rows.begin()->first));
        std::optional<ChainRow> end;
        if (ends_.peek() != nullptr && ends_.peek()->account == account) {
            end = *ends_.peek();
            ends_.pop();
        }
        std::optional<ledger::ChainEnd> chain_end;
        if (end) chain_end = end->end;
        std::int64_t sealed = chains_.verify(account, rows, chain_end);
        Nanos paid, bonus;
        for (const auto& [id, row] : rows) {
            verify_row(row);
            if (row.kind == "customer_credits") paid = row.balance;
            if (row.kind == "customer_bonus") bonus = row.balance;
        }
        Nanos in_lots;
        if (lots_.peek() != nullptr && lots_.peek()->account == account) {
            in_lots = lots_.peek()->remaining;
            lots_.pop();
        }
        std::string name = AccountId::from_db(account).text();
        if (bonus > in_lots) add_problem(report_, "bonus credits are in no lot: " + name);
        if (end && end->sliced > std::max(Nanos{}, paid) + std::max(Nanos{}, bonus))
            add_problem(report_, "more is leased to nodes than there is: " + name);
        usage_.verify(account, is_known, sealed);
    }

    void verify_row(const LedgerRow& row) {
        sum_ += row.balance;
        if (row.kind.starts_with("customer_")) report_.customer_credits += row.balance;
        if (row.kind.starts_with("revenue")) report_.revenue += row.balance;
        if (row.balance != row.moved)
            add_problem(report_,
                        "ledger account balance differs from its postings: " + std::to_string(row.id) + " (" +
                            row.balance.text() + ", expected " + row.moved.text() + ")");
        if (is_impossible(row))
            add_problem(report_, "balance of " + row.kind + " has the wrong sign: " + std::to_string(row.id));
    }

    Tx& tx_;
    VerifyReport& report_;
    ledger::ChainVerifier chains_;
    ledger::UsageVerifier usage_;
    Pages<std::int64_t> accounts_;
    Pages<LedgerRow> ledger_;
    Pages<ChainRow> ends_;
    Pages<LotsRow> lots_;
    Nanos sum_;
};

}  // namespace

void ledger::add_problem(VerifyReport& report, std::string text) {
    if (report.problems.size() < problems_max)
        report.problems.push_back(std::move(text));
    else if (report.problems.size() == problems_max)
        report.problems.push_back("and more");
}

VerifyReport verify_books_here(Tx& tx) {
    VerifyReport report;
    Books(tx, report).verify();
    return report;
}

VerifyReport verify_books(Tx& tx) {
    if (tx.engine() == store::Engine::postgres) tx.exec(sql_snapshot);
    return verify_books_here(tx);
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
