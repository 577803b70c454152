#pragma once
// Moves amounts between this node's slices and the pool, where several processes share the database. One
// thread; requests for several purses go into one transaction. See the README for the rule. Private to
// billing.

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "billing/admission/purse.hpp"
#include "billing/admission/slices.hpp"
#include "store/node.hpp"
#include "store/notices.hpp"
#include "store/store.hpp"

namespace nebula::billing {

/// Thread-safe.
class Slicer final : public Refiller {
   public:
    Slicer(store::Db& db, const Clock& clock, metrics::Registry& metrics, store::Node& node,
           store::Notices* notices);
    ~Slicer() override { stop(false); }
    void start();
    /// `returns`: everything free goes back first (as long as the database answers).
    void stop(bool returns);

    void attend(Purse& purse) override;
    /// Another node wants some of it.
    void recall(const std::shared_ptr<Purse>& purse);
    /// Some of it may be free now.
    void look_again(Purse& purse) {
        if (purse.has_waiters()) attend(purse);
    }

   private:
    using PursePtr = std::shared_ptr<Purse>;
    /// One purse in a transaction.
    struct Job {
        PursePtr purse;
        Purse::View view;
        bool is_returning = false;
        std::int64_t delta = 0;
        std::int64_t pool = 0;  // afterwards
        bool is_all = false;    // nothing is left elsewhere
        bool is_dry = false;    // others have what is wanted
    };
    struct Needy {
        PursePtr purse;
        Ticks recalled_at = Ticks::min();
    };
    struct Scarce {
        PursePtr purse;
        Ticks until;
    };
    struct Leased {
        PursePtr purse;
        std::uint64_t activity;
        Ticks since;
    };
    enum class Outcome { committed, failed, unknown };

    void run();
    void work(std::vector<PursePtr> purses, bool returns);
    void refuse(const std::vector<PursePtr>& purses);
    Outcome transact(std::vector<Job>& jobs);
    /// In the transaction: how much to move.
    void decide(store::Tx& tx, Job& job, Ticks now);
    void finish(Job& job, bool is_committed);
    /// False while it is not known what became of the last transaction.
    bool resolve_doubt();
    void tick();
    void sweep();
    std::vector<PursePtr> leased() const;

    store::Db& db_;
    const Clock& clock_;
    store::Node& node_;
    store::Notices* notices_;
    metrics::Counter& moves_;
    metrics::Counter& recalls_;
    metrics::Counter& failures_;

    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<PursePtr> queue_;
    std::vector<PursePtr> recalled_;
    bool is_stopping_ = false;
    bool has_ended_ = false;
    std::thread thread_;

    // The thread's own.
    std::unordered_map<Purse*, Needy> needy_;
    std::unordered_map<Purse*, Scarce> scarce_;
    std::unordered_map<Purse*, Leased> leased_;
    std::vector<Job> doubt_;
    std::int64_t change_ = 0;
    Ticks swept_at_{};
};

}  // namespace nebula::billing
