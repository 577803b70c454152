#pragma once
// What Billing is made of. Private to billing.

#include <atomic>
#include <memory>
#include <vector>

#include "billing/account_state.hpp"
#include "billing/admission/allowances.hpp"
#include "billing/admission/slicer.hpp"
#include "billing/billing.hpp"
#include "billing/committer.hpp"

namespace nebula::billing {

/// Budgets of a key and quota of a plan that a hold has taken as well. Gives them back when destroyed.
struct HoldParts {
    HoldParts() = default;
    HoldParts(const HoldParts&) = delete;
    HoldParts& operator=(const HoldParts&) = delete;
    ~HoldParts() {
        release_quota();
        for (auto part = budgets.rbegin(); part != budgets.rend(); ++part) end(*part);
    }
    void release_quota() {
        end(quota_output);
        end(quota_input);
    }
    /// No budget holds more than this.
    void lower_budgets(std::int64_t to);

    std::vector<PursePart> budgets;
    PursePart quota_input;
    PursePart quota_output;
    bool may_overrun = true;  // credits pay for what the quota does not

   private:
    static void end(PursePart& part) {
        if (part.purse) part.purse->replace(std::exchange(part.amount, 0), 0);
    }
};

struct Billing::Impl {
    /// Between the notices of other nodes, which may come until Notices and Node stop, and a Billing that may
    /// be gone by then.
    struct Link {
        std::mutex mutex;
        Impl* billing = nullptr;
    };
    Impl(const BillingSettings& given, store::Db& database, const Clock& source, metrics::Registry& metrics,
         store::Node* its_node, store::Notices* its_notices);
    void connect();
    void disconnect();

    /// May admit and commit: always where one process owns the database.
    bool is_open() const { return node == nullptr || node->is_live(); }
    std::shared_ptr<Purse> find_purse(const PurseId& id);
    void forget_all();

    /// Reads the account's balance when this process has not yet.
    Async<Result<AccountState*>> load(AccountId account);
    Async<Result<std::shared_ptr<const Terms>>> load_terms(AccountState& state);
    /// The purses, as of now. Reads what was used when this process has not yet.
    Async<Result<std::vector<std::shared_ptr<Purse>>>> load_purses(std::vector<Allowance> wanted);
    /// Those in memory already; empty when some is not.
    std::vector<std::shared_ptr<Purse>> find_purses(const std::vector<Allowance>& wanted);

    /// All of `most`, waiting in turn, or what there is if that is at least `least`.
    Async<Result<std::int64_t>> take(Purse& purse, std::int64_t most, std::int64_t least, Ticks deadline);
    Async<Result<std::int64_t>> await(PurseWaiter& waiter);
    /// What there is of `most` now, which may be nothing; asks the pool but waits for nobody.
    Async<Result<std::int64_t>> take_what_is_there(Purse& purse, std::int64_t most);
    bool try_parts(AccountState& state, const HoldRequest& request, Time now, Nanos& amount,
                   std::unique_ptr<HoldParts>& parts);
    Async<Result<Nanos>> take_parts(AccountState& state, HoldRequest request, Ticks deadline,
                                    HoldParts& parts);
    Async<Result<Nanos>> take_quota(AccountState& state, HoldRequest request, Nanos worst, Ticks deadline,
                                    HoldParts& parts);
    Async<Result<void>> wait_for_quota(HoldRequest request, Ticks deadline, HoldParts& parts);
    /// Turns what is held into the entry's charge.
    void charge(AccountState& state, Nanos held, HoldParts* parts, Entry& entry);
    Nanos remaining(const AccountState& state) const;

    /// Sets aside what a movement takes.
    Async<Result<std::int64_t>> set_aside(AccountState& state, const Movement& movement);
    Result<Moved> post(store::Tx& tx, const Movement& movement, PostingId id, std::int64_t aside,
                       const std::function<Result<void>(store::Tx&)>& also, ledger::Earlier& earlier);
    /// For a movement whose transaction ended in an error: whether it happened all the same.
    Async<bool> is_committed_after_all(PostingId posting, bool& is_known);
    Async<Result<Balance>> balance_of(AccountState& state);
    Result<Nanos> expire_bonus(AccountId account);

    const BillingSettings settings;
    const bool is_strict;
    store::Db& db;
    const Clock& clock;
    store::Node* const node;  // of several that share the database, else null
    store::Notices* const notices;
    std::shared_ptr<Shared> shared;
    StateMap states;
    Allowances allowances;
    std::unique_ptr<Slicer> slicer;  // with node
    Committer committer;
    std::shared_ptr<Link> link = std::make_shared<Link>();
    LoadTerms terms_loader;
    std::atomic<bool> has_terms{false};
    std::atomic<bool> is_stopping{false};
};

/// "the server is stopping"
Error stopping();

}  // namespace nebula::billing
