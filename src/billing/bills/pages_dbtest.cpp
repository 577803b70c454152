// Every page against figures that were computed by hand, on both engines.
#include "billing/bills/bills_fixture.hpp"
#include "billing/ledger/receipt.hpp"

namespace nebula::billing::bills {
namespace {

namespace json = http::json;

class BillPages : public BillsFixture {
   public:
    // Two weeks of use: a Sunday and the Monday after it, two models, two keys.
    void add_sample() {
        add_use(account,
                {.hour = "2026-02-01T10:00:00Z", .input = 100, .output = 10, .charge = 1'500'000'000});
        add_use(account, {.hour = "2026-02-01T11:00:00Z", .input = 50, .output = 5, .charge = 1});
        add_use(account,
                {.hour = "2026-02-01T11:00:00Z", .key = 2, .input = 7, .output = 1, .charge = 200'000});
        add_use(account,
                {.hour = "2026-02-02T00:00:00Z", .model = "Llama_3", .requests = 3, .charge = 30'000});
        add_use(account,
                {.hour = "2026-01-31T23:00:00Z", .model = "img-1", .product = "gen_api", .charge = 5});
        add_use(other, {.hour = "2026-02-01T10:00:00Z", .charge = 999'999});
    }
    std::string bills(std::string query) {
        auto answer = body(pages->novita_bills(request(query)));
        if (answer.as_object().contains("error")) return words(answer.at("error").at("param"));
        std::string out;
        for (const auto& bill : answer.at("bills").as_array())
            out += std::string(bill.at("startTime").as_string()) + " " +
                   std::string(bill.at("productName").as_string()) + " " +
                   std::string(bill.at("billNum0").as_string()) + "/" +
                   std::string(bill.at("billNum1").as_string()) + " " +
                   std::string(bill.at("amount").as_string()) + "\n";
        return out;
    }
};
NEBULA_BOTH_ENGINES(BillPages);

// Why: bills are compared with the ledger by customers; each cycle must put each hour into one period.
TEST_P(BillPages, NovitaBillsSumByHourDayWeekAndMonth) {
    add_sample();
    std::string window = "&startTime=" + unix_text("2026-01-20") + "&endTime=" + unix_text("2026-02-15");
    std::string llm = "&productCategory=llm" + window;
    EXPECT_EQ(bills("cycleType=Hour" + llm), unix_text("2026-02-01T10:00:00Z") + " qwen3 100/10 15000\n" +
                                                 unix_text("2026-02-01T11:00:00Z") + " qwen3 57/6 2.00001\n" +
                                                 unix_text("2026-02-02T00:00:00Z") + " Llama_3 0/0 0.3\n");
    EXPECT_EQ(bills("cycleType=Day" + llm), unix_text("2026-02-01") + " qwen3 157/16 15002.00001\n" +
                                                unix_text("2026-02-02") + " Llama_3 0/0 0.3\n");
    EXPECT_EQ(bills("cycleType=Week" + llm), unix_text("2026-01-26") + " qwen3 157/16 15002.00001\n" +
                                                 unix_text("2026-02-02") + " Llama_3 0/0 0.3\n");
    EXPECT_EQ(bills("cycleType=Month&productCategory=summary" + window),
              unix_text("2026-01-01") + " img-1 0/0 0.00005\n" + unix_text("2026-02-01") +
                  " Llama_3 0/0 0.3\n" + unix_text("2026-02-01") + " qwen3 157/16 15002.00001\n");
}

// Why: names are matched as part of a word in any case; SQL's own wildcards in a name must not match others.
TEST_P(BillPages, NovitaBillNamesAreFuzzyAndTakenLiterally) {
    add_sample();
    std::string all = "cycleType=Day&productCategory=summary&productName=";
    EXPECT_EQ(bills(all + "LLAMA"), unix_text("2026-02-02") + " Llama_3 0/0 0.3\n");
    EXPECT_EQ(bills(all + "a_3"), unix_text("2026-02-02") + " Llama_3 0/0 0.3\n");
    EXPECT_EQ(bills(all + "q_en"), "");
    EXPECT_EQ(bills(all + "%25"), "");
    EXPECT_EQ(bills(all + "!"), "");
}

// Why: mistakes in a query have names of their own in this dialect, and windows are bounded.
TEST_P(BillPages, NovitaBillsRefuseBadCyclesCategoriesAndWindows) {
    std::string good = "cycleType=Day&productCategory=llm";
    EXPECT_EQ(bills("productCategory=llm"), R"("cycleType")");
    EXPECT_EQ(bills("cycleType=Year&productCategory=llm"), R"("cycleType")");
    EXPECT_EQ(bills("cycleType=Day"), R"("productCategory")");
    EXPECT_EQ(bills("cycleType=Day&productCategory=pizza"), R"("productCategory")");
    EXPECT_EQ(bills(good + "&startTime=5&endTime=4"), R"("endTime")");
    EXPECT_EQ(bills(good + "&startTime=0x&endTime=4"), R"("startTime")");
    std::string start = good + "&startTime=" + unix_text("2026-01-01") + "&endTime=";
    EXPECT_EQ(bills(start + unix_text("2026-02-01")), "");
    EXPECT_EQ(bills(start + unix_text("2026-02-01T00:00:01Z")), R"("endTime")");
}

// Why: instances are charged by movements, not by requests; both are on the bill.
TEST_P(BillPages, NovitaBillsHoldChargesOfOtherProducts) {
    add_sample();
    add_movement(account, {.time = "2026-02-03T10:20:00Z",
                           .kind = "charge",
                           .credited = -300'000,
                           .product = "gpu",
                           .reference = "ins_1"});
    add_movement(account, {.time = "2026-02-03T10:40:00Z",
                           .kind = "charge",
                           .credited = -100'000,
                           .owed = 0,
                           .product = "gpu",
                           .reference = "ins_1"});
    EXPECT_EQ(bills("cycleType=Hour&productCategory=gpu"),
              unix_text("2026-02-03T10:00:00Z") + " gpu 0/0 4\n");
    EXPECT_EQ(bills("cycleType=Hour&productCategory=summary&ownerId=ins_1"),
              unix_text("2026-02-03T10:00:00Z") + " gpu 0/0 4\n");
    EXPECT_EQ(bills("cycleType=Hour&productCategory=summary&ownerId=ins_2"), "");
}

// Why: clients index these fields by name and read them as text.
TEST_P(BillPages, ANovitaBillHasEveryFieldAsText) {
    add_sample();
    ASSERT_TRUE(sync_wait(service->set_price(
        "qwen3", {Nanos{2'000'000'000}, Nanos{6'000'000'000}, Nanos{2'000'000'000}}, at("2026-01-01"))));
    auto answer = body(pages->novita_bills(request("cycleType=Day&productCategory=llm&productName=qwen")));
    const json::object& bill = answer.at("bills").at(0).as_object();
    for (const char* name :
         {"userId", "startTime", "endTime", "billingMethod", "productName", "category", "ownerID", "billNum0",
          "billNum1", "basePrice0", "basePrice1", "discountPrice0", "discountPrice1", "amount",
          "voucherAmount", "payAmount", "payAmountDisplay", "pricePrecision", "productId"})
        EXPECT_TRUE(bill.contains(name) && bill.at(name).is_string()) << name;
    EXPECT_EQ(bill.at("discountPrice0"), "20000");
    EXPECT_EQ(bill.at("discountPrice1"), "60000");
    EXPECT_EQ(bill.at("payAmountDisplay"), "1.500200001");
    EXPECT_EQ(bill.at("endTime"), json::string(unix_text("2026-02-02")));
}

// Why: a team sees which key spent what; hours may only be asked for a week at a time.
TEST_P(BillPages, NovitaKeyBillsAreByKeyWithItsName) {
    KeyId key = new_key("build server");
    add_use(account, {.hour = "2026-02-01T10:00:00Z", .key = key.db(), .input = 9, .charge = 100'000});
    add_use(account, {.hour = "2026-02-01T12:00:00Z", .key = 99, .input = 1, .charge = 50'000});
    std::string window = "&startTime=" + unix_text("2026-02-01") + "&endTime=" + unix_text("2026-02-08");
    auto answer = body(pages->novita_key_bills(request("cycleType=Day" + window)));
    ASSERT_EQ(answer.at("bills").as_array().size(), 2u) << last;
    auto named = answer.at("bills").at(0).at("ownerID") == json::string(key.text()) ? 0u : 1u;
    EXPECT_EQ(answer.at("bills").at(named).at("apikeyName"), "build server");
    EXPECT_TRUE(answer.at("bills").at(named).at("apikeyMask").as_string().starts_with("sk-neb-"));
    EXPECT_EQ(answer.at("bills").at(named).at("amount"), "1");
    EXPECT_EQ(answer.at("bills").at(1 - named).at("amount"), "0.5");
    auto refused = [&](const std::string& query) {
        return std::string(body(pages->novita_key_bills(request(query))).at("error").at("param").as_string());
    };
    std::string longer =
        "&startTime=" + unix_text("2026-02-01") + "&endTime=" + unix_text("2026-02-08T00:00:01Z");
    EXPECT_EQ(refused("cycleType=Hour" + longer), "endTime");
    EXPECT_FALSE(
        body(pages->novita_key_bills(request("cycleType=Hour" + window))).as_object().contains("error"));
    EXPECT_EQ(refused("cycleType=Day"), "startTime");
    EXPECT_EQ(refused("cycleType=Day&category=gpu" + window), "category");
}

// Why: paging by number must neither skip nor repeat, and each kind of movement has its word.
TEST_P(BillPages, NovitaTransactionsPageAndFilter) {
    for (int i = 1; i <= 5; ++i)
        add_movement(account,
                     {.time = "2026-02-0" + std::to_string(i) + "T00:00:00Z", .credited = i * 100'000});
    auto refund = add_movement(
        account, {.time = "2026-02-06T00:00:00Z", .kind = "refund", .credited = -300'000, .owed = 700'000});
    add_movement(account, {.time = "2026-02-07T00:00:00Z", .kind = "plan_fee", .credited = -1});
    add_movement(other, {.time = "2026-02-07T00:00:00Z", .credited = 1});
    auto amounts = [&](const std::string& query) {
        auto answer = body(pages->novita_transactions(request(query)));
        std::string out = words(answer.at("total")) + ":";
        for (const auto& row : answer.at("data").as_array())
            out += " " + std::string(row.at("amount").as_string());
        return out;
    };
    EXPECT_EQ(amounts("pageNo=1&pageSize=3"), "7: -0.00001 -10 5");
    EXPECT_EQ(amounts("pageNo=3&pageSize=3"), "7: 1");
    EXPECT_EQ(amounts("pageNo=1&pageSize=9&transactionType=recharge"), "5: 5 4 3 2 1");
    EXPECT_EQ(amounts("pageNo=1&pageSize=9&transactionType=refund"), "1: -10");
    EXPECT_EQ(amounts("pageNo=1&pageSize=9&transactionType=consume"), "1: -0.00001");
    EXPECT_EQ(amounts("pageNo=1&pageSize=9&status=failed"), "0:");
    EXPECT_EQ(amounts("pageNo=1&pageSize=9&serialNumber=" + PostingId::from_db(refund).text()), "1: -10");
    EXPECT_EQ(amounts("pageNo=1&pageSize=9&transactionTimeStart=" + unix_text("2026-02-02") +
                      "&transactionTimeEnd=" + unix_text("2026-02-03")),
              "2: 3 2");
    EXPECT_EQ(body(pages->novita_transactions(request("pageNo=1"))).at("error").at("param"), "pageSize");
}

// Why: the platform's history has one row per hour, of all that was charged in it, newest first.
TEST_P(BillPages, PlatformHistoryIsByHourNewestFirst) {
    add_sample();
    add_movement(account, {.time = "2026-02-01T11:30:00Z", .kind = "charge", .credited = -2'000'000'000});
    add_movement(account, {.time = "2026-02-05T11:30:00Z", .kind = "charge", .credited = -7});
    auto history = [&](const std::string& query) {
        auto answer = body(pages->platform_history(request(query))).at("data");
        std::string out = words(answer.at("total_credit_histories")) + ":";
        for (const auto& row : answer.at("credit_history").as_array())
            out += " " + std::string(row.at("create_time").as_string()).substr(9, 8);
        return out;
    };
    EXPECT_EQ(history(""), "5: 02-05 06 02-01 19 02-01 06 02-01 05 01-31 18");
    EXPECT_EQ(history("limit=2&offset=1"), "5: 02-01 19 02-01 06");
    EXPECT_EQ(history("limit=2&offset=4"), "5: 01-31 18");
    EXPECT_EQ(history("limit=2&offset=5"), "5:");
    (void)history("limit=1&offset=2");
    // Numbers with every digit, as text of the body: a double could not hold them.
    EXPECT_TRUE(last.contains(R"("computing_amount":2.0,"serverless_amount":0.000200001,)")) << last;
    EXPECT_TRUE(last.contains(R"("total":2.000200001)")) << last;
    EXPECT_EQ(body(pages->platform_history(request("limit=0"))).at("error").at("param"), "limit");
}

// Why: charts break on missing points, and totals must be those of the points.
TEST_P(BillPages, StatisticsHaveEveryPoint) {
    add_use(account, {.hour = "2026-02-14T23:00:00Z", .requests = 2, .input = 10, .output = 3, .charge = 4});
    add_use(account, {.hour = "2026-02-14T23:00:00Z", .key = 2, .requests = 1, .input = 1, .charge = 1});
    add_use(account, {.hour = "2026-02-14T20:00:00Z", .product = "gen_api", .requests = 8});
    add_use(account, {.hour = "2026-02-09T00:00:00Z", .requests = 5, .output = 5});
    auto hours = body(pages->platform_statistics(request("time_frame=1h")));
    EXPECT_EQ(hours.at("data").as_array().size(), 24u);
    EXPECT_EQ(hours.at("total_requests"), 3);
    EXPECT_EQ(hours.at("total_tokens"), 14);
    EXPECT_EQ(hours.at("data").at(22).at("requests"), 3);
    auto days = body(pages->platform_statistics(request("time_frame=1d")));
    EXPECT_EQ(days.at("data").as_array().size(), 7u);
    EXPECT_EQ(days.at("total_requests"), 8);
    EXPECT_EQ(days.at("data").at(0).at("requests"), 5);
    EXPECT_EQ(body(pages->platform_statistics(request("time_frame=2d"))).at("error").at("param"),
              "time_frame");
}

// Why: this dialect's client shows the last 30 full days by model; today is not one of them.
TEST_P(BillPages, ActivityIsByDayAndModel) {
    KeyId key = new_key("mine");
    add_use(account,
            {.hour = "2026-02-14T23:00:00Z", .key = key.db(), .requests = 2, .input = 10, .charge = 4});
    add_use(account, {.hour = "2026-02-14T01:00:00Z", .key = 2, .requests = 1, .output = 6, .charge = 1});
    add_use(account, {.hour = "2026-02-13T01:00:00Z", .key = 2, .model = "b", .requests = 1});
    add_use(account, {.hour = "2026-02-15T00:00:00Z", .requests = 100});
    add_use(account, {.hour = "2026-01-15T23:00:00Z", .requests = 100});
    auto rows = body(pages->openrouter_activity(request(""))).at("data");
    ASSERT_EQ(rows.as_array().size(), 2u) << last;
    EXPECT_EQ(rows.at(0).at("date"), "2026-02-14");
    EXPECT_EQ(rows.at(0).at("requests"), 3);
    EXPECT_EQ(rows.at(0).at("completion_tokens"), 6);
    EXPECT_TRUE(last.contains(R"("usage":0.000000005)")) << last;
    EXPECT_EQ(body(pages->openrouter_activity(request("date=2026-02-13"))).at("data").as_array().size(), 1u);
    EXPECT_EQ(body(pages->openrouter_activity(request("date=2026-02-15"))).at("error").at("param"), "date");
    EXPECT_EQ(body(pages->openrouter_activity(request("api_key_hash=00"))).at("data").as_array().size(), 0u);
}

// Why: what the customer owes the provider himself is not in our bills, and he asks for it here.
TEST_P(BillPages, ActivityTellsWhatOwnProviderKeysWereUsedFor) {
    ASSERT_TRUE(sync_wait(billing->grant(account, Nanos{1'000'000}, "g", "")));
    for (std::int64_t key : {1, 2}) {
        UsageRecord record;
        record.id = RequestId::next(clock);
        record.account = account;
        record.key = KeyId::from_db(key);
        record.model = "m";
        record.provider = "up";
        record.usage.input = 1'000'000;
        record.byok_ppm = 50'000;
        record.prices = share_of(token_prices(Nanos{3'000}, Nanos{0}), record.byok_ppm);
        record.started_at = at("2026-02-14") + std::chrono::hours(23);
        ASSERT_TRUE(sync_wait(billing->settle({}, record)));
    }
    add_use(account, {.hour = "2026-02-14T01:00:00Z", .key = 2, .model = "n", .requests = 1, .charge = 1});
    (void)body(pages->openrouter_activity(request("")));
    EXPECT_TRUE(last.contains(R"("usage":0.0000003,"byok_usage_inference":0.000006,)")) << last;
    EXPECT_TRUE(last.contains(R"("usage":0.000000001,"byok_usage_inference":0,)")) << last;
}

// Why: the console's table, its total and its export must say the same.
TEST_P(BillPages, ConsoleUsageAndExportAgree) {
    add_sample();
    std::string query = "group=day&by=model,key&from=2026-01-01&to=2026-02-15";
    auto table = body(pages->console_usage(request(query)));
    EXPECT_EQ(table.at("rows").as_array().size(), 4u);
    EXPECT_EQ(table.at("total").at("charge"), "1.500230006");
    EXPECT_EQ(table.at("total").at("requests"), 7);
    auto asked = pages->usage_query(http::Params::parse(query), account, true).value();
    std::string csv = Pages::csv_head(asked);
    csv += sync_wait(pages->csv_piece(asked, {at("2026-01-01"), at("2026-02-01")})).value();
    csv += sync_wait(pages->csv_piece(asked, {at("2026-02-01"), at("2026-02-15")})).value();
    EXPECT_EQ(csv,
              "start,product,model,key,key_name,requests,input_tokens,cached_tokens,output_tokens,"
              "quota_input_tokens,quota_output_tokens,charge_usd,written_off_usd,cache_write_tokens,"
              "reasoning_tokens,units\r\n"
              "2026-01-31T00:00:00.000Z,gen_api,img-1," +
                  KeyId{1}.text() +
                  ",,1,0,0,0,0,0,0.000000005,0.00,0,0,0\r\n"
                  "2026-02-01T00:00:00.000Z,llm,qwen3," +
                  KeyId{1}.text() +
                  ",,2,150,0,15,0,0,1.500000001,0.00,0,0,0\r\n"
                  "2026-02-01T00:00:00.000Z,llm,qwen3," +
                  KeyId{2}.text() +
                  ",,1,7,0,1,0,0,0.0002,0.00,0,0,0\r\n"
                  "2026-02-02T00:00:00.000Z,llm,Llama_3," +
                  KeyId{1}.text() + ",,3,0,0,0,0,0,0.00003,0.00,0,0,0\r\n");
    for (const char* bad : {"group=year", "by=user", "from=x", "from=2026-02-15&to=2026-02-14", "key=5",
                            "group=hour&from=2026-01-01&to=2026-02-15"})
        EXPECT_TRUE(body(pages->console_usage(request(bad))).as_object().contains("error")) << bad;
}

// Why: a customer who pays by the image or for thoughts must see how many there were, on every page that
// counts.
TEST_P(BillPages, WhatIsPricedApartIsCounted) {
    for (std::int64_t key : {1, 2}) {
        Use use{.hour = "2026-02-14T01:00:00Z", .key = key, .model = "m", .input = 10, .output = 6};
        use.cache_write = 3;
        use.reasoning = 2;
        use.units = 4;
        add_use(account, use);
    }
    auto rows = body(pages->openrouter_activity(request(""))).at("data");
    ASSERT_EQ(rows.as_array().size(), 1u) << last;
    EXPECT_EQ(rows.at(0).at("reasoning_tokens"), 4);
    std::string query = "group=day&by=model&from=2026-02-14&to=2026-02-15";
    auto total = body(pages->console_usage(request(query))).at("total");
    EXPECT_EQ(total.at("cache_write_tokens"), 6);
    EXPECT_EQ(total.at("reasoning_tokens"), 4);
    EXPECT_EQ(total.at("units"), 8);
    auto asked = pages->usage_query(http::Params::parse(query), account, true).value();
    EXPECT_EQ(sync_wait(pages->csv_piece(asked, asked.filter.window)).value(),
              "2026-02-14T00:00:00.000Z,llm,m,2,20,0,12,0,0,0.00,0.00,6,4,8\r\n");
}

// Why: the four dialects must state one balance.
TEST_P(BillPages, EveryDialectStatesTheSameBalance) {
    ASSERT_TRUE(sync_wait(billing->grant(account, Nanos{1'228'556'000'001}, "g", "")));
    EXPECT_EQ(body(pages->platform_credits(request(""))).at("data").at("available_balance"),
              "1228.556000001");
    EXPECT_EQ(body(pages->novita_balance(request(""))).at("availableBalance"), "12285560.00001");
    EXPECT_EQ(body(pages->console_summary(request(""))).at("available"), "1228.556000001");
    (void)body(pages->novita_user(request("")));
    EXPECT_TRUE(last.contains(R"("credit_balance":12285560.00001)")) << last;
    (void)body(pages->openrouter_credits(request("")));
    EXPECT_EQ(last, R"({"data":{"total_credits":1228.556000001,"total_usage":0}})");
}

// Why: bill, receipt, balance and ledger are four views of one charge; they must agree to the nano-dollar.
TEST_P(BillPages, AMeteredRequestIsOnBillReceiptAndBalanceAlike) {
    ASSERT_TRUE(sync_wait(billing->grant(account, Nanos{credit}, "g", "")));
    HoldRequest wanted{account, Nanos{1'000'000}, Nanos{1}};
    auto hold = sync_wait(billing->admit(wanted, Ticks::max()));
    ASSERT_TRUE(hold.has_value());
    UsageRecord record;
    record.id = RequestId::next(clock);
    record.account = account;
    record.key = KeyId{5};
    record.model = "qwen3";
    record.provider = "p";
    record.usage = {.input = 1'000, .cached = 0, .output = 234'567};
    record.prices = {Nanos{1'000'000}, Nanos{1'000'000}, Nanos{1'000'000}};
    record.started_at = clock.now();
    ASSERT_TRUE(sync_wait(billing->settle(std::move(*hold), record)).has_value());
    EXPECT_EQ(bills("cycleType=Hour&productCategory=llm&endTime=" + unix_text("2026-02-15T01:00:00Z")),
              unix_text("2026-02-15T00:00:00Z") + " qwen3 1000/234567 2.35567\n");
    EXPECT_EQ(body(pages->novita_balance(request(""))).at("availableBalance"), "9997.64433");
    (void)body(pages->openrouter_credits(request("")));
    EXPECT_EQ(last, R"({"data":{"total_credits":1,"total_usage":0.000235567}})");
    auto receipt = sync_wait(pages->receipt(request("", record.id.text())));
    ASSERT_TRUE(receipt.has_value()) << receipt.error().message;
    EXPECT_EQ(ledger::check_receipt(receipt->body), std::vector<std::string>{});
    EXPECT_TRUE(receipt->body.contains("235567")) << receipt->body;
    auto key = body(pages->receipt_key(request("")));
    EXPECT_TRUE(receipt->body.contains(std::string(key.at("public_key").as_string())));
    Request stranger = request("", record.id.text());
    stranger.caller.account = other;
    for (auto& asked : {stranger, request("", "req_nonsense"), request("", RequestId{1}.text())})
        EXPECT_EQ(sync_wait(pages->receipt(asked)).error().code, Code::not_found);
}

}  // namespace
}  // namespace nebula::billing::bills
