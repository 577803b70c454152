#pragma once
// The ledger as functions of a transaction: no memory, no threads, no clock of its own. Everything that
// changes an account's money goes through post() or the usage batch, both under the lock of the account's
// chain row. Private to billing.
//
// Chart of accounts, one set per customer (so no row is shared by everybody and each customer's books balance
// by themselves); balance = credits - debits:
//   customer_credits  bought or granted credits (>= 0)      revenue, revenue_<product>, revenue_plans (>= 0)
//   customer_bonus    bonus credits, spent first (>= 0)     tax            owed to the state
//   customer_debt     what was taken but spent (<= 0)       payments       clearing: money at the provider
//   (<= 0) grants            given by the operator                 promotions     bonus expense (<= 0)
//   refunds           given back, disputed                  write_off      unused
// A movement is one or more postings under one idempotency key; a posting moves a positive amount from one
// ledger account to another, so each balances by construction. Postings of an account form a hash chain:
//   hash(n) = SHA-256(hash(n-1) || canonical fields of posting n || digest of the usage records it charges)
// so that changing, removing or inserting any past posting or charged record is found by `nebula ledger
// verify`.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/crypto.hpp"
#include "billing/billing.hpp"
#include "store/store.hpp"

namespace nebula::billing::ledger {

/// One account's money, its chain row locked until the transaction ends.
struct Funds {
    AccountId account;
    std::int64_t length = 0;  // postings in the chain
    Sha256 hash;              // of the last one
    Nanos paid;
    Nanos bonus;
    Nanos debt;    // >= 0: owed
    Nanos sliced;  // leased to nodes (0 where there is one process)
    /// Neither owed nor leased: what a node may still lease, or a movement may take.
    Nanos pool() const { return paid + bonus - debt - sliced; }
};

/// Makes the chain row and ledger accounts where they are missing, locks the chain row. Nothing when there is
/// no such account. Lock several accounts in ascending order of id only.
std::optional<Funds> lock_funds(store::Tx& tx, AccountId account, const Clock& clock);
/// Without a lock and without making anything; empty accounts give zeros.
std::optional<Funds> read_funds(store::Tx& tx, AccountId account);
/// Keeps Funds::sliced in the chain row; by `delta` (negative gives back). Never below zero nor above the
/// balance.
void change_sliced(store::Tx& tx, Funds& funds, Nanos delta);

/// Whether it lowers what the customer has.
bool takes(const Movement& movement);
/// Whether a movement with this key was posted before: same content, other content, or never. Expiry is no
/// content: a repeated message computes it anew. With `same`, *moved is the first answer with today's
/// balance.
enum class Earlier { none, same, other };
Earlier earlier(store::Tx& tx, const Movement& movement, Moved* moved);

/// Limits of one movement and of an account's money.
constexpr Nanos movement_max{1'000'000'000 * Nanos::per_credit};
constexpr Nanos balance_max{4'000'000'000 * Nanos::per_credit};
/// What is wrong with a movement by itself, whatever the account has; post() asks too.
Result<void> check(const Movement& movement);
/// As the ledger has it: available is the pool, held is what nodes lease.
Balance balance_of(const Funds& funds);

/// Posts a movement. `takeable`: of the pool, how much may be taken (one process: what its memory set aside
/// for this; several: funds.pool()). Takes bonus first, then paid, and for refund, dispute and negative
/// corrections the rest becomes debt. New money pays debt first. Errors as Billing::move.
Result<Moved> post(store::Tx& tx, Funds& funds, const Movement& movement, PostingId id, Nanos takeable,
                   Time now);

/// Bonus lots whose time has come: accounts that have any, and expiring what is left of them (not more than
/// `takeable`; the rest at the next call).
std::vector<AccountId> accounts_with_expired_bonus(store::Tx& tx, Time now, std::int64_t limit);
Nanos expire_bonus(store::Tx& tx, Funds& funds, PostingId id, Nanos takeable, Time now);

}  // namespace nebula::billing::ledger
