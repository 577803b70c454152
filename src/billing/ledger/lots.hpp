#pragma once
// Bonus credits by expiry. Private to the ledger. Charges do not touch lots: what was spent is the difference
// between the lots and the bonus balance, taken from the lots that expire first.

#include <optional>

#include "billing/ledger/ledger.hpp"

namespace nebula::billing::ledger {

/// Before the bonus balance grows by `amount`.
void add_lot(store::Tx& tx, const Funds& funds, PostingId id, Nanos amount, std::optional<Time> expires_at);

/// A movement of kind expiry.
void post_expiry(store::Tx& tx, Funds& funds, Nanos amount, PostingId id, Time now);

}  // namespace nebula::billing::ledger
