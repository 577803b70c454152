#include "ratelimit/shares.hpp"

#include <algorithm>
#include <string>

#include "ratelimit/table.hpp"

namespace nebula::ratelimit {
namespace {

// In advance: a sixteenth of the limit, or a quarter of a minute at the present pace.
constexpr std::int64_t ahead_part = 16;
constexpr std::int64_t ahead_demand_part = 4;
constexpr std::int64_t window_us = Window::seconds * 1'000'000;

#define NOW "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"

// An advisory lock per subject: rows do not exist before the first share. Shares are for PostgreSQL alone.
constexpr store::Sql sql_lock{"rate_shares.lock",
                              "SELECT pg_advisory_xact_lock(k) FROM unnest(CAST($1 AS BIGINT[])) AS k"};
constexpr store::Sql sql_read{
    "rate_shares.read",
    "SELECT r.subject_kind, r.subject_id, r.unit, r.node_id, r.share,"
    " CASE WHEN r.free_at = 0 THEN r.demand ELSE 0 END, CASE WHEN r.free_at = 0 THEN 1 ELSE 0 END"
    " FROM rate_shares AS r JOIN unnest(CAST($1 AS BIGINT[]), CAST($2 AS BIGINT[])) AS s (kind, id)"
    " ON r.subject_kind = s.kind AND r.subject_id = s.id"
    " WHERE r.free_at = 0 OR r.free_at > " NOW};
constexpr store::Sql sql_write{
    "rate_shares.write",
    "INSERT INTO rate_shares (subject_kind, subject_id, unit, node_id, share, demand)"
    " VALUES ($1, $2, $3, $4, $5, $6)"
    " ON CONFLICT (subject_kind, subject_id, unit, node_id)"
    " DO UPDATE SET share = excluded.share, demand = excluded.demand WHERE rate_shares.free_at = 0"};
constexpr store::Sql sql_lower{
    "rate_shares.lower",
    "UPDATE rate_shares SET share = LEAST(share, $5), demand = $6"
    " WHERE subject_kind = $1 AND subject_id = $2 AND unit = $3 AND node_id = $4 AND free_at = 0"};
constexpr store::Sql sql_delete{
    "rate_shares.delete",
    "DELETE FROM rate_shares"
    " WHERE subject_kind = $1 AND subject_id = $2 AND unit = $3 AND node_id = $4 AND free_at = 0"};
constexpr store::Sql sql_leave{
    "rate_shares.leave",
    "UPDATE rate_shares SET share = LEAST(share, $5), demand = $6, free_at = " NOW
    " + 61000000"
    " WHERE subject_kind = $1 AND subject_id = $2 AND unit = $3 AND node_id = $4 AND free_at = 0"};
constexpr store::Sql sql_leave_all{"rate_shares.leave_all",
                                   "UPDATE rate_shares SET demand = 0, free_at = " NOW
                                   " + $2 WHERE node_id = $1 AND free_at = 0"};
constexpr store::Sql sql_delete_free{"rate_shares.delete_free",
                                     "DELETE FROM rate_shares WHERE free_at > 0 AND free_at <= " NOW};

#undef NOW

static_assert(window_us == 61'000'000, "as sql_leave has it");

template <class Number>
std::string array_of(std::span<const Subject> subjects, Number number) {
    std::string text = "{";
    for (Subject subject : subjects) {
        if (text.size() > 1) text += ',';
        text += std::to_string(static_cast<std::int64_t>(number(subject)));
    }
    return text + "}";
}

std::vector<store::Param> keys_of(std::int64_t node, std::span<const ShareRow> rows, bool with_values) {
    std::vector<store::Param> params;
    for (const ShareRow& row : rows) {
        params.emplace_back(static_cast<std::int64_t>(row.subject.kind));
        params.emplace_back(static_cast<std::int64_t>(row.subject.id));
        params.emplace_back(static_cast<std::int64_t>(row.unit));
        params.emplace_back(node);
        if (!with_values) continue;
        params.emplace_back(row.share);
        params.emplace_back(row.demand);
    }
    return params;
}

}  // namespace

std::int64_t fair_share(std::int64_t limit, std::int64_t mine, std::span<const std::int64_t> others) {
    std::vector<std::int64_t> all(others.begin(), others.end());
    all.push_back(mine);
    std::ranges::sort(all);
    std::int64_t left = limit;
    auto count = static_cast<std::int64_t>(all.size());
    for (std::int64_t demand : all) {
        if (demand * count > left) return std::min(mine, (left + count - 1) / count);
        left -= demand;
        --count;
    }
    count = static_cast<std::int64_t>(all.size());
    return mine + (left + count - 1) / count;
}

Holdings::Holdings(std::span<const ShareRow> rows, Subject subject, Unit unit, std::int64_t node) {
    for (const ShareRow& row : rows) {
        if (!(row.subject == subject) || row.unit != unit) continue;
        if (row.node == node) {
            mine = row.share;
            continue;
        }
        others += row.share;
        if (!row.is_live) continue;
        others_live += row.share;
        others_demand += row.demand;
        demands.push_back(row.demand);
    }
}

void decide(ShareWant& want, const Holdings& holdings) {
    std::int64_t free = std::max<std::int64_t>(0, want.limit - holdings.others - holdings.mine);
    std::int64_t need = std::max<std::int64_t>(0, want.used + want.use - holdings.mine);
    std::int64_t fair = fair_share(want.limit, want.demand, holdings.demands);
    want.is_contended = holdings.is_contended(want.limit, want.demand);
    std::int64_t allowed = free;
    if (want.is_contended) {
        // What others gave back for somebody else must not be snatched by whoever gave it.
        std::int64_t beyond = want.is_shrinking ? 0 : free / 2;
        allowed = std::max(fair - holdings.mine, beyond);
    }
    std::int64_t ahead = std::max(want.limit / ahead_part, want.demand / ahead_demand_part);
    std::int64_t wished = need > 0 ? need + ahead : 0;
    std::int64_t grant = std::min({wished, free, std::max<std::int64_t>(0, allowed)});
    want.share = holdings.mine + grant;
    want.pool = free - grant;
    want.is_short = grant < need;
    want.calls_back = want.is_short && holdings.others_live > 0;
    want.is_entitled = want.share < fair;
}

void lock_subjects(store::Tx& tx, std::span<const Subject> sorted) {
    std::string keys = array_of(sorted, [](Subject subject) { return hash_subject(subject); });
    tx.query(sql_lock, {std::string_view(keys)}, [](const store::Row&) {});
}

std::vector<ShareRow> read_rows(store::Tx& tx, std::span<const Subject> subjects) {
    std::string kinds = array_of(subjects, [](Subject subject) { return subject.kind; });
    std::string ids = array_of(subjects, [](Subject subject) { return subject.id; });
    std::vector<ShareRow> rows;
    tx.query(sql_read, {std::string_view(kinds), std::string_view(ids)}, [&](const store::Row& row) {
        rows.push_back({.subject = {static_cast<Kind>(row.i64(0)), static_cast<std::uint64_t>(row.i64(1))},
                        .unit = static_cast<Unit>(row.i64(2)),
                        .node = row.i64(3),
                        .share = row.i64(4),
                        .demand = row.i64(5),
                        .is_live = row.i64(6) == 1});
    });
    return rows;
}

void write_rows(store::Tx& tx, std::int64_t node, std::span<const ShareRow> rows) {
    tx.exec_many(sql_write, 6, keys_of(node, rows, true));
}
void lower_rows(store::Tx& tx, std::int64_t node, std::span<const ShareRow> rows) {
    tx.exec_many(sql_lower, 6, keys_of(node, rows, true));
}
void delete_rows(store::Tx& tx, std::int64_t node, std::span<const ShareRow> rows) {
    tx.exec_many(sql_delete, 4, keys_of(node, rows, false));
}
void leave_rows(store::Tx& tx, std::int64_t node, std::span<const ShareRow> rows) {
    tx.exec_many(sql_leave, 6, keys_of(node, rows, true));
}
void leave_all_rows(store::Tx& tx, std::int64_t node) { tx.exec(sql_leave_all, {node, window_us}); }
void delete_free_rows(store::Tx& tx) { tx.exec(sql_delete_free); }

}  // namespace nebula::ratelimit
