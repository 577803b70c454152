#pragma once
// Shared by the ledger's database tests: movements and batches without a Billing around them.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "billing/billing_fixture.hpp"
#include "billing/ledger/ledger.hpp"
#include "billing/store.hpp"

namespace nebula::billing::ledger {

using Balances = std::map<std::string, std::int64_t>;

class LedgerFixture : public BillingFixture {
   public:
    template <class F>
    auto in_tx(F work) {
        return db().in_tx_blocking(std::move(work));
    }

    Movement movement(MovementKind kind, std::int64_t amount, std::string key = "") {
        Movement made;
        made.account = account;
        made.kind = kind;
        made.amount = Nanos{amount};
        made.key = key.empty() ? "key-" + std::to_string(++keys_) : std::move(key);
        return made;
    }

    /// As Billing::move() does it where all of the pool may be taken.
    Result<Moved> move(const Movement& one, std::optional<Nanos> takeable = {}) {
        auto work = [&](store::Tx& tx) -> Result<Moved> {
            if (auto valid = check(one); !valid) return fail(std::move(valid.error()));
            Moved moved;
            Earlier before = earlier(tx, one, &moved);
            if (before == Earlier::same) return moved;
            if (before == Earlier::other) return fail(Code::conflict, "this key was used for something else");
            auto funds = lock_funds(tx, one.account, fake);
            if (!funds) return fail(Code::not_found, "account not found");
            return post(tx, *funds, one, PostingId::next(fake), takeable.value_or(funds->pool()), fake.now());
        };
        return in_tx(work);
    }

    Funds funds(AccountId of) {
        auto work = [&](store::Tx& tx) -> Result<Funds> { return read_funds(tx, of).value(); };
        return in_tx(work).value();
    }

    /// Every ledger account of the customer that is not zero.
    Balances balances(AccountId of) {
        static constexpr store::Sql sql{"test.balances",
                                        "SELECT kind, balance FROM ledger_accounts WHERE account_id = $1"};
        Balances found;
        auto work = [&](store::Tx& tx) -> Result<bool> {
            tx.query(sql, {of.db()}, [&](const store::Row& row) {
                if (row.i64(1) != 0) found[std::string(row.text(0))] = row.i64(1);
            });
            return true;
        };
        (void)in_tx(work).value();
        return found;
    }

    struct Charged {
        UsageRecord record;
        Settled settled;
    };
    Charged charged(AccountId of, std::int64_t nanos, std::int64_t written_off = 0) {
        UsageRecord made;
        made.id = RequestId::next(fake);
        made.account = of;
        made.key = KeyId{5};
        made.model = "qwen3:latest";
        made.provider = "vllm-1";
        made.usage = {.input = 0, .cached = 0, .output = nanos + written_off};
        made.prices = {Nanos{1'000'000}, Nanos{1'000'000}, Nanos{1'000'000}};
        made.started_at = fake.now();
        return {made, {Nanos{nanos}, Nanos{written_off}}};
    }

    /// A record with everything that can be priced apart; its price is `nanos` (at least 40).
    Charged charged_apart(AccountId of, std::int64_t nanos) {
        Charged made = charged(of, nanos);
        UsageRecord& r = made.record;
        r.usage = {
            .input = 10, .cached = 2, .output = nanos - 39, .cache_write = 3, .reasoning = 1, .units = 2};
        r.unit = "image";
        r.byok_ppm = 50'000;
        r.prices.cache_write_per_m = Nanos{2'000'000};  // 7 + 3 * 2
        r.prices.reasoning_per_m = Nanos{3'000'000};    // 3 instead of 1
        r.prices.unit = Nanos{12};                      // 24
        return made;
    }

    /// One batch as the committer plans it: one posting per account, with a buffer that remembers those
    /// before. False when a record was there before, or the transaction is not to commit.
    bool write(store::Db& to, const std::vector<Charged>& records, Nanos unsliced = {}) {
        std::vector<std::unique_ptr<Entry>> entries;
        std::map<AccountId, std::unique_ptr<AccountState>> states;
        std::map<AccountId, std::size_t> planned;
        BatchBuffer& buffer = buffer_;
        buffer.postings.clear();
        std::vector<Entry*> batch;
        for (const Charged& one : records) {
            Entry& entry = *entries.emplace_back(std::make_unique<Entry>(one.record));
            batch.push_back(&entry);
            entry.settled = one.settled;
            AccountId of = one.record.account;
            auto& state = states[of];
            if (!state) state = std::make_unique<AccountState>(of, shared_);
            entry.state = state.get();
            if (one.settled.charge == Nanos{}) continue;
            auto [at, is_new] = planned.try_emplace(of, buffer.postings.size());
            if (is_new) buffer.postings.push_back({PostingId::next(fake), state.get(), {}, unsliced});
            buffer.postings[at->second].amount += one.settled.charge;
            entry.posting = buffer.postings[at->second].id;
        }
        auto work = [&](store::Tx& tx) -> Result<bool> {
            if (!insert_batch(tx, batch, buffer, fake.now())) return fail(Code::conflict, "recorded before");
            if (!commits) return fail(Code::internal, "rolled back");
            return true;
        };
        return to.in_tx_blocking(work).has_value();
    }
    bool write(const std::vector<Charged>& records) { return write(db(), records); }

    FakeClock fake;
    bool commits = true;

   private:
    BatchBuffer buffer_;
    int keys_ = 0;
    Shared shared_;
};

}  // namespace nebula::billing::ledger
