// Plans, tiers and codes on both engines.
#include <thread>

#include "accounts/audit.hpp"
#include "billing/commerce/shop_fixture.hpp"

namespace nebula::billing::commerce {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

class PlansDb : public ShopFixture {};
NEBULA_BOTH_ENGINES(PlansDb);

// The fee is the price, the terms are the plan's, and who cannot pay has nothing.
TEST_P(PlansDb, SubscribingChargesThePriceAndGivesTheTerms) {
    EXPECT_EQ(subscribe(account, "developer"), "payment_required");
    EXPECT_EQ(terms(account).plan, "");
    EXPECT_FALSE(terms(account).restricts_models);
    give(account, 25);
    EXPECT_EQ(subscribe(account, "nonsense"), "not_found");
    EXPECT_EQ(subscribe(account, "enterprise"), "forbidden");
    EXPECT_EQ(subscribe(account, "developer"), "ok");
    EXPECT_EQ(subscribe(account, "developer"), "conflict");
    EXPECT_EQ(available(account), "15.0000");
    Terms now = terms(account);
    EXPECT_EQ(now.plan, "developer");
    EXPECT_EQ(now.quota_input, 2'000'000);
    EXPECT_EQ(now.quota_output, 500'000);
    EXPECT_THAT(now.model_classes, ::testing::ElementsAre("basic", "ollama"));
    EXPECT_EQ(now.period_start, to_micros(calendar_month(clock.now()).start));
    EXPECT_LE(now.good_until, clock.now() + 1min);
    auto view = sync_wait(shop->plan_view(account)).value();
    EXPECT_EQ(view.plan->id, "developer");
    EXPECT_EQ(view.row.period_end, add_months(clock.now(), 1));
}

// The operator gives plans by agreement; they cost what they cost.
TEST_P(PlansDb, TheOperatorSubscribesToContactPlans) {
    give(account, 200);
    ASSERT_TRUE(sync_wait(shop->subscribe(account, "enterprise", nullptr, true)).has_value());
    EXPECT_EQ(available(account), "0");
    EXPECT_FALSE(terms(account).restricts_models) << "every class of models";
}

// Half a month of ten credits is worth five, to the nano-dollar.
TEST_P(PlansDb, AnUpgradeCountsTheUnusedPart) {
    give(account, 100);
    ASSERT_EQ(subscribe(account, "developer"), "ok");
    clock.advance(15 * 24h + 12h);
    ASSERT_EQ(subscribe(account, "pro"), "ok");
    EXPECT_EQ(available(account), "45.0000");
    clock.advance(1us);
    EXPECT_EQ(subscribe(account, "pro"), "conflict");
    EXPECT_EQ(terms(account).plan, "pro");
}

// Downgrades and cancellations wait for the end of what was paid; the last word counts.
TEST_P(PlansDb, DowngradesAndCancellationsWaitForThePeriodsEnd) {
    give(account, 100);
    ASSERT_EQ(subscribe(account, "pro"), "ok");
    ASSERT_EQ(subscribe(account, "developer"), "ok");
    EXPECT_EQ(available(account), "50.0000");
    EXPECT_EQ(terms(account).plan, "pro");
    ASSERT_EQ(subscribe(account, "pro"), "ok") << "the downgrade is taken back";
    ASSERT_EQ(subscribe(account, "developer"), "ok");
    clock.advance(30 * 24h);
    run_due();
    EXPECT_EQ(terms(account).plan, "pro");
    clock.advance(24h);
    run_due();
    run_due();
    EXPECT_EQ(terms(account).plan, "developer");
    EXPECT_EQ(available(account), "40.0000");
    ASSERT_TRUE(sync_wait(shop->cancel(account, nullptr)).has_value());
    ASSERT_TRUE(sync_wait(shop->cancel(account, nullptr)).has_value()) << "twice is once";
    EXPECT_EQ(terms(account).plan, "developer") << "paid is paid";
    clock.advance(28 * 24h);
    run_due();
    EXPECT_EQ(terms(account).plan, "");
    EXPECT_EQ(available(account), "40.0000");
    EXPECT_EQ(sync_wait(shop->cancel(account, nullptr)).error().code, Code::not_found);
    ASSERT_EQ(subscribe(account, "developer"), "ok") << "and comes back";
    EXPECT_EQ(available(account), "30.0000");
}

// Every month once, however often and late somebody looks; who cannot pay falls to the free plan and is told.
TEST_P(PlansDb, RenewalChargesOnceAndFallsToTheFreePlan) {
    give(account, 35);
    ASSERT_EQ(subscribe(account, "developer"), "ok");
    clock.advance(31 * 24h);
    for (int i = 0; i < 3; ++i) run_due();
    EXPECT_EQ(available(account), "15.0000");
    clock.advance(62 * 24h);  // two months nobody was there: the one in progress is paid
    run_due();
    EXPECT_EQ(available(account), "5.0000");
    EXPECT_TRUE(mails.empty());
    clock.advance(31 * 24h);
    run_due();
    run_due();
    EXPECT_EQ(available(account), "5.0000");
    EXPECT_EQ(terms(account).plan, "free");
    ASSERT_EQ(mails.size(), 1u);
    EXPECT_EQ(mails[0].to, "ada@example.com");
    EXPECT_THAT(mails[0].text, HasSubstr("does not cover 10.0000 credits"));
}

// Two nodes, two clicks: one fee.
TEST_P(PlansDb, SubscribingAtOnceChargesOnce) {
    give(account, 100);
    std::vector<std::jthread> threads;
    std::atomic<int> done = 0;
    for (int i = 0; i < 6; ++i)
        threads.emplace_back([&] {
            if (subscribe(account, "developer") == "ok") ++done;
        });
    threads.clear();
    EXPECT_EQ(done.load(), 1);
    EXPECT_EQ(available(account), "90.0000");
}

// Bonus credits of a plan come with each period, once, and expire.
TEST_P(PlansDb, APlansBonusComesWithEachPeriod) {
    PlanSettings plan;
    plan.id = "gold";
    plan.price = Nanos{10 * credit};
    plan.bonus = Nanos{2 * credit};
    options.plans = {plan};
    options.commerce.quota_period = "anniversary";
    open();
    give(account, 30);
    ASSERT_EQ(subscribe(account, "gold"), "ok");
    EXPECT_EQ(available(account), "22.0000");
    EXPECT_EQ(balance(account).bonus.text(), "2.0000");
    EXPECT_EQ(terms(account).period_start, to_micros(clock.now()));
    clock.advance(31 * 24h);
    run_due();
    run_due();
    EXPECT_EQ(available(account), "14.0000");
    clock.advance(31 * 24h);
    run_due();
    clock.advance(31 * 24h);
    run_due();
    EXPECT_EQ(terms(account).plan, "") << "there is no free plan to fall to";
}

// The highest tier that is reached counts, by money that came and stayed, by money spent, by a card.
TEST_P(PlansDb, TiersFollowCardsDepositsAndSpending) {
    options.commerce.tier_preset = "platform";
    open();
    EXPECT_EQ(terms(account).tier, "Engineer 1");
    EXPECT_EQ(terms(account).rpd, 200);
    add_card(account, "pm_1", "fp_1");
    EXPECT_EQ(terms(account).tier, "Engineer 2");
    Payment ten = begin(account, 10);
    hear("payment_intent.succeeded", intent_of(ten));
    EXPECT_EQ(terms(account).tier, "Engineer 3");
    hear("charge.refunded", charge_of(ten, 1));
    EXPECT_EQ(terms(account).tier, "Engineer 2") << "below ten again";
    give(account, 60);
    spend(account, 30 * credit);
    EXPECT_EQ(terms(account).tier, "Expert 1");
    spend(account, 20 * credit);
    EXPECT_EQ(terms(account).tier, "Expert 2");
    EXPECT_EQ(terms(account).tpm, 800'000);
    EXPECT_EQ(terms(account).rpd, 0);
}

// The best of three calendar months decides, so a tier fades when nothing is paid any more.
TEST_P(PlansDb, MonthlyTiersLookAtThreeMonths) {
    options.commerce.tier_preset = "novita";
    open();
    EXPECT_EQ(terms(account).tier, "T1");
    hear("payment_intent.succeeded", intent_of(begin(account, 500)));
    EXPECT_EQ(terms(account).tier, "T3");
    EXPECT_EQ(terms(account).model_rpm, 1'000);
    clock.advance(31 * 24h);  // February
    hear("payment_intent.succeeded", intent_of(begin(account, 49)));
    hear("payment_intent.succeeded", intent_of(begin(account, 5)));
    clock.advance(58 * 24h);  // the last day of March
    EXPECT_EQ(terms(account).tier, "T3");
    clock.advance(2 * 24h);  // April
    EXPECT_EQ(terms(account).tier, "T2");
    clock.advance(30 * 24h);  // May
    EXPECT_EQ(terms(account).tier, "T1");
}

// Codes give so often in all and once per account, decided where it cannot be raced.
TEST_P(PlansDb, CodesGiveAsOftenAsTheyMay) {
    Commerce::NewCode wanted;
    wanted.code = "summer-26";
    wanted.amount = Nanos{3 * credit};
    wanted.uses_max = 3;
    ASSERT_EQ(sync_wait(shop->create_code(wanted)).value().code, "SUMMER-26");
    EXPECT_EQ(sync_wait(shop->create_code(wanted)).error().code, Code::conflict);
    std::vector<AccountId> many;
    for (int i = 0; i < 8; ++i) many.push_back(new_account("p" + std::to_string(i) + "@example.com"));
    std::atomic<int> given = 0;
    {
        std::vector<std::jthread> threads;
        for (AccountId each : many)
            threads.emplace_back([&, each] {
                for (int i = 0; i < 2; ++i)
                    if (sync_wait(shop->redeem(each, " Summer-26", nullptr)).has_value()) ++given;
            });
    }
    EXPECT_EQ(given.load(), 3);
    std::int64_t total = 0;
    for (AccountId each : many) total += balance(each).bonus.value;
    EXPECT_EQ(total, 9 * credit);
    EXPECT_EQ(sync_wait(shop->list_codes()).value().at(0).uses, 3);
}

// Codes are money: who made one must be found later.
TEST_P(PlansDb, WhoMadeACodeIsInTheAuditLog) {
    accounts::Caller by = caller(account);
    by.email = "op@example.com";
    Commerce::NewCode wanted;
    wanted.code = "GIFT-1";
    wanted.amount = Nanos{25 * credit};
    wanted.uses_max = 4;
    ASSERT_TRUE(sync_wait(shop->create_code(wanted, &by)).has_value());
    ASSERT_FALSE(sync_wait(shop->create_code(wanted, &by)).has_value());
    wanted.code = "GIFT-2";
    ASSERT_TRUE(sync_wait(shop->create_code(wanted)).has_value());
    auto read = [&](store::Tx& tx) -> Result<accounts::AuditPage> {
        return accounts::read_audit(tx, account, 10, 0);
    };
    auto log = db().read_blocking(read).value();
    ASSERT_EQ(log.rows.size(), 1u);
    EXPECT_EQ(log.rows[0].user_email, "op@example.com");
    EXPECT_EQ(log.rows[0].entry.resource, "Promotion Code");
    EXPECT_EQ(log.rows[0].entry.resource_name, "GIFT-1");
    EXPECT_EQ(log.rows[0].entry.details, R"({"amount":"25.0000","uses_max":4})");
}

// Who is stopped must be stopped at the next request, and only by what is written down.
TEST_P(PlansDb, ASuspendedAccountIsRefusedUntilItIsResumed) {
    give(account, 10);
    accounts::Caller by = caller(new_account("op@example.com"));
    by.email = "op@example.com";
    HoldRequest request{account, Nanos{100}, Nanos{100}};
    auto ask = [&] {
        auto hold = sync_wait(billing->admit(request, Ticks::max()));
        return hold ? std::string("ok") : code_name(hold.error().code) + (" " + hold.error().param);
    };
    ASSERT_EQ(ask(), "ok");
    ASSERT_TRUE(billing->try_admit(request).has_value());
    EXPECT_EQ(sync_wait(shop->suspend(account, " ", &by)).error().param, "reason");
    EXPECT_EQ(sync_wait(shop->suspend(AccountId{9}, "x", &by)).error().code, Code::not_found);
    EXPECT_EQ(sync_wait(shop->resume(account, &by)).error().code, Code::not_found);
    Time since = clock.now();
    ASSERT_TRUE(sync_wait(shop->suspend(account, "stolen card", &by)).has_value());
    EXPECT_FALSE(billing->try_admit(request).has_value());
    EXPECT_EQ(ask(), "payment_required account");
    EXPECT_FALSE(billing->try_admit(request).has_value());
    clock.advance(2min);
    EXPECT_EQ(ask(), "payment_required account") << "also by terms that are read again";
    ASSERT_TRUE(sync_wait(shop->suspend(account, "stolen cards", nullptr)).has_value());
    auto found = sync_wait(shop->suspension(account)).value();
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->reason, "stolen cards");
    EXPECT_EQ(found->since, since);
    ASSERT_TRUE(sync_wait(shop->resume(account, &by)).has_value());
    EXPECT_EQ(ask(), "ok");
    EXPECT_TRUE(billing->try_admit(request).has_value());
    auto read = [&](store::Tx& tx) -> Result<accounts::AuditPage> {
        return accounts::read_audit(tx, account, 10, 0);
    };
    std::string log;
    for (const accounts::AuditRow& row : db().read_blocking(read).value().rows)
        log +=
            row.user_email + " " + row.entry.action + " " + row.entry.resource_name + row.entry.details + ";";
    EXPECT_EQ(log,
              "op@example.com Resume ada@example.com;"
              " Suspend ada@example.com{\"reason\":\"stolen cards\"};"
              "op@example.com Suspend ada@example.com{\"reason\":\"stolen card\"};");
}

// Wrong, expired and used-up codes are one answer; who guesses is stopped for an hour.
TEST_P(PlansDb, WrongCodesAreOneAnswerAndCounted) {
    Commerce::NewCode wanted;
    wanted.amount = Nanos{credit};
    wanted.expires_at = clock.now() + 1h;
    std::string good = sync_wait(shop->create_code(wanted)).value().code;
    EXPECT_EQ(good.size(), 14u);
    clock.advance(1h);
    auto expired = sync_wait(shop->redeem(account, good, nullptr)).error();
    auto unknown = sync_wait(shop->redeem(account, "nothing", nullptr)).error();
    EXPECT_EQ(expired.message, unknown.message);
    EXPECT_EQ(expired.code, Code::not_found);
    for (int i = 0; i < 8; ++i) EXPECT_FALSE(sync_wait(shop->redeem(account, "x", nullptr)).has_value());
    EXPECT_EQ(sync_wait(shop->redeem(account, "x", nullptr)).error().code, Code::rate_limited);
    AccountId other = new_account("eve@example.com");
    EXPECT_EQ(sync_wait(shop->redeem(other, "x", nullptr)).error().code, Code::not_found);
    clock.advance(1h);
    EXPECT_EQ(sync_wait(shop->redeem(account, "x", nullptr)).error().code, Code::not_found);
}

// Credits of a code end when they said, and not before.
TEST_P(PlansDb, CreditsOfACodeExpire) {
    Commerce::NewCode wanted;
    wanted.amount = Nanos{credit};
    wanted.bonus_days = 10;
    std::string code = sync_wait(shop->create_code(wanted)).value().code;
    ASSERT_TRUE(sync_wait(shop->redeem(account, code, nullptr)).has_value());
    clock.advance(10 * 24h - 1us);
    ASSERT_TRUE(billing->expire_bonuses().has_value());
    EXPECT_EQ(available(account), "1.0000");
    clock.advance(1us);
    ASSERT_TRUE(billing->expire_bonuses().has_value());
    EXPECT_EQ(available(account), "0");
}

// Told once when it falls below, again only after it was above.
TEST_P(PlansDb, ALowBalanceIsToldOnce) {
    options.commerce.low_balance = "5";
    open();
    run_due();
    EXPECT_TRUE(mails.empty()) << "who never had money is not told";
    give(account, 6);
    clock.advance(1min);
    run_due();
    spend(account, 2 * credit);
    for (int i = 0; i < 3; ++i) {
        clock.advance(1min);
        run_due();
    }
    EXPECT_EQ(mails.size(), 1u);
    give(account, 6);
    clock.advance(1min);
    run_due();
    spend(account, 8 * credit);
    clock.advance(1min);
    run_due();
    EXPECT_EQ(mails.size(), 2u);
}

// Without Stripe everything but cards works, and says so.
TEST_P(PlansDb, WithoutStripeCardPaymentsAreRefusedClearly) {
    with_cards = false;
    open();
    for (const Error& error :
         {sync_wait(shop->start_checkout(caller(account), Nanos{10 * credit}, "/")).error(),
          sync_wait(shop->start_intent(caller(account), Nanos{10 * credit}, {})).error(),
          sync_wait(shop->start_setup(caller(account))).error(),
          sync_wait(shop->take_webhook("{}", "")).error()}) {
        EXPECT_EQ(error.code, Code::invalid_request);
        EXPECT_THAT(error.message, HasSubstr("not set up here"));
    }
    EXPECT_TRUE(sync_wait(shop->cards(account)).value().empty());
    give(account, 10);
    EXPECT_EQ(subscribe(account, "developer"), "ok");
    run_due();
}

}  // namespace
}  // namespace nebula::billing::commerce
