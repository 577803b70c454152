#pragma once
// Signed usage receipts: one JSON object per request that a customer can keep and check offline, without us.
// Private to billing but for its wire format, which docs/guide/receipts.md states:
//   {"receipt":{…},"public_key":"<hex>","signature":"<hex of Ed25519 over the exact bytes of the receipt
//   member>"}
// A record's digest is that of its fields in a fixed order. Cache writes, reasoning tokens, units and their
// prices came later and are zero for most: those that are not follow as name and value, so that older records
// keep their digests. A receipt shows them under these names, and none that is zero. The receipt has every
// field of the record, its digest, the posting that charged it with all that its hash covers, and the digests
// of all records that the posting charged. The key pair is made at first start and kept in the table
// server_keys.

#include <string>

#include "base/crypto.hpp"
#include "billing/billing.hpp"
#include "store/store.hpp"

namespace nebula::billing::ledger {

/// The digest of one usage record, as the posting that charges it seals it.
Sha256 record_digest(const UsageRecord& record, const Settled& settled);
Result<std::string> make_receipt(store::Tx& tx, AccountId account, RequestId request);
std::string public_key(store::Tx& tx);
/// Makes the key pair if there is none.
void ensure_key(store::Tx& tx, const Clock& clock);
/// Signature, digest and arithmetic of a receipt's text; problems in words. Needs no database.
std::vector<std::string> check_receipt(std::string_view text);

}  // namespace nebula::billing::ledger
