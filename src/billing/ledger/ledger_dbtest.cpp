// Rules of the ledger as tables: what each movement does to every ledger account, what it refuses and in
// which order.

#include <gmock/gmock.h>

#include <limits>
#include <sstream>

#include "billing/ledger/ledger_fixture.hpp"

namespace nebula::billing::ledger {
namespace {

using testing::HasSubstr;
using enum MovementKind;
constexpr MovementKind granted = MovementKind::grant;  // the fixture has a grant() of its own

constexpr MovementKind all_kinds[] = {granted, payment, bonus,   promotion,   plan_fee,
                                      charge,  refund,  dispute, dispute_won, correction};
constexpr std::int64_t most = movement_max.value;
constexpr std::int64_t int_max = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t int_min = std::numeric_limits<std::int64_t>::min();

/// What an account has before a case. Paid and bonus came by grant and bonus, the debt by a dispute.
struct Given {
    std::int64_t paid = 0, bonus = 0, debt = 0, sliced = 0;
};
constexpr Given nothing{}, paid{100}, mixed{100, 30}, owing{0, 0, 20}, behind{10, 0, 20},
    leased{100, 30, 0, 90}, gift{0, 30};

struct Case {
    MovementKind kind;
    std::int64_t amount;
    Given given;
    const char* expected;  // changes of ledger accounts, or the error's code
    std::int64_t tax = 0;
    const char* product = "";
};

std::string changes(const Balances& before, const Balances& after) {
    Balances all = after;
    for (const auto& [kind, balance] : before) all[kind] -= balance;
    std::string text;
    for (const auto& [kind, change] : all) {
        if (change == 0) continue;
        if (!text.empty()) text += ' ';
        text += kind + (change > 0 ? "+" : "") + std::to_string(change);
    }
    return text;
}

const char* code_text(Code code) {
    switch (code) {
        case Code::invalid_request:
            return "invalid";
        case Code::payment_required:
            return "payment_required";
        case Code::conflict:
            return "conflict";
        case Code::not_found:
            return "not_found";
        default:
            return "other";
    }
}

class LedgerRules : public LedgerFixture {
   public:
    void make(const Given& given) {
        account = new_account("case " + std::to_string(++cases_));
        if (given.paid > 0) ASSERT_TRUE(move(movement(granted, given.paid)));
        if (given.bonus > 0) ASSERT_TRUE(move(movement(bonus, given.bonus)));
        if (given.debt > 0) ASSERT_TRUE(move(movement(dispute, given.debt), Nanos{}));
        auto slice = [&](store::Tx& tx) -> Result<bool> {
            auto locked = lock_funds(tx, account, fake).value();
            change_sliced(tx, locked, Nanos{given.sliced});
            return true;
        };
        if (given.sliced > 0) ASSERT_TRUE(in_tx(slice));
    }
    std::string outcome(const Movement& one) {
        Balances before = balances(account);
        Funds old = funds(account);
        auto moved = move(one);
        Balances after = balances(account);
        if (!moved) {
            EXPECT_EQ(changes(before, after), "") << "a refused movement moves nothing";
            return code_text(moved.error().code);
        }
        // The answer says what the ledger says.
        Funds now = funds(account);
        EXPECT_EQ(moved->amount, now.paid + now.bonus - old.paid - old.bonus);
        EXPECT_EQ(moved->debt, now.debt - old.debt);
        EXPECT_EQ(moved->balance.available, now.pool());
        EXPECT_EQ(moved->balance.paid, now.paid);
        EXPECT_EQ(moved->balance.bonus, now.bonus);
        EXPECT_EQ(moved->balance.debt, now.debt);
        return changes(before, after);
    }

   private:
    int cases_ = 0;
};
NEBULA_BOTH_ENGINES(LedgerRules);

// Every kind of movement on every kind of account, to the last ledger account.
TEST_P(LedgerRules, EveryMovementMovesExactlyWhatItShould) {
    const Case cases[] = {
        {granted, 5, nothing, "customer_credits+5 grants-5"},
        {granted, -5, paid, "customer_credits-5 grants+5"},
        {granted, -100, paid, "customer_credits-100 grants+100"},
        {granted, -101, paid, "invalid"},
        {granted, -5, nothing, "invalid"},
        {granted, -40, mixed, "customer_bonus-30 customer_credits-10 grants+40"},
        {granted, -20, mixed, "customer_bonus-20 grants+20"},
        {granted, 50, owing, "customer_credits+30 customer_debt+20 grants-50"},
        {granted, 10, owing, "customer_debt+10 grants-10"},
        {granted, 20, owing, "customer_debt+20 grants-20"},
        {granted, -1, behind, "invalid"},
        {granted, -40, leased, "customer_bonus-30 customer_credits-10 grants+40"},
        {granted, -41, leased, "invalid"},
        {payment, 5, nothing, "customer_credits+5 payments-5"},
        {payment, 5, nothing, "customer_credits+5 payments-6 tax+1", 1},
        {payment, 50, owing, "customer_credits+30 customer_debt+20 payments-57 tax+7", 7},
        {payment, 10, owing, "customer_debt+10 payments-10"},
        {payment, 5, leased, "customer_credits+5 payments-5"},
        {bonus, 5, nothing, "customer_bonus+5 promotions-5"},
        {bonus, 5, mixed, "customer_bonus+5 promotions-5"},
        {bonus, 50, owing, "customer_bonus+30 customer_debt+20 promotions-50"},
        {bonus, 20, owing, "customer_debt+20 promotions-20"},
        {promotion, 5, nothing, "customer_bonus+5 promotions-5"},
        {promotion, 50, behind, "customer_bonus+30 customer_debt+20 promotions-50"},
        {plan_fee, 5, paid, "customer_credits-5 revenue_plans+5"},
        {plan_fee, 40, mixed, "customer_bonus-30 customer_credits-10 revenue_plans+40"},
        {plan_fee, 130, mixed, "customer_bonus-30 customer_credits-100 revenue_plans+130"},
        {plan_fee, 131, mixed, "payment_required"},
        {plan_fee, 1, nothing, "payment_required"},
        {plan_fee, 1, behind, "payment_required"},
        {plan_fee, 40, leased, "customer_bonus-30 customer_credits-10 revenue_plans+40"},
        {plan_fee, 41, leased, "payment_required"},
        {charge, 5, paid, "customer_credits-5 revenue+5"},
        {charge, 5, paid, "customer_credits-5 revenue_compute+5", 0, "gpu"},
        {charge, 5, paid, "customer_credits-5 revenue_compute+5", 0, "serverless"},
        {charge, 5, paid, "customer_credits-5 revenue_storage+5", 0, "cloud_storage"},
        {charge, 30, gift, "customer_bonus-30 revenue_compute+30", 0, "gpu"},
        {charge, 31, gift, "payment_required", 0, "gpu"},
        {charge, 1, owing, "payment_required"},
        {charge, 41, leased, "payment_required"},
        {refund, 5, paid, "customer_credits-5 refunds+5"},
        {refund, 5, paid, "customer_credits-5 refunds+6 tax-1", 1},
        {refund, 150, mixed, "customer_bonus-30 customer_credits-100 customer_debt-20 refunds+150"},
        {refund, 50, leased, "customer_bonus-30 customer_credits-10 customer_debt-10 refunds+50"},
        {refund, 5, nothing, "customer_debt-5 refunds+5"},
        {refund, 5, owing, "customer_debt-5 refunds+5"},
        {refund, 5, behind, "customer_debt-5 refunds+5"},
        {dispute, 5, paid, "customer_credits-5 refunds+5"},
        {dispute, 150, mixed, "customer_bonus-30 customer_credits-100 customer_debt-20 refunds+153 tax-3", 3},
        {dispute, 50, leased, "customer_bonus-30 customer_credits-10 customer_debt-10 refunds+50"},
        {dispute_won, 5, paid, "customer_credits+5 refunds-5"},
        {dispute_won, 5, paid, "customer_credits+5 refunds-6 tax+1", 1},
        {dispute_won, 25, owing, "customer_credits+5 customer_debt+20 refunds-25"},
        {correction, 5, paid, "customer_credits+5 revenue-5"},
        {correction, 5, owing, "customer_debt+5 revenue-5"},
        {correction, -5, paid, "customer_credits-5 revenue+5"},
        {correction, -40, mixed, "customer_bonus-30 customer_credits-10 revenue+40"},
        {correction, -105, paid, "customer_credits-100 customer_debt-5 revenue+105"},
        {correction, -50, leased, "customer_bonus-30 customer_credits-10 customer_debt-10 revenue+50"},
        {correction, -5, paid, "customer_credits-5 revenue_storage+5", 0, "cloud_storage"},
    };
    for (const Case& one : cases) {
        std::ostringstream name;
        name << movement_name(one.kind) << ' ' << one.amount << " given " << one.given.paid << ' '
             << one.given.bonus << ' ' << one.given.debt << ' ' << one.given.sliced;
        SCOPED_TRACE(name.str());
        make(one.given);
        Movement asked = movement(one.kind, one.amount);
        asked.tax = Nanos{one.tax};
        asked.product = one.product;
        EXPECT_EQ(outcome(asked), one.expected);
    }
}

// Amounts at every edge: nothing wraps around, nothing half happens.
TEST_P(LedgerRules, AmountsAreBoundedAtEveryEdge) {
    make(mixed);
    for (MovementKind kind : all_kinds) {
        SCOPED_TRACE(movement_name(kind));
        bool may_take = kind == granted || kind == correction;
        for (std::int64_t amount : {std::int64_t{0}, most + 1, int_max, -most - 1, int_min})
            EXPECT_EQ(outcome(movement(kind, amount)), "invalid") << amount;
        if (!may_take) EXPECT_EQ(outcome(movement(kind, -5)), "invalid");
        bool may_be_taxed = kind == payment || kind == refund || kind == dispute || kind == dispute_won;
        for (std::int64_t tax :
             {std::int64_t{-1}, most + 1, int_max, int_min, std::int64_t{may_be_taxed ? -2 : 1}}) {
            Movement taxed = movement(kind, 5);
            taxed.tax = Nanos{tax};
            EXPECT_EQ(outcome(taxed), "invalid") << tax;
        }
    }
    // A balance of 4 billion credits at most, whoever gives; the last nano-dollar fits.
    make(nothing);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(move(movement(granted, most)));
    ASSERT_TRUE(move(movement(payment, most - 1)));
    for (MovementKind kind : {granted, payment, bonus, promotion, dispute_won, correction})
        EXPECT_EQ(outcome(movement(kind, 2)), "invalid") << movement_name(kind);
    EXPECT_EQ(outcome(movement(bonus, 1)), "customer_bonus+1 promotions-1");
    EXPECT_EQ(outcome(movement(bonus, 1)), "invalid");
    EXPECT_EQ(outcome(movement(charge, most)),
              "customer_bonus-1 customer_credits-999999999999999999 revenue+" + std::to_string(most));
    // And a debt.
    make(nothing);
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(move(movement(refund, most)));
    for (MovementKind kind : {refund, dispute}) EXPECT_EQ(outcome(movement(kind, 1)), "invalid");
    EXPECT_EQ(outcome(movement(correction, -1)), "invalid");
    EXPECT_EQ(funds(account).debt, balance_max);
    EXPECT_EQ(outcome(movement(payment, most)),
              "customer_debt+" + std::to_string(most) + " payments-" + std::to_string(most));
}

// A client sees the same first complaint whatever else is wrong: what is checked first is part of the
// contract.
TEST_P(LedgerRules, ErrorsComeInAFixedOrder) {
    make(nothing);
    ASSERT_TRUE(move(movement(granted, 5, "used")));
    Movement bad = movement(charge, 0, "used");
    bad.account = AccountId{77};
    bad.tax = Nanos{-1};
    bad.key.clear();
    bad.note = std::string(501, 'n');
    bad.reference = std::string(201, 'r');
    bad.product = std::string("p\0", 2);
    auto complaint = [&] {
        auto moved = move(bad);
        return moved ? std::string() : moved.error().message;
    };
    EXPECT_THAT(complaint(), HasSubstr("must not be zero"));
    bad.amount = Nanos{-5};
    EXPECT_THAT(complaint(), HasSubstr("must be positive"));
    bad.amount = Nanos{int_max};
    EXPECT_THAT(complaint(), HasSubstr("at most 1000000000 credits"));
    bad.amount = Nanos{50};
    EXPECT_THAT(complaint(), HasSubstr("tax"));
    bad.tax = {};
    EXPECT_THAT(complaint(), HasSubstr("required"));
    bad.key = std::string(201, 'k');
    EXPECT_THAT(complaint(), HasSubstr("at most 200 bytes"));
    bad.key = std::string("k\0", 2);
    EXPECT_THAT(complaint(), HasSubstr("note must be at most"));
    bad.note = std::string("n\0", 2);
    EXPECT_THAT(complaint(), HasSubstr("reference must be at most"));
    bad.reference = std::string("r\0", 2);
    EXPECT_THAT(complaint(), HasSubstr("key must be text"));
    bad.key = "used";
    EXPECT_THAT(complaint(), HasSubstr("note must be text"));
    bad.note.clear();
    EXPECT_THAT(complaint(), HasSubstr("reference must be text"));
    bad.reference.clear();
    EXPECT_THAT(complaint(), HasSubstr("product must be text"));
    bad.product.clear();
    EXPECT_THAT(complaint(), HasSubstr("used for something else"));
    bad.key = "fresh";
    EXPECT_THAT(complaint(), HasSubstr("account not found"));
    bad.account = account;
    EXPECT_THAT(complaint(), HasSubstr("does not cover"));
    bad.amount = Nanos{5};
    EXPECT_EQ(complaint(), "");
}

// The same message may come any number of times; another one under its name must not pass for it.
TEST_P(LedgerRules, AKeyWorksOnce) {
    AccountId other = new_account("other");
    for (MovementKind kind : all_kinds) {
        SCOPED_TRACE(movement_name(kind));
        make(mixed);
        Movement first = movement(kind, 7);
        first.note = "note";
        first.reference = "reference";
        first.product = "gpu";
        if (kind == payment || kind == refund || kind == dispute) first.tax = Nanos{2};
        auto done = move(first);
        ASSERT_TRUE(done);
        EXPECT_FALSE(done->is_replay);
        Balances after = balances(account);
        ASSERT_TRUE(move(movement(granted, 1000)));  // time goes on
        Movement again = first;
        again.expires_at = fake.now();  // worked out anew
        auto replayed = move(again);
        ASSERT_TRUE(replayed);
        EXPECT_TRUE(replayed->is_replay);
        EXPECT_EQ(replayed->id, done->id);
        EXPECT_EQ(replayed->amount, done->amount);
        EXPECT_EQ(replayed->debt, done->debt);
        EXPECT_EQ(replayed->balance.available, done->balance.available + Nanos{1000});
        after["customer_credits"] += 1000;
        after["grants"] -= 1000;
        EXPECT_EQ(balances(account), after);

        std::vector<Movement> others(6, first);
        others[0].amount += Nanos{1};
        others[1].note += "!";
        others[2].reference += "!";
        others[3].product = "serverless";
        others[4].account = other;
        others[5].kind = kind == bonus ? promotion : bonus;
        others[5].tax = {};
        for (const Movement& one : others) {
            auto refused = move(one);
            ASSERT_FALSE(refused);
            EXPECT_EQ(refused.error().code, Code::conflict);
        }
        EXPECT_EQ(balances(account), after);
    }
}

TEST_P(LedgerRules, AnUnknownAccountHasNoFunds) {
    account = AccountId{12345};
    for (MovementKind kind : all_kinds) {
        auto moved = move(movement(kind, 5));
        ASSERT_FALSE(moved);
        EXPECT_EQ(moved.error().code, Code::not_found);
    }
    auto look = [&](store::Tx& tx) -> Result<bool> { return read_funds(tx, account).has_value(); };
    EXPECT_FALSE(in_tx(look).value());
}

// Charges take bonus credits first, in one balanced posting per kind of credit.
TEST_P(LedgerRules, UsageIsChargedToBonusFirst) {
    make(mixed);
    AccountId rich = new_account("rich");
    Movement more = movement(granted, 1000);
    more.account = rich;
    ASSERT_TRUE(move(more));
    ASSERT_TRUE(
        write({charged(account, 10), charged(rich, 400), charged(account, 0, 3), charged(account, 5)}));
    EXPECT_EQ(balances(account)["customer_bonus"], 15);
    EXPECT_EQ(balances(account)["customer_credits"], 100);
    auto split = charged(account, 25);
    ASSERT_TRUE(write({split}));
    EXPECT_EQ(balances(account)["customer_bonus"], 0);
    EXPECT_EQ(balances(account)["customer_credits"], 90);
    EXPECT_EQ(balances(account)["revenue"], 40);
    EXPECT_EQ(balances(rich)["revenue"], 400);
    EXPECT_FALSE(write({charged(rich, 1), split})) << "recorded before";
    EXPECT_EQ(balances(rich)["revenue"], 400);
    EXPECT_ANY_THROW(write({charged(account, 91)})) << "the ledger never goes below zero";
    EXPECT_EQ(balances(account)["customer_credits"], 90);
    static constexpr store::Sql requests{"test.hours",
                                         "SELECT requests FROM usage_hours WHERE account_id = $1"};
    EXPECT_EQ(number(requests, {account.db()}), 4);
}

// Where a batch left an account is remembered for the next one. Money that moved in between, and a batch that
// never came to be, must be seen.
TEST_P(LedgerRules, ABatchSeesWhatHappenedSinceTheLast) {
    ASSERT_TRUE(move(movement(granted, 100)));
    ASSERT_TRUE(write({charged(account, 10)}));
    ASSERT_TRUE(move(movement(bonus, 20)));
    ASSERT_TRUE(write({charged(account, 15)}));
    EXPECT_EQ(balances(account).at("customer_credits"), 90);
    EXPECT_EQ(balances(account).at("customer_bonus"), 5);

    commits = false;
    EXPECT_FALSE(write({charged(account, 80)}));
    commits = true;
    ASSERT_TRUE(write({charged(account, 80)}));
    ASSERT_TRUE(move(movement(granted, 1'000)));
    AccountId first = std::exchange(account, new_account("second"));
    ASSERT_TRUE(move(movement(granted, 7)));
    ASSERT_TRUE(write({charged(first, 1'015), charged(account, 7)}));
    EXPECT_EQ(funds(first).paid, Nanos{});
    EXPECT_EQ(funds(account).paid, Nanos{});
    EXPECT_THROW(write({charged(first, 1)}), store::DbError);
}

// Several nodes: what a node leased and spent is no longer leased; nobody can take leased money.
TEST_P(LedgerRules, SpentSlicesAreNoLongerLeased) {
    make(leased);
    ASSERT_TRUE(write(db(), {charged(account, 50)}, Nanos{50}));
    Funds left = funds(account);
    EXPECT_EQ(left.sliced.value, 40);
    EXPECT_EQ(left.paid.value + left.bonus.value, 80);
    EXPECT_EQ(left.pool().value, 40);
    auto give_back = [&](store::Tx& tx) -> Result<bool> {
        auto locked = lock_funds(tx, account, fake).value();
        change_sliced(tx, locked, Nanos{-40});
        EXPECT_ANY_THROW(change_sliced(tx, locked, Nanos{-1}));
        EXPECT_ANY_THROW(change_sliced(tx, locked, Nanos{81}));
        return true;
    };
    ASSERT_TRUE(in_tx(give_back));
    EXPECT_EQ(funds(account).pool().value, 80);
}

// Bonus credits that expire first are spent first; what is left of them goes when their time comes, and no
// more.
TEST_P(LedgerRules, BonusExpiresByLots) {
    make(paid);
    auto add = [&](std::int64_t amount, int days) {
        Movement one = movement(bonus, amount);
        if (days > 0) one.expires_at = fake.now() + std::chrono::days(days);
        ASSERT_TRUE(move(one));
    };
    auto expire = [&](std::int64_t takeable = int_max) {
        auto work = [&](store::Tx& tx) -> Result<Nanos> {
            Nanos gone;
            for (AccountId id : accounts_with_expired_bonus(tx, fake.now(), 10)) {
                auto locked = lock_funds(tx, id, fake).value();
                gone += expire_bonus(tx, locked, PostingId::next(fake), Nanos{takeable}, fake.now());
            }
            return gone;
        };
        return in_tx(work).value().value;
    };
    add(40, 20);
    add(30, 10);
    add(50, 0);
    ASSERT_TRUE(write({charged(account, 12)}));  // of the 30
    EXPECT_EQ(expire(), 0);
    fake.advance(std::chrono::days(10));
    EXPECT_EQ(expire(5), 5) << "the rest is held by requests";
    EXPECT_EQ(expire(), 13);
    EXPECT_EQ(expire(), 0);
    ASSERT_TRUE(write({charged(account, 15)}));  // of the 40
    add(7, 5);                                   // expires before the 40: spent first from here on
    ASSERT_TRUE(write({charged(account, 10)}));  // 7 and 3
    fake.advance(std::chrono::days(5));
    EXPECT_EQ(expire(), 0);
    fake.advance(std::chrono::days(5));
    EXPECT_EQ(expire(), 40 - 15 - 3);
    EXPECT_EQ(funds(account).bonus.value, 50);
    EXPECT_EQ(funds(account).paid.value, 100);
    fake.advance(std::chrono::days(10'000));
    EXPECT_EQ(expire(), 0) << "what never expires";
    EXPECT_EQ(balances(account)["promotions"], -(40 + 30 + 50 + 7) + 18 + 22);
}

}  // namespace
}  // namespace nebula::billing::ledger
