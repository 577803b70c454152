#include "billing/store.hpp"

#include <array>

namespace nebula::billing {
namespace {

using store::Row;
using store::Sql;
using store::Tx;

constexpr Sql sql_posting_exists{"billing.posting_exists", "SELECT 1 FROM postings WHERE id = $1"};
constexpr Sql sql_recorded{
    "billing.recorded_usage",
    "SELECT posting_id, charge, written_off, quota_input, quota_output FROM usage_records"
    " WHERE account_id = $1 AND id = $2"};
constexpr Sql sql_list_usage{
    "billing.list_usage",
    "SELECT id, key_id, model, provider, input_tokens, cached_tokens, output_tokens, price_input_per_m,"
    " price_output_per_m, price_cached_input_per_m, is_estimated, is_streamed, outcome, status, started_at,"
    " latency_us, first_token_us, product, quota_input, quota_output, price_request, charge, written_off,"
    " posting_id," USAGE_APART " FROM usage_records WHERE account_id = $1 ORDER BY id DESC LIMIT $2"};

constexpr std::array outcomes = {Outcome::completed, Outcome::client_left, Outcome::upstream_failed,
                                 Outcome::cancelled};

Outcome parse_outcome(std::string_view text) {
    for (Outcome outcome : outcomes)
        if (text == outcome_name(outcome)) return outcome;
    throw store::DbError("usage_records.outcome has an unknown value");
}

}  // namespace

const char* outcome_name(Outcome outcome) {
    switch (outcome) {
        case Outcome::completed:
            return "completed";
        case Outcome::client_left:
            return "client_left";
        case Outcome::upstream_failed:
            return "upstream_failed";
        case Outcome::cancelled:
            return "cancelled";
    }
    return "completed";
}

void read_apart(const Row& row, int at, UsageRecord& record) {
    record.usage.cache_write = row.i64(at);
    record.usage.reasoning = row.i64(at + 1);
    record.usage.units = row.i64(at + 2);
    record.unit = row.text(at + 3);
    record.prices.cache_write_per_m = Nanos{row.i64(at + 4)};
    record.prices.reasoning_per_m = Nanos{row.i64(at + 5)};
    record.prices.unit = Nanos{row.i64(at + 6)};
    record.byok_ppm = row.i64(at + 7);
}

bool posting_exists(Tx& tx, PostingId posting) {
    return tx.one(sql_posting_exists, {posting.db()}, [](const Row&) {});
}

std::optional<Recorded> recorded_usage(Tx& tx, AccountId account, RequestId id) {
    std::optional<Recorded> found;
    tx.query(sql_recorded, {account.db(), id.db()}, [&](const Row& row) {
        PostingId posting = row.is_null(0) ? PostingId{} : PostingId::from_db(row.i64(0));
        found = Recorded{posting, {Nanos{row.i64(1)}, Nanos{row.i64(2)}, row.i64(3), row.i64(4)}};
    });
    return found;
}

std::vector<UsageRecord> list_usage(Tx& tx, AccountId account, std::int64_t limit) {
    std::vector<UsageRecord> records;
    tx.query(sql_list_usage, {account.db(), limit}, [&](const Row& row) {
        UsageRecord& r = records.emplace_back();
        r.id = RequestId::from_db(row.i64(0));
        r.account = account;
        r.key = KeyId::from_db(row.i64(1));
        r.model = row.text(2);
        r.provider = row.text(3);
        r.usage = {row.i64(4), row.i64(5), row.i64(6)};
        r.prices = {Nanos{row.i64(7)}, Nanos{row.i64(8)}, Nanos{row.i64(9)}};
        r.is_estimated = row.i64(10) != 0;
        r.is_streamed = row.i64(11) != 0;
        r.outcome = parse_outcome(row.text(12));
        r.status = static_cast<int>(row.i64(13));
        r.started_at = from_micros(row.i64(14));
        r.latency_us = row.i64(15);
        r.first_token_us = row.i64(16);
        r.product = row.text(17);
        r.quota_input = row.i64(18);
        r.quota_output = row.i64(19);
        r.prices.request = Nanos{row.i64(20)};
        r.charge = Nanos{row.i64(21)};
        r.written_off = Nanos{row.i64(22)};
        if (!row.is_null(23)) r.posting = PostingId::from_db(row.i64(23));
        read_apart(row, 24, r);
    });
    return records;
}

}  // namespace nebula::billing
