#pragma once
// Shares of limits among nodes: who may have how much, and the table rate_shares.

#include <span>
#include <vector>

#include "ratelimit/bucket.hpp"

namespace nebula::ratelimit {

/// What a node whose demand is `mine` is entitled to: small demands are met whole, large ones get equal parts
/// of what is left; when all are met, the rest is spread evenly. Rounded up, so that the parts use the limit
/// up; the pool decides who gets the odd one.
std::int64_t fair_share(std::int64_t limit, std::int64_t mine, std::span<const std::int64_t> others);

struct ShareRow {
    Subject subject;
    Unit unit;
    std::int64_t node = 0;
    std::int64_t share = 0;
    std::int64_t demand = 0;  // 0 for nodes that are gone
    bool is_live = true;
};

/// All rows of one limit, as one node sees them.
struct Holdings {
    std::int64_t mine = 0;
    std::int64_t others = 0;       // of dead nodes too: what they admitted still counts
    std::int64_t others_live = 0;  // what may be called back
    std::int64_t others_demand = 0;
    std::vector<std::int64_t> demands;  // of the others

    Holdings(std::span<const ShareRow> rows, Subject subject, Unit unit, std::int64_t node);
    bool is_contended(std::int64_t limit, std::int64_t demand) const {
        return others_demand > 0 && demand + others_demand > limit;
    }
};

/// A wish of this node for one limit.
struct ShareWant {
    Subject subject;
    Unit unit;
    std::int64_t limit = 0;
    std::int64_t use = 0;  // of all requests that wait for it
    // Seen in the bucket:
    std::int64_t used = 0;
    std::int64_t demand = 0;
    bool is_shrinking = false;
    // The outcome:
    std::int64_t share = 0;
    std::int64_t pool = 0;
    bool is_short = false;
    bool is_contended = false;
    bool calls_back = false;   // others hold some, perhaps more than they need
    bool is_entitled = false;  // it has less than its fair share
};

/// Decides how much of the free pool the node takes: what it needs and some in advance; when demand
/// exceeds the limit no more than its fair share, or half of what lies free.
void decide(ShareWant& want, const Holdings& holdings);

/// Nobody else changes these subjects' rows upwards until the transaction ends. Sorted, against deadlocks.
void lock_subjects(store::Tx& tx, std::span<const Subject> sorted);
/// Rows that still count.
std::vector<ShareRow> read_rows(store::Tx& tx, std::span<const Subject> subjects);
void write_rows(store::Tx& tx, std::int64_t node, std::span<const ShareRow> rows);
/// Lowers shares; rows that were taken over meanwhile stay as they are.
void lower_rows(store::Tx& tx, std::int64_t node, std::span<const ShareRow> rows);
void delete_rows(store::Tx& tx, std::int64_t node, std::span<const ShareRow> rows);
/// Leaves them until what was admitted has left every window.
void leave_rows(store::Tx& tx, std::int64_t node, std::span<const ShareRow> rows);
/// All of a dead node.
void leave_all_rows(store::Tx& tx, std::int64_t node);
void delete_free_rows(store::Tx& tx);

inline bool operator<(Subject a, Subject b) { return a.kind != b.kind ? a.kind < b.kind : a.id < b.id; }
inline bool operator==(Subject a, Subject b) { return a.kind == b.kind && a.id == b.id; }

}  // namespace nebula::ratelimit
