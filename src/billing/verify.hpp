#pragma once
// Private to billing.

#include "billing/billing.hpp"
#include "store/store.hpp"

namespace nebula::billing {

/// Everything that does not add up, from the database alone. Linear in what is there; memory does not grow
/// with the number of postings or records.
VerifyReport verify_books(store::Tx& tx);
/// The same in a transaction that has done something already (PostgreSQL: without a snapshot of its own).
VerifyReport verify_books_here(store::Tx& tx);

}  // namespace nebula::billing
