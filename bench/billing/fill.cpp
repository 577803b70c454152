#include "fill.hpp"

#include <algorithm>
#include <string>

namespace nebula::bench {
namespace {

using store::Sql;

constexpr std::int64_t hour_us = 3'600'000'000;
constexpr std::int64_t year_us = 365 * 24 * hour_us;
constexpr std::int64_t per_transaction = 100'000;

void exec(store::Db& db, const Sql& sql, std::initializer_list<store::Param> params) {
    std::vector<store::Param> values(params);
    auto work = [&](store::Tx& tx) -> Result<bool> {
        tx.exec(sql, values);
        return true;
    };
    (void)db.in_tx_blocking(work).value();
}

// $1 account, $2 first number, $3 last number, $4 start, $5 microseconds between records, $6 keys, $7 models.
// Ids are milliseconds since 2024 shifted by 22, as the program makes them.
#define NEBULA_BENCH_RECORD                                                                                \
    " SELECT $1, (($4 + n * $5) / 1000 - 1704067200000) * 4194304 + n % 4194304, 1 + n * 31 % $6,"         \
    " 'vendor/model-' || (n * 17 % $7), 'p', 100 + n % 900, n % 100, 50 + n % 450, 500000000, 1500000000," \
    " 250000000, 0, 1, 'completed', 200, $4 + n * $5, 900000, 200000, 1 + n % 900 * 1000, 0, 1 FROM numbers"
#define NEBULA_BENCH_INTO                                                                              \
    "INSERT INTO usage_records (account_id, id, key_id, model, provider, input_tokens, cached_tokens," \
    " output_tokens, price_input_per_m, price_output_per_m, price_cached_input_per_m, is_estimated,"   \
    " is_streamed, outcome, status, started_at, latency_us, first_token_us, charge, written_off,"      \
    " posting_id)"
constexpr Sql insert_records{
    "bench.records",
    "WITH RECURSIVE numbers(n) AS (SELECT $2 UNION ALL SELECT n + 1 FROM numbers WHERE n < "
    "$3) " NEBULA_BENCH_INTO NEBULA_BENCH_RECORD,
    "WITH numbers AS (SELECT generate_series($2, $3) AS n) " NEBULA_BENCH_INTO NEBULA_BENCH_RECORD};
#undef NEBULA_BENCH_RECORD
#undef NEBULA_BENCH_INTO

constexpr Sql insert_hours{
    "bench.hours",
    "INSERT INTO usage_hours (account_id, hour, key_id, model, product, requests, input_tokens,"
    " cached_tokens, output_tokens, quota_input, quota_output, charge, written_off)"
    " SELECT account_id, started_at - started_at % 3600000000, key_id, model, 'llm', count(*),"
    " CAST(sum(input_tokens) AS BIGINT), CAST(sum(cached_tokens) AS BIGINT),"
    " CAST(sum(output_tokens) AS BIGINT), 0, 0, CAST(sum(charge) AS BIGINT), 0"
    " FROM usage_records WHERE account_id = $1 GROUP BY 1, 2, 3, 4"};

// One movement every eight hours: charges of an instance, and payments between them.
constexpr const char* movement_columns =
    "INSERT INTO movements (id, account_id, kind, amount, credited, owed, reference, product, created_at)"
    " SELECT ($2 / 1000 - 1704067200000) * 4194304 + n * 120795955200000 + $1 % 4194304, $1,"
    " CASE WHEN n % 90 = 0 THEN 'payment' ELSE 'charge' END, 5000000,"
    " CASE WHEN n % 90 = 0 THEN 5000000 ELSE -5000000 END, 0, 'ins_1', 'gpu', $2 + n * 28800000000"
    " FROM numbers";
constexpr const char* invoice_columns =
    "INSERT INTO invoices (number, account_id, user_id, kind, net, tax, total, paid, created_at)"
    " SELECT $3 * 100 + n, $1, 1, 'Reload', 5000000, 0, 5000000, 5000000, $2 + n * 2000000000000"
    " FROM numbers";
Sql numbered(const char* name, std::string& text, store::Engine engine, int count, const char* insert) {
    std::string last = std::to_string(count);
    text = engine == store::Engine::postgres
               ? "WITH numbers AS (SELECT generate_series(1, " + last + ") AS n) "
               : "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < " +
                     last + ") ";
    text += insert;
    return {name, text.c_str()};
}

void fill_account(store::Db& db, AccountId account, std::int64_t index, std::int64_t records,
                  const Shape& shape, std::int64_t start_us) {
    static constexpr Sql insert_account{"bench.account",
                                        "INSERT INTO accounts (id, name, created_at) VALUES ($1, $2, $3)"};
    std::string name = "account " + std::to_string(index);
    exec(db, insert_account, {account.db(), std::string_view(name), start_us});
    std::int64_t step = std::max<std::int64_t>(1, year_us / std::max<std::int64_t>(1, records));
    for (std::int64_t first = 0; first < records; first += per_transaction)
        exec(db, insert_records,
             {account.db(), first, std::min(first + per_transaction, records) - 1, start_us, step, shape.keys,
              shape.models});
    exec(db, insert_hours, {account.db()});
    std::string movements, invoices;
    exec(db, numbered("bench.movements", movements, db.engine(), 1'090, movement_columns),
         {account.db(), start_us});
    exec(db, numbered("bench.invoices", invoices, db.engine(), 24, invoice_columns),
         {account.db(), start_us, index});
}

}  // namespace

std::vector<AccountId> fill(store::Db& db, const Shape& shape, std::int64_t end_us) {
    std::vector<AccountId> accounts;
    std::int64_t large = shape.records / 20;
    std::int64_t each = (shape.records - large) / std::max<std::int64_t>(1, shape.accounts - 1);
    for (std::int64_t i = 0; i < shape.accounts; ++i) {
        accounts.push_back(AccountId{static_cast<std::uint64_t>(1'000 + i)});
        fill_account(db, accounts.back(), i, i == 0 ? large : each, shape, end_us - year_us);
    }
    if (db.engine() == store::Engine::postgres) {  // what autovacuum does within minutes
        auto analyze = [](store::Tx& tx) -> Result<bool> {
            tx.script({"bench.analyze", "ANALYZE usage_hours; ANALYZE movements; ANALYZE invoices"});
            return true;
        };
        (void)db.in_tx_blocking(analyze).value();
    }
    return accounts;
}

}  // namespace nebula::bench
