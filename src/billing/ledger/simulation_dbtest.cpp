// A seeded simulation: customers spend, pay, are given and lose credits, messages come twice and in any
// order, months pass, commits fail before and after the fact, the process dies with records in its queue. A
// plain model says what every ledger account must hold; it must be right to the nano-dollar, and verify must
// find nothing.
//
// NEBULA_SIMULATION_SEEDS says how many seeds run (1 unless set); a failure names its seed.

#include <gmock/gmock.h>

#include <cstdlib>
#include <random>
#include <thread>

#include "billing/ledger/ledger_fixture.hpp"

namespace nebula::billing::ledger {
namespace {

using std::int64_t;

/// The books of one customer by the plainest rules there are: lots are spent one by one.
class Model {
   public:
    struct Lot {
        int64_t left;
        std::optional<Time> expires_at;
        int64_t number;  // the older of two that expire together goes first
    };
    Balances books;
    std::vector<Lot> lots;

    int64_t paid() { return books["customer_credits"]; }
    int64_t bonus() { return books["customer_bonus"]; }
    int64_t debt() { return -books["customer_debt"]; }
    int64_t available() { return paid() + bonus() - debt(); }

    void transfer(const char* from, const char* to, int64_t amount) {
        books[from] -= amount;
        books[to] += amount;
    }
    void order() {
        std::ranges::sort(lots, {}, [](const Lot& lot) {
            return std::pair(lot.expires_at.value_or(Time::max()), lot.number);
        });
    }
    /// Out of the bonus as far as it goes, the earliest to expire first, then out of what was paid.
    void spend(const char* to, int64_t amount) {
        order();
        for (Lot& lot : lots) {
            int64_t part = std::min(lot.left, amount);
            lot.left -= part;
            amount -= part;
            transfer("customer_bonus", to, part);
        }
        transfer("customer_credits", to, amount);
    }
    void receive(const char* from, const char* to, int64_t amount, std::optional<Time> expires_at = {}) {
        int64_t back = std::min(amount, debt());
        transfer(from, "customer_debt", back);
        transfer(from, to, amount - back);
        if (std::string_view(to) == "customer_bonus" && amount > back)
            lots.push_back({amount - back, expires_at, static_cast<int64_t>(lots.size())});
    }
    void take(const char* to, int64_t amount) {
        int64_t taken = std::min(amount, std::max<int64_t>(0, available()));
        spend(to, taken);
        transfer("customer_debt", to, amount - taken);
    }
    void expire(Time now) {
        int64_t may = std::max<int64_t>(0, available());
        order();
        for (Lot& lot : lots) {
            if (lot.expires_at.value_or(Time::max()) > now) break;
            int64_t part = std::min(lot.left, may);
            lot.left -= part;
            may -= part;
            transfer("customer_bonus", "promotions", part);
        }
    }
    /// False when it must be refused.
    bool move(const Movement& m) {
        int64_t amount = m.amount.value, tax = m.tax.value;
        const char* revenue = m.product == "gpu" ? "revenue_compute" : "revenue";
        switch (m.kind) {
            case MovementKind::grant:
                if (amount < 0 && -amount > available()) return false;
                if (amount < 0)
                    spend("grants", -amount);
                else
                    receive("grants", "customer_credits", amount);
                return true;
            case MovementKind::payment:
                receive("payments", "customer_credits", amount);
                transfer("payments", "tax", tax);
                return true;
            case MovementKind::bonus:
            case MovementKind::promotion:
                receive("promotions", "customer_bonus", amount, m.expires_at);
                return true;
            case MovementKind::plan_fee:
            case MovementKind::charge:
                if (amount > available()) return false;
                spend(m.kind == MovementKind::plan_fee ? "revenue_plans" : revenue, amount);
                return true;
            case MovementKind::refund:
            case MovementKind::dispute:
                take("refunds", amount);
                transfer("tax", "refunds", tax);
                return true;
            case MovementKind::dispute_won:
                receive("refunds", "customer_credits", amount);
                transfer("refunds", "tax", tax);
                return true;
            case MovementKind::correction:
                if (amount < 0)
                    take(revenue, -amount);
                else
                    receive(revenue, "customer_credits", amount);
                return true;
        }
        return false;
    }
};

struct Customer {
    AccountId id;
    Model model;
    /// Settled but perhaps not committed yet.
    struct Pending {
        RequestId request;
        int64_t charge;
    };
    std::vector<Pending> pending;
    int64_t pending_sum = 0;
    std::optional<UsageRecord> last;
    std::vector<Movement> done;    // may come again
    std::vector<Movement> outbox;  // messages on their way, in any order

    int64_t available() { return model.available() - pending_sum; }
};

class Simulation : public LedgerFixture {
   public:
    void run(unsigned seed, int steps) {
        random_.seed(seed);
        seed_ = seed;
        settings.durability = "relaxed";
        settings.commit_retry = std::chrono::milliseconds(20);
        flaky_ = std::make_unique<FlakyDb>(db(), metrics);
        customers_.clear();
        for (int i = 0; i < 4; ++i) {
            customers_.emplace_back();
            customers_.back().id =
                new_account("customer " + std::to_string(i) + " of " + std::to_string(seed));
        }
        open();
        for (int step = 1; step <= steps && !HasFailure(); ++step) {
            SCOPED_TRACE("step " + std::to_string(step));
            one_step();
            if (step % 50 == 0) compare();
            if (step % 2'500 == 0) expect_clean();
        }
        commit_all();
        compare();
        expect_clean();
        billing.reset();
        flaky_.reset();
    }

   private:
    int64_t pick(int64_t from, int64_t to) {
        return std::uniform_int_distribution<int64_t>(from, to)(random_);
    }
    Customer& anyone() { return customers_[static_cast<std::size_t>(pick(0, 3))]; }

    void open() {
        billing.reset();
        billing = std::make_unique<Billing>(settings, *flaky_, fake, metrics);
        billing->start();
    }

    void one_step() {
        Customer& who = anyone();
        int64_t dice = pick(1, 1000);
        if (dice <= 720) return use(who);
        if (dice <= 730) return use_again(who);
        if (dice <= 800) return deliver(who, invent(who));
        if (dice <= 860) return post_messages(who);
        if (dice <= 930) return deliver_message(who);
        if (dice <= 950) return repeat(who);
        if (dice <= 980) return pass_time();
        if (dice <= 995) return fail_commit(who);
        crash();
    }

    void use(Customer& who) {
        int64_t price = pick(0, 20) == 0 ? 0 : pick(1, 5'000);
        bool is_apart = price >= 40 && pick(0, 3) == 0;
        UsageRecord made = (is_apart ? charged_apart(who.id, price) : charged(who.id, price)).record;
        made.model = pick(0, 1) == 0 ? "small" : "large";
        Hold hold;
        if (pick(0, 3) > 0) {  // else everything comes from the balance
            auto admitted = admit(who.id, pick(1, 8'000));
            ASSERT_EQ(admitted.has_value(), who.available() > 0);
            if (!admitted) return;
            hold = std::move(*admitted);
        }
        int64_t expected = std::min(price, std::max<int64_t>(0, who.available()));
        auto settled = settle(std::move(hold), made);
        ASSERT_TRUE(settled);
        EXPECT_EQ(settled->charge.value, expected);
        EXPECT_EQ(settled->written_off.value, price - expected);
        who.pending.push_back({made.id, expected});
        who.pending_sum += expected;
        who.last = made;
    }

    // The same record once more: charged once.
    void use_again(Customer& who) {
        if (!who.last) return;
        ASSERT_TRUE(settle(Hold{}, *who.last));
        commit_all();
    }

    Movement invent(Customer& who) {
        static constexpr MovementKind kinds[] = {
            MovementKind::grant,  MovementKind::grant,  MovementKind::payment,   MovementKind::payment,
            MovementKind::bonus,  MovementKind::bonus,  MovementKind::promotion, MovementKind::plan_fee,
            MovementKind::charge, MovementKind::refund, MovementKind::dispute,   MovementKind::correction};
        Movement made = movement(kinds[pick(0, 11)], pick(1, 60'000),
                                 "s" + std::to_string(seed_) + "-" + std::to_string(++messages_));
        made.account = who.id;
        bool may_take = made.kind == MovementKind::grant || made.kind == MovementKind::correction;
        if (may_take && pick(0, 2) == 0) made.amount = Nanos{-made.amount.value};
        bool is_taxed = made.kind == MovementKind::payment || made.kind == MovementKind::refund;
        if (is_taxed && pick(0, 1) == 0) made.tax = Nanos{pick(1, 5'000)};
        bool is_bonus = made.kind == MovementKind::bonus || made.kind == MovementKind::promotion;
        if (is_bonus && pick(0, 3) > 0) made.expires_at = fake.now() + std::chrono::hours(pick(1, 24 * 60));
        if (made.kind == MovementKind::charge && pick(0, 1) == 0) made.product = "gpu";
        return made;
    }

    // What the payment provider tells us comes in any order and more than once.
    void post_messages(Customer& who) {
        if (who.outbox.size() > 20) return;
        Movement lost = invent(who);
        lost.kind = MovementKind::dispute;
        lost.amount = Nanos{pick(1, 60'000)};
        lost.product.clear();
        lost.expires_at.reset();
        Movement won = lost;
        won.kind = MovementKind::dispute_won;
        won.key += "-won";
        who.outbox.push_back(invent(who));
        who.outbox.push_back(lost);
        if (pick(0, 1) == 0) who.outbox.push_back(won);
    }
    void deliver_message(Customer& who) {
        if (who.outbox.empty()) return;
        auto at = who.outbox.begin() + pick(0, static_cast<int64_t>(who.outbox.size()) - 1);
        Movement message = *at;
        if (pick(0, 2) > 0) who.outbox.erase(at);
        deliver(who, message);
    }
    void repeat(Customer& who) {
        if (who.done.empty()) return;
        Movement again =
            who.done[static_cast<std::size_t>(pick(0, static_cast<int64_t>(who.done.size()) - 1))];
        if (pick(0, 1) == 0) return deliver(who, again);
        again.amount += Nanos{1};
        if (again.amount == Nanos{}) return;
        auto refused = sync_wait(billing->move(again));
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, Code::conflict);
    }

    void deliver(Customer& who, const Movement& message) {
        commit_all();  // how a charge is split depends on what was posted before it
        bool is_replay =
            std::ranges::any_of(who.done, [&](const Movement& m) { return m.key == message.key; });
        Model model = who.model;
        bool is_possible = is_replay || model.move(message);
        auto moved = sync_wait(billing->move(message));
        // A provider that got no answer says it again.
        for (int i = 0; i < 5 && !moved && moved.error().code == Code::internal; ++i)
            moved = sync_wait(billing->move(message));
        ASSERT_EQ(moved.has_value(), is_possible)
            << movement_name(message.kind) << " " << message.amount.value << " of " << who.available() << ": "
            << (moved ? "" : moved.error().message);
        if (!is_possible || is_replay) return;
        who.model = std::move(model);
        who.done.push_back(message);
    }

    void pass_time() {
        fake.advance(std::chrono::minutes(pick(1, pick(0, 9) == 0 ? 31 * 24 * 60 : 600)));
        commit_all();
        auto expired = billing->expire_bonuses();
        ASSERT_TRUE(expired);
        for (Customer& who : customers_) who.model.expire(fake.now());
    }

    // A COMMIT without an answer, before or after the fact, of records or of a movement.
    void fail_commit(Customer& who) {
        (pick(0, 1) == 0 ? flaky_->fail_at_commit : flaky_->fail_after_commit) = 1;
        if (pick(0, 1) == 0)
            use(who);
        else
            deliver(who, invent(who));
        commit_all();
        flaky_->fail_at_commit = 0;
        flaky_->fail_after_commit = 0;
    }

    // The process dies with records in its queue; perhaps the last batch got through.
    void crash() {
        flaky_->cut_off = static_cast<int>(pick(0, 1));
        if (pick(0, 1) == 0) flaky_->fail_after_commit = 1;
        for (int i = 0; i < 5; ++i) use(anyone());
        billing.reset();
        flaky_->cut_off = -1;
        flaky_->fail_after_commit = 0;
        for (Customer& who : customers_) {
            std::erase_if(who.pending,
                          [&](const Customer::Pending& one) { return !is_recorded(who.id, one); });
            apply(who);
            who.last.reset();  // perhaps lost, then it would be new
        }
        open();
    }
    bool is_recorded(AccountId of, const Customer::Pending& one) {
        static constexpr store::Sql sql{"test.recorded",
                                        "SELECT COALESCE((SELECT charge FROM usage_records"
                                        " WHERE account_id = $1 AND id = $2), -1)"};
        int64_t found = number(sql, {of.db(), one.request.db()});
        EXPECT_TRUE(found == -1 || found == one.charge);
        return found >= 0;
    }

    void apply(Customer& who) {
        for (const Customer::Pending& one : who.pending) who.model.spend("revenue", one.charge);
        who.pending.clear();
        who.pending_sum = 0;
    }
    void commit_all() {
        while (billing->queued() > 0) std::this_thread::yield();
        for (Customer& who : customers_) apply(who);
    }

    void compare() {
        commit_all();
        for (Customer& who : customers_) {
            Balances expected = who.model.books;
            std::erase_if(expected, [](const auto& entry) { return entry.second == 0; });
            EXPECT_EQ(balances(who.id), expected);
            Balance balance = sync_wait(billing->balance(who.id)).value();
            EXPECT_EQ(balance.available.value, who.available());
            EXPECT_EQ(balance.held.value, 0);
            EXPECT_EQ(balance.debt.value, who.model.debt());
        }
    }
    void expect_clean() {
        auto report = Billing::verify(db()).value();
        EXPECT_THAT(report.problems, testing::ElementsAre());
    }

    std::mt19937_64 random_;
    unsigned seed_ = 0;
    int64_t messages_ = 0;
    std::vector<Customer> customers_;
    std::unique_ptr<FlakyDb> flaky_;
};
NEBULA_BOTH_ENGINES(Simulation);

TEST_P(Simulation, AgreesWithAPlainModelToTheNanoDollar) {
    const char* asked = std::getenv("NEBULA_SIMULATION_SEEDS");
    int seeds = asked != nullptr ? std::max(1, std::atoi(asked)) : 1;
    bool is_sqlite = db().engine() == store::Engine::sqlite;
    for (int seed = 1; seed <= seeds && !HasFailure(); ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        run(static_cast<unsigned>(seed), is_sqlite ? 10'000 : 1'000);
    }
}

}  // namespace
}  // namespace nebula::billing::ledger
