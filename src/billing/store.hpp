#pragma once
// Every SQL statement of billing, as functions of a transaction. Private to billing.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "billing/account_state.hpp"
#include "billing/billing.hpp"
#include "billing/ledger/chain.hpp"
#include "store/store.hpp"

namespace nebula::billing {

bool posting_exists(store::Tx& tx, PostingId posting);

/// A charged record on its way into the database; the list link is the committer's.
struct Entry {
    explicit Entry(UsageRecord of) : record(std::move(of)) {}
    UsageRecord record;
    Settled settled;
    AccountState* state = nullptr;
    std::vector<PursePart> parts;  // of budgets and quotas, what is used up
    PostingId posting;             // empty until planned, and when the charge is 0
    bool is_awaited = false;       // strict: a coroutine owns it; else it is on the heap
    Entry* next = nullptr;
    Completion<Result<Settled>> done;
};

/// Sum of one account's charges in a transaction.
struct UsagePosting {
    PostingId id;
    const AccountState* state = nullptr;
    Nanos amount;
    Nanos unsliced = {};  // of it, what this node had leased: no longer sliced once it is spent
};
/// How the ledger of an account stands before, and then after, a batch.
struct Charged {
    std::int64_t account = 0;
    std::int64_t credits = 0, bonus = 0, revenue = 0;  // ledger accounts
    Nanos paid_left, bonus_left;
    Nanos unsliced;
    ledger::ChainEnd end;
    bool is_known = false;
};
/// Reused from batch to batch, so that nothing is allocated per record.
struct BatchBuffer {
    std::vector<UsagePosting> postings;  // the committer's plan: at most a few per account
    std::vector<store::Param> values;
    // insert_batch()'s own.
    std::vector<const Entry*> sorted;
    std::vector<ledger::Posting> sealed;
    std::vector<char> digests;
    std::vector<std::string_view> digests_of;  // of each of `postings`, parts of `digests`
    /// SQLite: accounts as they stood after their last batch, by id. May be out of date or never have come
    /// to be: who moves an account's chain from where it should be finds out.
    std::unordered_map<std::int64_t, Charged> remembered;
};
/// Writes all in the given transaction: locks the accounts' chains in order of their ids, inserts the
/// records, charges bonus first, chains the postings, adds to the hourly sums. False when some id is in the
/// table already: roll back then. Throws DbError when the ledger does not have what was charged.
bool insert_batch(store::Tx& tx, std::span<Entry* const> entries, BatchBuffer& buffer, Time now);

/// The columns that most records leave at zero; selected in this order with USAGE_APART and read from `at`
/// on.
#define USAGE_APART                                                                \
    " cache_write_tokens, reasoning_tokens, units, unit, price_cache_write_per_m," \
    " price_reasoning_per_m, price_unit, byok_ppm"
void read_apart(const store::Row& row, int at, UsageRecord& record);
inline bool has_apart(const UsageRecord& r) {
    return (r.usage.cache_write | r.usage.reasoning | r.usage.units | r.prices.cache_write_per_m.value |
            r.prices.reasoning_per_m.value | r.prices.unit.value) != 0 ||
           !r.unit.empty() || r.is_byok();
}

/// One row of usage_hours without its key, in the order of its columns.
struct HourSums {
    static constexpr std::size_t usual = 8, all = 11;  // columns: the further ones are mostly zero
    std::array<std::int64_t, all> values{};
    void add(const TokenUsage& usage, const Settled& settled) {
        const std::array<std::int64_t, all> added{1,
                                                  usage.input,
                                                  usage.cached,
                                                  usage.output,
                                                  settled.quota_input,
                                                  settled.quota_output,
                                                  settled.charge.value,
                                                  settled.written_off.value,
                                                  usage.cache_write,
                                                  usage.reasoning,
                                                  usage.units};
        for (std::size_t i = 0; i < all; ++i) values[i] += added[i];
    }
    bool operator==(const HourSums&) const = default;
};

struct Recorded {
    PostingId posting;
    Settled settled;
};
std::optional<Recorded> recorded_usage(store::Tx& tx, AccountId account, RequestId id);
std::vector<UsageRecord> list_usage(store::Tx& tx, AccountId account, std::int64_t limit);

}  // namespace nebula::billing
