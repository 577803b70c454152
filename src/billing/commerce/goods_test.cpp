#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "billing/commerce/amounts.hpp"
#include "billing/commerce/goods.hpp"
#include "billing/commerce/plan_change.hpp"
#include "billing/commerce/stripe.hpp"

namespace nebula::billing::commerce {
namespace {

using namespace std::chrono;
using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::int64_t credit = Nanos::per_credit;

Time day(int y, unsigned m, unsigned d) { return Time(sys_days(year(y) / month(m) / std::chrono::day(d))); }

// The price list is a promise: every number of it, as published.
TEST(Goods, ThePresetsAreThePublishedTables) {
    auto goods = check_goods({}).value();
    std::vector<std::tuple<std::string, std::int64_t, std::int64_t, std::int64_t, bool>> plans;
    for (const auto& p : goods.plans)
        plans.emplace_back(p.id, p.price.value / credit, p.quota_input, p.quota_output, p.contact_only);
    EXPECT_THAT(plans, ElementsAre(std::tuple("free", 0, 100'000, 20'000, false),
                                   std::tuple("developer", 10, 2'000'000, 500'000, false),
                                   std::tuple("pro", 50, 15'000'000, 3'000'000, false),
                                   std::tuple("enterprise", 200, 100'000'000, 20'000'000, true)));
    EXPECT_THAT(goods.plan("pro")->features, ElementsAre("15M input tokens/mo", "3M output tokens/mo",
                                                         "Vision models", "Priority support"));
    std::vector<std::pair<std::string, std::string>> packages;
    for (const auto& p : credit_packages()) packages.emplace_back(p.price.text(), p.bonus.text());
    EXPECT_THAT(packages, ElementsAre(std::pair("5.0000", "0"), std::pair("10.0000", "0"),
                                      std::pair("25.0000", "2.5000"), std::pair("50.0000", "7.5000"),
                                      std::pair("100.0000", "20.0000")));
    packages.clear();
    for (const auto& p : platform_packages()) packages.emplace_back(p.price.text(), p.bonus.text());
    EXPECT_THAT(packages, ElementsAre(std::pair("10.0000", "0"), std::pair("25.0000", "0"),
                                      std::pair("50.0000", "5.0000"), std::pair("100.0000", "15.0000"),
                                      std::pair("200.0000", "50.0000")));
    EXPECT_EQ(platform_tiers()[2].rpd, 2'000);
    EXPECT_EQ(platform_tiers()[4].tpm, 800'000);
    EXPECT_EQ(novita_tiers()[4].model_rpm, 6'000);
    EXPECT_EQ(novita_tiers()[0].model_tpm, 50'000'000);
    EXPECT_EQ(goods.free_plan()->id, "free");
}

// An operator mends everything at once, not one mistake per start.
TEST(Goods, EveryMistakeIsReported) {
    CommerceOptions options;
    PlanSettings plan;
    plan.id = "Bad Id";
    plan.price = Nanos{-1};
    options.plans = {plan, plan};
    options.packages = {{Nanos{5}, Nanos{}}};
    TierSettings tier;
    tier.reached_by = "luck";
    options.tiers = {tier};
    options.taxes = {{"Canada", "", "15 %"}, {"*", "VAT", "101"}};
    options.stripe.currency = "jpy";
    options.commerce.low_balance = "some";
    options.commerce.minimum_payment = "100";
    options.commerce.maximum_payment = "10";
    auto checked = check_goods(options);
    ASSERT_FALSE(checked.has_value());
    for (const char* part :
         {"id must be 1 to 50", "the id is used twice", "price must be 0 or more", "package of 0.000000005",
          "reached_by is not known", "a name is required", "tax \"Canada\": country", "tax \"Canada\": name",
          "tax \"Canada\": percent", "tax \"*\": percent", "jpy\" has no cents", "commerce.low_balance",
          "commerce.minimum_payment is more than"})
        EXPECT_THAT(checked.error().message, HasSubstr(part));
}

// Tax is what the state gets: a cent wrong is wrong.
TEST(Amounts, TaxIsRoundedHalfUpToTheCent) {
    struct Case {
        std::int64_t net_cents;
        const char* percent;
        std::int64_t tax;
    };
    for (const Case& c : {Case{1000, "14.975", 150}, Case{10000, "14.975", 1498}, Case{20000, "14.975", 2995},
                          Case{1, "50", 1}, Case{1, "49.999999", 0}, Case{3, "50", 2}, Case{1000, "0", 0},
                          Case{100'000'000, "20", 20'000'000}, Case{999, "7.7", 77}})
        EXPECT_EQ(tax_cents(c.net_cents, parse_percent(c.percent).value()), c.tax)
            << c.net_cents << " " << c.percent;
    for (const char* bad : {"", "-1", "100.000001", "1.1234567", "5%"})
        EXPECT_FALSE(parse_percent(bad)) << bad;
}

// Regions before countries before everywhere else.
TEST(Amounts, TheNearestTaxCounts) {
    CommerceOptions options;
    options.taxes = {{"CA", "GST", "5"}, {"CA-QC", "GST+QST", "14.975"}, {"*", "VAT", "20"}};
    auto goods = check_goods(options).value();
    EXPECT_EQ(goods.tax("CA-QC")->name, "GST+QST");
    EXPECT_EQ(goods.tax("CA-ON")->name, "GST");
    EXPECT_EQ(goods.tax("FR")->name, "VAT");
    EXPECT_EQ(goods.tax("")->name, "VAT");
    EXPECT_EQ(check_goods({}).value().tax("FR"), nullptr);
}

// A plan bought on the 31st ends on the last day of shorter months and comes back to the 31st.
TEST(Amounts, MonthsKeepTheirDayWhereTheyHaveIt) {
    Time anchor = day(2026, 1, 31) + 5h;
    EXPECT_EQ(add_months(anchor, 1), day(2026, 2, 28) + 5h);
    EXPECT_EQ(add_months(anchor, 2), day(2026, 3, 31) + 5h);
    EXPECT_EQ(add_months(anchor, 25), day(2028, 2, 29) + 5h);
    Period february = anniversary_period(anchor, day(2026, 3, 31) + 4h);
    EXPECT_EQ(february.start, day(2026, 2, 28) + 5h);
    EXPECT_EQ(february.end, day(2026, 3, 31) + 5h);
    EXPECT_EQ(anniversary_period(anchor, anchor).start, anchor);
    EXPECT_EQ(calendar_month(day(2026, 12, 5)).end, day(2027, 1, 1));
}

// What is given back is never more than what was paid, and exact but for less than a nano-dollar.
TEST(Amounts, TheUnusedPartIsExactAndRoundedDown) {
    Period period{day(2026, 1, 1), day(2026, 2, 1)};
    struct Case {
        std::int64_t price;
        microseconds after;
        std::int64_t unused;
    };
    for (const Case& c :
         {Case{31, 0us, 31}, Case{31, 24h, 30}, Case{31, 24h + 1us, 29}, Case{31, 31 * 24h, 0},
          Case{31, 32 * 24h, 0}, Case{10 * credit, 7 * 24h + 1us, 7'741'935'483},
          Case{1'000'000 * credit, 1us, 999'999'999'999'626}, Case{31, -1h, 31}})
        EXPECT_EQ(unused_part(Nanos{c.price}, period, period.start + c.after).value, c.unused) << c.price;
}

Subscription running(std::int64_t price, const char* plan = "old") {
    Subscription row;
    row.plan = plan;
    row.is_active = true;
    row.anchor = row.period_start = day(2026, 1, 1);
    row.period_end = day(2026, 2, 1);
    row.price = Nanos{price * credit};
    row.version = 4;
    return row;
}

PlanSettings costing(std::int64_t price, const char* id = "new") {
    PlanSettings plan;
    plan.id = id;
    plan.price = Nanos{price * credit};
    return plan;
}

// Every way from one plan to another, and what it costs at which time.
TEST(PlanChange, UpgradesCountWhatIsUnusedAndDowngradesWait) {
    using Kind = PlanChange::Kind;
    Time half = day(2026, 1, 16) + 12h;
    auto change = change_plan({}, costing(10), half);
    EXPECT_EQ(change.kind, Kind::now);
    EXPECT_EQ(change.fee.value, 10 * credit);
    EXPECT_EQ(change.row.period_start, half);
    EXPECT_EQ(change.row.period_end, add_months(half, 1));

    change = change_plan(running(10), costing(50), half);
    EXPECT_EQ(change.kind, Kind::now);
    EXPECT_EQ(change.fee.value, 45 * credit);
    EXPECT_EQ(change.row.version, 4);
    EXPECT_EQ(change_plan(running(10), costing(10), half).fee.value, 5 * credit);
    EXPECT_EQ(change_plan(running(10), costing(10), day(2026, 1, 1)).fee.value, 0);
    EXPECT_EQ(change_plan(running(10), costing(50), day(2026, 2, 1)).fee.value, 50 * credit)
        << "nothing is left";

    change = change_plan(running(50), costing(10), half);
    EXPECT_EQ(change.kind, Kind::later);
    EXPECT_EQ(change.fee.value, 0);
    EXPECT_EQ(change.row.plan, "old");
    EXPECT_EQ(change.row.next_plan, "new");

    EXPECT_EQ(change_plan(running(10), costing(10, "old"), half).kind, Kind::same);
    Subscription ordered = change.row;
    change = change_plan(ordered, costing(50, "old"), half);
    EXPECT_EQ(change.kind, Kind::keep) << "an ordered downgrade is taken back";
    EXPECT_EQ(change.row.next_plan, "");
}

// Going to and fro between plans must not make bonus credits.
TEST(PlanChange, BonusIsProratedLikeThePrice) {
    Subscription row = running(10);
    row.bonus = Nanos{4 * credit};
    PlanSettings plan = costing(10);
    plan.bonus = Nanos{4 * credit};
    EXPECT_EQ(change_plan(row, plan, row.period_start).row.bonus_due.value, 0);
    EXPECT_EQ(change_plan(row, plan, day(2026, 1, 16) + 12h).row.bonus_due.value, 2 * credit);
    plan.bonus = Nanos{};
    EXPECT_EQ(change_plan(row, plan, row.period_start).row.bonus_due.value, 0);
}

// A server that was down for months charges for the month it is in, once.
TEST(PlanChange, RenewalIsForTheMonthOfNow) {
    Subscription next = next_period(running(10), costing(10, "old"), day(2026, 4, 20));
    EXPECT_EQ(next.period_start, day(2026, 4, 1));
    EXPECT_EQ(next.period_end, day(2026, 5, 1));
    EXPECT_EQ(next.anchor, day(2026, 1, 1));
}

constexpr std::string_view signed_body = R"({"id":"evt_test"})";
constexpr const char* good_v1 = "6e0750b1f973b6d7ac1efcaaac1c8bbda865dbdbfc1656b7c5c1fa9651ee0ab0";

// The signature is the only credential of a webhook. The good one was made by the official library.
TEST(StripeSignature, OnlyRightAndFreshOnesPass) {
    Secret secret("whsec_test_secret");
    Time now{seconds(1767225600)};
    std::string good = "t=1767225600,v1=" + std::string(good_v1);
    auto check = [&](const std::string& header, std::string_view body, Time at, const Secret& key) {
        return check_signature(header, body, key, at, 300s).has_value();
    };
    EXPECT_TRUE(check(good, signed_body, now, secret));
    EXPECT_TRUE(check(good, signed_body, now + 300s + 999ms, secret));
    EXPECT_TRUE(check(good, signed_body, now - 300s, secret));
    EXPECT_FALSE(check(good, signed_body, now + 301s, secret)) << "old";
    EXPECT_FALSE(check(good, signed_body, now - 301s, secret)) << "from the future";
    EXPECT_FALSE(check(good, R"({"id":"evt_tesT"})", now, secret));
    EXPECT_FALSE(check(good, signed_body, now, Secret("whsec_other")));
    EXPECT_FALSE(check(good, signed_body, now, Secret()));
    std::string zeros(64, '0');
    EXPECT_TRUE(check("t=1767225600,v1=" + zeros + ",v1=" + good_v1 + ",v0=x", signed_body, now, secret));
    EXPECT_TRUE(check("t=1767225600, v1=" + std::string(good_v1), signed_body, now, secret));
    for (const std::string& bad :
         {std::string(), "t=1767225600,v1=" + zeros, "t=1767225600,v0=" + std::string(good_v1),
          "v1=" + std::string(good_v1), "t=x,v1=" + std::string(good_v1),
          "t=1767225601,v1=" + std::string(good_v1), std::string("t=99999999999999999999,v1=") + good_v1})
        EXPECT_FALSE(check(bad, signed_body, now, secret)) << bad;
}

// Names with brackets and text of any kind must arrive as they are.
TEST(StripeForm, IsPercentEncoded) {
    EXPECT_EQ(encode_form({{"a[b]", "x y&=é"}, {"c", ""}}), "a%5Bb%5D=x%20y%26%3D%C3%A9&c=");
}

}  // namespace
}  // namespace nebula::billing::commerce
