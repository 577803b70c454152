// How shares and blocks go back.

#include <algorithm>

#include "base/log.hpp"
#include "ratelimit/keeper.hpp"
#include "ratelimit/locked.hpp"

namespace nebula::ratelimit {
namespace {

constexpr std::size_t rows_max = 500;           // per transaction
constexpr std::int64_t shrinking_ms = 3'000;    // after the last call
constexpr std::int64_t shrink_part = 32;        // of what is above the fair share, per second
constexpr std::int64_t demand_change_part = 4;  // what others need not hear about

/// Calls `work` with at most rows_max rows at a time.
template <class Row, class F>
void in_parts(std::span<Row> rows, F work) {
    for (std::size_t at = 0; at < rows.size(); at += rows_max)
        work(rows.subspan(at, std::min(rows_max, rows.size() - at)));
}

}  // namespace

bool Keeper::shrink(const ShareRow& row, const Holdings& holdings, Instant at, ShareRow& changed) {
    bool is_changed = false;
    table_.with(row.subject, at.second, [&](Bucket& bucket) {
        if (!bucket.extra) return;
        Share& share = bucket.extra->shares[static_cast<std::size_t>(row.unit)];
        if (recalled_.contains(row.subject)) share.shrinking_until_ms = at.ms + shrinking_ms;
        bool is_shrinking = at.ms < share.shrinking_until_ms;
        std::int64_t demand = share.demand(at.second);
        std::int64_t used = bucket.used(row.unit);
        std::int64_t fair = fair_share(share.limit, demand, holdings.demands);
        share.cap = Share::no_cap;
        changed = row;
        changed.demand = demand;
        // From here on nothing is admitted with what goes back, whatever becomes of the transaction.
        share.held = std::min(share.held, std::max(used, fair));
        if (is_shrinking && used > fair) {
            // Not all at once, so that those who are served here are not cut off.
            share.cap = used - std::max<std::int64_t>(1, (used - fair) / shrink_part);
            share.denied_until_ms = std::max(share.denied_until_ms, at.ms + 1000);
        }
        changed.share = std::min(row.share, share.held);
        std::int64_t difference = std::abs(demand - share.stored_demand);
        is_changed = changed.share < row.share || difference * demand_change_part > share.stored_demand;
        if (is_changed) share.stored_demand = demand;
    });
    return is_changed;
}

void Keeper::give_back(std::vector<Subject> subjects, Instant at) {
    in_parts(std::span<Subject>(subjects), [&](std::span<Subject> part) {
        in_tx("give back", [&](store::Tx& tx) -> Result<bool> {
            std::vector<ShareRow> rows = read_rows(tx, part);
            std::vector<ShareRow> lowered;
            for (const ShareRow& row : rows) {
                ShareRow changed;
                if (row.node != node_->id() || !row.is_live) continue;
                if (shrink(row, Holdings(rows, row.subject, row.unit, row.node), at, changed))
                    lowered.push_back(changed);
            }
            lower_rows(tx, node_->id(), lowered);
            return true;
        });
    });
}

void Keeper::drop_idle(Instant at) {
    std::vector<ShareRow> idle;
    table_.each([&](Bucket& bucket) {
        if (!bucket.extra || !bucket.extra->has_rows() || at.second - bucket.second < Window::seconds) return;
        for (Unit unit : all_units) {
            Share& share = bucket.extra->shares[static_cast<std::size_t>(unit)];
            if (!share.has_row) continue;
            share.held = 0;
            idle.push_back({.subject = bucket.subject, .unit = unit});
        }
    });
    in_parts(std::span<ShareRow>(idle), [&](std::span<ShareRow> part) {
        bool done = in_tx("return idle", [&](store::Tx& tx) -> Result<bool> {
            delete_rows(tx, node_->id(), part);
            return true;
        });
        if (!done) return;
        for (const ShareRow& row : part)
            table_.with(row.subject, 0, [&](Bucket& bucket) {
                bucket.extra->shares[static_cast<std::size_t>(row.unit)].has_row = false;
            });
    });
    in_tx("free", [](store::Tx& tx) -> Result<bool> {
        delete_free_rows(tx);
        return true;
    });
}

void Keeper::return_all() {
    Instant at = now();
    std::vector<ShareRow> all;
    table_.each([&](Bucket& bucket) {
        if (!bucket.extra) return;
        bucket.advance(at.second);
        for (Unit unit : all_units) {
            Share& share = bucket.extra->shares[static_cast<std::size_t>(unit)];
            if (!share.has_row) continue;
            share.held = 0;
            share.has_row = false;
            all.push_back({.subject = bucket.subject, .unit = unit, .share = bucket.used(unit)});
        }
    });
    in_parts(std::span<ShareRow>(all), [&](std::span<ShareRow> part) {
        in_tx("return", [&](store::Tx& tx) -> Result<bool> {
            leave_rows(tx, node_->id(), part);
            return true;
        });
    });
}

void Keeper::return_days() {
    std::int64_t today = day_of(clock_.now());
    std::vector<DayWant> unused;
    table_.each([&](Bucket& bucket) {
        if (!bucket.extra || bucket.extra->day.day != today || bucket.extra->day.left == 0) return;
        unused.push_back({.subject = bucket.subject, .day = today, .left = bucket.extra->day.left});
        bucket.extra->day.taken -= bucket.extra->day.left;
        bucket.extra->day.left = 0;
    });
    std::ranges::sort(unused, [](const DayWant& a, const DayWant& b) { return a.subject < b.subject; });
    in_parts(std::span<DayWant>(unused), [&](std::span<DayWant> part) {
        in_tx("return days", [&](store::Tx& tx) -> Result<bool> {
            give_back_blocks(tx, part);
            return true;
        });
    });
}

}  // namespace nebula::ratelimit
