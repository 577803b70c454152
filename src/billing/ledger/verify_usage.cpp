#include <algorithm>
#include <limits>

#include "billing/ledger/receipt.hpp"
#include "billing/ledger/verify_parts.hpp"

namespace nebula::billing::ledger {
namespace {

using store::Sql;

constexpr std::int64_t none = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t least = std::numeric_limits<std::int64_t>::min();
constexpr std::size_t digest_size = sizeof(Sha256::bytes);

constexpr Sql sql_usage{
    "billing.verify_usage",
    "SELECT account_id, id, key_id, model, provider, input_tokens, cached_tokens, output_tokens,"
    " price_input_per_m, price_output_per_m, price_cached_input_per_m, is_estimated, is_streamed, outcome,"
    " status, started_at, latency_us, first_token_us, charge, written_off, COALESCE(posting_id, 0),"
    " quota_input, quota_output, price_request, product," USAGE_APART
    " FROM usage_records"
    " WHERE (account_id, id) > ($1, $2) ORDER BY account_id, id LIMIT $3"};
// The second posting of a charge that took bonus and paid credits is the next one in the chain.
#define CHARGED_POSTINGS                                                                          \
    "SELECT p.id, COALESCE(p.account_id, 0), p.amount + COALESCE(q.amount, 0), p.records_digest," \
    " p.record_digests FROM postings p LEFT JOIN postings q ON q.account_id = p.account_id"       \
    " AND q.seq = p.seq + 1 AND q.movement_id = p.id AND q.kind = 'usage' WHERE p.kind = 'usage'"
constexpr Sql sql_postings{"billing.verify_charged",
                           CHARGED_POSTINGS " AND p.id IN (SELECT value FROM json_each($1))",
                           CHARGED_POSTINGS " AND p.id = ANY(CAST(CAST($1 AS TEXT) AS BIGINT[]))"};
#undef CHARGED_POSTINGS
constexpr Sql sql_hours{
    "billing.verify_hours",
    "SELECT account_id, hour, key_id, model, product, requests, input_tokens, cached_tokens, output_tokens,"
    " quota_input, quota_output, charge, written_off, cache_write_tokens, reasoning_tokens, units"
    " FROM usage_hours"
    " WHERE (account_id, hour, key_id, model, product) > ($1, $2, $3, $4, $5)"
    " ORDER BY account_id, hour, key_id, model, product LIMIT $6"};
// Only asked when some are known to be missing.
constexpr Sql sql_unused{"billing.verify_unused",
                         "SELECT p.id, p.amount FROM postings p LEFT JOIN"
                         " (SELECT posting_id FROM usage_records WHERE account_id = $1"
                         "   AND posting_id IS NOT NULL GROUP BY posting_id) AS u ON u.posting_id = p.id"
                         " WHERE p.account_id = $1 AND p.kind = 'usage' AND p.movement_id = p.id"
                         " AND p.seq IS NOT NULL AND u.posting_id IS NULL LIMIT 101"};

std::string differs(PostingId posting, Nanos amount, Nanos sum) {
    return "usage posting differs from the sum of its records: " + posting.text() + " (" + amount.text() +
           ", expected " + sum.text() + ")";
}

}  // namespace

UsageVerifier::UsageVerifier(store::Tx& tx, VerifyReport& report)
    : tx_(tx),
      report_(report),
      pages_([this](const Row* last, std::vector<Row>& page) { load(last, page); }),
      hours_([this](const HourRow* last, std::vector<HourRow>& page) { load_hours(last, page); }) {}

std::int64_t UsageVerifier::next_account() const {
    const Row* row = pages_.peek();
    const HourRow* hour = hours_.peek();
    return std::min(row == nullptr ? none : row->record.account.db(), hour == nullptr ? none : hour->account);
}

void UsageVerifier::load(const Row* last, std::vector<Row>& page) {
    page.reserve(static_cast<std::size_t>(Pages<Row>::size));
    tx_.query(sql_usage,
              {last == nullptr ? least : last->record.account.db(),
               last == nullptr ? least : last->record.id.db(), Pages<Row>::size},
              [&](const store::Row& row) {
                  UsageRecord& r = page.emplace_back().record;
                  Settled& s = page.back().settled;
                  r.account = AccountId::from_db(row.i64(0));
                  r.id = RequestId::from_db(row.i64(1));
                  r.key = KeyId::from_db(row.i64(2));
                  r.model = row.text(3);
                  r.provider = row.text(4);
                  r.usage = {row.i64(5), row.i64(6), row.i64(7)};
                  r.prices = {Nanos{row.i64(8)}, Nanos{row.i64(9)}, Nanos{row.i64(10)}, Nanos{row.i64(23)}};
                  r.is_estimated = row.i64(11) != 0;
                  r.is_streamed = row.i64(12) != 0;
                  for (Outcome one : {Outcome::completed, Outcome::client_left, Outcome::upstream_failed,
                                      Outcome::cancelled})
                      if (row.text(13) == outcome_name(one)) r.outcome = one;
                  r.status = static_cast<int>(row.i64(14));
                  r.started_at = from_micros(row.i64(15));
                  r.latency_us = row.i64(16);
                  r.first_token_us = row.i64(17);
                  s = {Nanos{row.i64(18)}, Nanos{row.i64(19)}, row.i64(21), row.i64(22)};
                  r.posting = PostingId::from_db(row.i64(20));
                  r.product = row.text(24);
                  read_apart(row, 25, r);
              });
    load_postings(page);
}

void UsageVerifier::load_postings(const std::vector<Row>& page) {
    std::vector<std::int64_t> ids;
    for (const Row& row : page)
        if (row.record.posting && !open_.contains(row.record.posting.db()))
            ids.push_back(row.record.posting.db());
    std::ranges::sort(ids);
    ids.erase(std::ranges::unique(ids).begin(), ids.end());
    if (ids.empty()) return;
    std::string list = id_list(tx_.engine(), ids);
    tx_.query(sql_postings, {std::string_view(list)}, [&](const store::Row& row) {
        Open& open = open_[row.i64(0)];
        open.account = row.i64(1);
        open.amount = Nanos{row.i64(2)};
        open.is_chained = !row.is_null(3);
        open.digest_of_one = hash_from(row.blob(3));
        std::string_view digests = row.blob(4);
        for (std::size_t at = 0; at + digest_size <= digests.size(); at += digest_size)
            open.digests.insert(hash_from(digests.substr(at, digest_size)));
        open.left = std::max<std::int64_t>(1, static_cast<std::int64_t>(open.digests.size()));
    });
}

void UsageVerifier::verify_price(const Row& row) {
    const UsageRecord& r = row.record;
    const Settled& s = row.settled;
    Nanos price = charge_of(r.prices, uncovered(r.usage, s.quota_input, s.quota_output));
    if (s.charge > price || s.written_off != price - s.charge)
        add_problem(report_, "usage record charge differs from its price: " + r.id.text() + ": " +
                                 s.charge.text() + " + " + s.written_off.text() + " written off, price " +
                                 price.text());
    if ((s.charge == Nanos{}) != !r.posting)
        add_problem(report_,
                    "usage record is charged without a posting, or posted without a charge: " + r.id.text());
}

bool UsageVerifier::verify_posting(const Row& row) {
    const UsageRecord& r = row.record;
    if (!r.posting) return false;
    auto found = open_.find(r.posting.db());
    if (found == open_.end() || found->second.account != r.account.db()) {
        add_problem(report_,
                    "usage record names a posting that is missing or not its account's: " + r.id.text());
        return false;
    }
    Open& open = found->second;
    open.sum += row.settled.charge;
    if (!open.is_chained) return false;
    Sha256 digest = record_digest(r, row.settled);
    bool is_sealed = open.digests.empty() ? digest_of_digests(bytes_of(digest)) == open.digest_of_one
                                          : open.digests.contains(digest);
    if (!is_sealed) add_problem(report_, "usage record was changed after it was charged: " + r.id.text());
    if (--open.left > 0) return true;
    if (open.sum != open.amount) add_problem(report_, differs(r.posting, open.amount, open.sum));
    open_.erase(found);
    return true;
}

void UsageVerifier::verify(std::int64_t account, bool is_known, std::int64_t sealed) {
    std::map<HourKey, HourRow> sums;
    std::int64_t seen = 0;
    for (const Row* row = pages_.peek(); row != nullptr && row->record.account.db() == account;
         pages_.pop(), row = pages_.peek()) {
        ++report_.usage_records;
        const UsageRecord& r = row->record;
        const Settled& s = row->settled;
        if (!is_known) add_problem(report_, "usage record belongs to no account: " + r.id.text());
        verify_price(*row);
        seen += verify_posting(*row) ? 1 : 0;
        std::int64_t hour = to_micros(std::chrono::floor<std::chrono::hours>(r.started_at));
        HourRow& sum = sums[{hour, r.key.db(), r.model, r.product}];
        sum.sums.add(r.usage, s);
    }
    verify_hours(account, sums);
    if (seen < sealed) name_unused_postings(account);
}

void UsageVerifier::name_unused_postings(std::int64_t account) {
    tx_.query(sql_unused, {account}, [&](const store::Row& row) {
        add_problem(report_, differs(PostingId::from_db(row.i64(0)), Nanos{row.i64(1)}, {}));
    });
}

void UsageVerifier::load_hours(const HourRow* last, std::vector<HourRow>& page) {
    static const HourRow before{least, {least, least, "", ""}, {}};
    if (last == nullptr) last = &before;
    const auto& [hour, key, model, product] = last->key;
    tx_.query(
        sql_hours,
        {last->account, hour, key, std::string_view(model), std::string_view(product), Pages<HourRow>::size},
        [&](const store::Row& row) {
            HourRow& made = page.emplace_back();
            made.account = row.i64(0);
            made.key = {row.i64(1), row.i64(2), std::string(row.text(3)), std::string(row.text(4))};
            for (std::size_t i = 0; i < HourSums::all; ++i)
                made.sums.values[i] = row.i64(5 + static_cast<int>(i));
        });
}

void UsageVerifier::verify_hours(std::int64_t account, std::map<HourKey, HourRow>& sums) {
    auto wrong = [&](const HourKey& key) {
        add_problem(report_,
                    "hourly sum differs from the usage records: " + AccountId::from_db(account).text() +
                        ", " + to_iso8601(from_micros(std::get<0>(key))) + ", " + std::get<2>(key));
    };
    for (; hours_.peek() != nullptr && hours_.peek()->account == account; hours_.pop()) {
        const HourRow& row = *hours_.peek();
        auto found = sums.find(row.key);
        if (found == sums.end() || found->second.sums != row.sums) wrong(row.key);
        if (found != sums.end()) sums.erase(found);
    }
    for (const auto& [key, sum] : sums) wrong(key);
}

void UsageVerifier::finish() {
    for (const auto& [id, open] : open_)
        if (open.is_chained || open.sum != open.amount)
            add_problem(report_, differs(PostingId::from_db(id), open.amount, open.sum));
}

}  // namespace nebula::billing::ledger
