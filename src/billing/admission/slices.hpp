#pragma once
// Slices in the database: what each node has leased of a purse. Private to billing.
//
// Locks are taken in this order: the node's row (confirm), chain rows of accounts, allowances (each in order
// of PurseId), slices.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "billing/admission/purse.hpp"
#include "billing/ledger/ledger.hpp"
#include "store/notices.hpp"
#include "store/store.hpp"

namespace nebula::billing {

/// A charge that a slice no longer covers, nor the pool.
class SliceLost : public store::DbError {
   public:
    using DbError::DbError;
};

/// As a notice's payload: "credits 42 0".
std::string purse_text(const PurseId& id);
std::optional<PurseId> parse_purse(std::string_view text);

/// One purse's rows, the pool's locked until the transaction ends.
struct SliceRows {
    std::int64_t pool = 0;               // neither used nor leased; may be negative
    std::int64_t mine = 0;               // this node's slice
    std::int64_t others = 0;             // leased to other nodes
    std::optional<ledger::Funds> funds;  // of credits
};
/// `limit` of a budget or quota.
SliceRows lock_slices(store::Tx& tx, const PurseId& id, std::int64_t limit, std::int64_t node,
                      const Clock& clock);
/// Moves `delta` from the pool to the node's slice (negative: back). `change` marks the row.
void move_slice(store::Tx& tx, const PurseId& id, SliceRows& rows, std::int64_t delta, std::int64_t node,
                std::int64_t change);
/// In a transaction that took the chain's lock: the slice's part of what leaves it.
void take_from_slice(store::Tx& tx, const PurseId& id, std::int64_t amount, std::int64_t node);
/// Whether the node's row carries this mark.
bool has_change(store::Tx& tx, const PurseId& id, std::int64_t node, std::int64_t change);
/// Empty slices of the node.
void purge_slices(store::Tx& tx, std::int64_t node);
/// All of them are set to the pool; says so in notices (which may be null).
void return_slices(store::Tx& tx, std::int64_t node, store::Notices* notices);
/// "funds" for credits, "allowance" for the others: somebody who waits may look again.
void publish_free(store::Tx& tx, store::Notices& notices, const PurseId& id);

/// Takes charges (in order of PurseId) out of the node's slices: in the transaction that commits them, after
/// insert_batch() and add_used(), which take them out of what is leased. `is_careful`: one by one, from the
/// pool where the slice is gone, else SliceLost.
void charge_slices(store::Tx& tx, std::span<const PursePart> charges, std::int64_t node, bool is_careful,
                   const Clock& clock, std::vector<store::Param>& values);

}  // namespace nebula::billing
