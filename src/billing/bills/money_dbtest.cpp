// Invoice numbers, month close and re-rating against real databases, some of it from several threads.
#include <algorithm>
#include <thread>

#include "accounts/audit.hpp"
#include "billing/bills/bills_fixture.hpp"
#include "billing/bills/month.hpp"
#include "billing/bills/reconcile.hpp"
#include "billing/bills/rerate.hpp"
#include "billing/commerce/tables.hpp"

namespace nebula::billing::bills {
namespace {

class BillMoney : public BillsFixture {
   public:
    std::int64_t pay(std::int64_t movement, std::int64_t tax = 0) {
        auto work = [&](store::Tx& tx) -> Result<std::int64_t> {
            return Bills::add_payment_invoice(tx, clock, account, UserId{7}, Nanos{10 * credit}, Nanos{tax},
                                              "QST", PostingId::from_db(movement), "pi_1", "14.975");
        };
        return db().in_tx_blocking(work).value();
    }
    // A metered request, as the committer writes it.
    struct Record {
        std::string time = "2026-02-01T10:00:00Z";
        std::int64_t input = 0, output = 0, charge = 0, written_off = 0, quota_input = 0;
        std::string model = "qwen3";
        std::int64_t cache_write = 0, reasoning = 0, units = 0, byok_ppm = UsageRecord::not_byok;
    };
    RequestId add_record(AccountId of, const Record& r) {
        static constexpr store::Sql sql{
            "test.record",
            "INSERT INTO usage_records (account_id, id, key_id, model, provider, input_tokens, cached_tokens,"
            " output_tokens, price_input_per_m, price_output_per_m, price_cached_input_per_m, is_estimated,"
            " is_streamed, outcome, status, started_at, latency_us, first_token_us, charge, written_off,"
            " posting_id, quota_input, cache_write_tokens, reasoning_tokens, units, byok_ppm)"
            " VALUES ($1, $2, 1, $3, 'p', $4, 0, $5, 0, 0, 0, 0, 0, 'completed', 200,"
            " $6, 1, 1, $7, $8, $9, $10, $11, $12, $13, $14)"};
        RequestId id = RequestId::next(clock);
        store::Param posting = nullptr;
        if (r.charge > 0) posting = std::int64_t{1};
        exec(sql,
             {of.db(), id.db(), std::string_view(r.model), r.input, r.output, to_micros(at(r.time)), r.charge,
              r.written_off, posting, r.quota_input, r.cache_write, r.reasoning, r.units, r.byok_ppm});
        static constexpr store::Sql hour{
            "test.hour",
            "INSERT INTO usage_hours VALUES ($1, $2, 1, $3, 'llm', 1, $4, 0, $5, 0, 0, $6, $7, 0, 0, 0)"
            " ON CONFLICT (account_id, hour, key_id, model, product) DO UPDATE SET"
            " charge = usage_hours.charge + $6"};
        Time started = period_start(Cycle::hour, at(r.time));
        exec(hour, {of.db(), to_micros(started), std::string_view(r.model), r.input, r.output, r.charge,
                    r.written_off});
        return id;
    }
    void price(std::int64_t output_per_m, std::string_view from, const std::string& model = "qwen3") {
        Prices prices{Nanos{}, Nanos{output_per_m}, Nanos{}};
        ASSERT_TRUE(sync_wait(service->set_price(model, prices, at(from))).has_value());
    }
    std::string rerate(std::string_view from, std::string_view to, std::optional<AccountId> only = {},
                       bool is_dry = false) {
        auto done = sync_wait(service->rerate(at(from), at(to), only, is_dry));
        if (!done) return done.error().message + done.error().detail;
        return std::to_string(done->records) + " records, " + std::to_string(done->corrected) +
               " corrected, " + std::to_string(done->difference.value);
    }
    std::int64_t available(AccountId of) { return sync_wait(billing->balance(of)).value().available.value; }
    std::int64_t corrections() { return number("SELECT count(*) FROM movements WHERE kind = 'correction'"); }
};
NEBULA_BOTH_ENGINES(BillMoney);

// Why: the law wants invoice numbers without holes, also when a payment's transaction fails half-way.
TEST_P(BillMoney, InvoiceNumbersHaveNoHolesAfterARollback) {
    EXPECT_EQ(pay(101), 1);
    auto failing = [&](store::Tx& tx) -> Result<std::int64_t> {
        EXPECT_EQ(Bills::add_payment_invoice(tx, clock, account, {}, Nanos{1}, {}, "", PostingId{102}, ""),
                  2);
        return fail(Code::internal, "the payment failed after its invoice");
    };
    EXPECT_FALSE(db().in_tx_blocking(failing).has_value());
    EXPECT_EQ(pay(103), 2);
    EXPECT_EQ(pay(101), 1) << "the same payment has one invoice";
    EXPECT_EQ(number("SELECT count(*) FROM invoices"), 2);
}

// Why: several payments are booked at once; numbers must be unique and gapless whoever commits first.
TEST_P(BillMoney, InvoiceNumbersHaveNoHolesUnderConcurrency) {
    constexpr int threads = 4, each = 15;
    std::vector<std::jthread> workers;
    for (int t = 0; t < threads; ++t)
        workers.emplace_back([&, t] {
            for (int i = 0; i < each; ++i) {
                auto work = [&](store::Tx& tx) -> Result<std::int64_t> {
                    PostingId movement{static_cast<std::uint64_t>(1'000 + t * 100 + i)};
                    auto made =
                        Bills::add_payment_invoice(tx, clock, account, {}, Nanos{1}, {}, "", movement, "");
                    if (i % 3 == 1) return fail(Code::internal, "rolled back");
                    return made;
                };
                (void)db().in_tx_blocking(work);
            }
        });
    workers.clear();
    EXPECT_EQ(number("SELECT count(*) FROM invoices"), threads * 10);
    EXPECT_EQ(number("SELECT max(number) FROM invoices"), threads * 10);
    EXPECT_EQ(number("SELECT min(number) FROM invoices"), 1);
}

// Why: an invoice is a document of one customer; another must not even learn that it exists.
TEST_P(BillMoney, InvoicesAreListedAndDownloadedByTheirOwnerOnly) {
    pay(101, 1'497'500'000);
    auto list = body(pages->platform_invoices(request("limit=10")));
    EXPECT_EQ(list.at("data").at("total_invoices"), 1);
    EXPECT_EQ(list.at("data").at("invoices").at(0).at("invoice_id"), "#NB-000001");
    EXPECT_EQ(list.at("data").at("invoices").at(0).at("type"), "Reload");
    EXPECT_TRUE(last.contains(R"("price":11.4975,)")) << last;
    auto file = sync_wait(pages->invoice_file(request("", "1.pdf")));
    ASSERT_TRUE(file.has_value());
    EXPECT_EQ(file->content_type, "application/pdf");
    EXPECT_TRUE(file->body.starts_with("%PDF"));
    Request stranger = request("", "1");
    stranger.caller.account = other;
    for (auto& asked : {stranger, request("", "2"), request("", "x"), request("", "")}) {
        auto none = sync_wait(pages->invoice_file(asked));
        ASSERT_FALSE(none.has_value());
        EXPECT_EQ(none.error().code, Code::not_found);
    }
    auto console = body(pages->console_invoices(request("")));
    EXPECT_EQ(console.at("invoices").at(0).at("due"), "0.00");
    EXPECT_EQ(console.at("invoices").at(0).at("tax_percent"), "14.975");
}

// Why: an invoice says who was billed when it was made; a customer who moves must not change old ones.
TEST_P(BillMoney, InvoicesKeepTheBillingProfileOfTheirTime) {
    auto save = [&](const commerce::Profile& profile) {
        auto work = [&](store::Tx& tx) -> Result<void> {
            commerce::sql::save_profile(tx, account, profile);
            return {};
        };
        ASSERT_TRUE(db().in_tx_blocking(work).has_value());
    };
    pay(101);
    save({"Ada Ltd", "1 Old Road\nLondon", "GB123", "GB", {}});
    pay(102);
    add_use(account, {.hour = "2026-01-07T00:00:00Z", .charge = 5});
    ASSERT_EQ(sync_wait(service->close_month("2026-01")).value(), 1);
    save({"", "2 New Street", "", "CA-QC", {}});
    pay(103);
    auto list = body(pages->console_invoices(request(""))).at("invoices").as_array();
    ASSERT_EQ(list.size(), 4u);
    auto customer = [&](std::size_t at) { return words(list.at(at).at("customer")); };
    std::string old =
        R"({"name":"Ada Ltd","address":"1 Old Road\nLondon","country":"GB","tax_number":"GB123"})";
    EXPECT_EQ(customer(3), R"({"name":"first","address":"","country":"","tax_number":""})");
    EXPECT_EQ(customer(2), old);
    EXPECT_EQ(list.at(1).at("kind"), "Statement");
    EXPECT_EQ(customer(1), old);
    EXPECT_EQ(customer(0), R"({"name":"first","address":"2 New Street","country":"CA-QC","tax_number":""})");
    auto find = [&](store::Tx& tx) -> Result<std::optional<Invoice>> { return find_invoice(tx, account, 2); };
    Invoice kept = db().read_blocking(find).value().value();
    EXPECT_EQ(kept.customer_address, "1 Old Road\nLondon");
    EXPECT_EQ(kept.lines.size(), 1u);
}

// Why: the statement is what a customer checks the month by; each kind of money has its line, sums are exact.
TEST_P(BillMoney, ClosingAMonthSumsItAndMakesAStatement) {
    add_use(account, {.hour = "2026-01-01T00:00:00Z", .requests = 2, .output = 1'234, .charge = 5 * credit});
    add_use(account, {.hour = "2026-01-31T23:00:00Z", .model = "b", .charge = 1});
    add_use(account, {.hour = "2026-02-01T00:00:00Z", .charge = 77});
    add_movement(account, {.time = "2026-01-03T00:00:00Z", .credited = 50 * credit, .tax = credit});
    add_movement(account, {.time = "2026-01-04T00:00:00Z", .kind = "plan_fee", .credited = -20 * credit});
    add_movement(account,
                 {.time = "2026-01-05T00:00:00Z", .kind = "charge", .credited = -3, .product = "gpu"});
    add_movement(account, {.time = "2026-01-06T00:00:00Z", .kind = "correction", .credited = credit});
    add_movement(other, {.time = "2026-01-31T23:59:59Z", .credited = 5});
    EXPECT_EQ(sync_wait(service->close_month("2026-01")).value(), 2);
    auto work = [&](store::Tx& tx) -> Result<std::vector<MonthBill>> {
        return list_bills(tx, account, "", 9, 0);
    };
    auto bills = db().read_blocking(work).value();
    ASSERT_EQ(bills.size(), 1u);
    EXPECT_EQ(bills[0].usage.value, 5 * credit + 1);
    EXPECT_EQ(bills[0].fees.value, 20 * credit);
    EXPECT_EQ(bills[0].charges.value, 3);
    EXPECT_EQ(bills[0].corrections.value, credit);
    EXPECT_EQ(bills[0].total.value, 24 * credit + 4);
    EXPECT_EQ(bills[0].paid_in.value, 50 * credit);
    auto find = [&](store::Tx& tx) -> Result<std::optional<Invoice>> {
        return find_invoice(tx, account, bills[0].invoice);
    };
    Invoice statement = db().read_blocking(find).value().value();
    EXPECT_EQ(statement.kind, "Statement");
    EXPECT_EQ(statement.total, bills[0].total);
    EXPECT_EQ(statement.paid, statement.total) << "prepaid: nothing is due";
    Nanos sum;
    for (const InvoiceLine& line : statement.lines) sum += line.amount;
    EXPECT_EQ(sum, statement.total);
    EXPECT_EQ(statement.lines.size(), 5u);
    auto monthly = body(pages->novita_monthly_bills(request("")));
    ASSERT_EQ(monthly.at("data").as_array().size(), 2u) << last;
    EXPECT_EQ(monthly.at("data").at(0).at("status"), "pending");
    EXPECT_EQ(monthly.at("data").at(0).at("totalAmount"), "0.00077");
    EXPECT_EQ(monthly.at("data").at(1).at("billingMonth"), "2026-01");
    EXPECT_EQ(monthly.at("data").at(1).at("status"), "paid");
    EXPECT_EQ(monthly.at("data").at(1).at("totalAmount"), "240000.00004");
    auto fixed = body(pages->novita_fixed_term_bills(request("")));
    EXPECT_EQ(fixed.at("bills").at(0).at("amount"), "200000");
}

// Why: every node closes months every minute; the second time and the second node must change nothing.
TEST_P(BillMoney, ClosingAgainOrTogetherMakesOneStatement) {
    for (int i = 0; i < 8; ++i)
        add_use(new_account("a" + std::to_string(i)), {.hour = "2026-01-07T00:00:00Z", .charge = i});
    std::atomic<std::int64_t> made{0};
    auto second_db = test_db().open_again();
    Bills second(seller, *second_db, *billing, commerce, *accounts, clock, metrics);
    {
        std::vector<std::jthread> workers;
        for (Bills* bills : {service.get(), &second, service.get()})
            workers.emplace_back([&made, bills] {
                auto closed = sync_wait(bills->close_month("2026-01"));
                if (closed) made += *closed;
            });
    }
    EXPECT_EQ(sync_wait(service->close_month("2026-01")).value() + made.load(), 8);
    EXPECT_EQ(number("SELECT count(*) FROM bills"), 8);
    EXPECT_EQ(number("SELECT count(*) FROM invoices"), 8);
    EXPECT_EQ(number("SELECT max(number) FROM invoices"), 8);
    EXPECT_EQ(sync_wait(service->close_month("2026-02")).error().code, Code::invalid_request);
    EXPECT_EQ(sync_wait(service->close_month("2026-2")).error().code, Code::invalid_request);
}

// Why: months close by themselves once they are over, and only then.
TEST_P(BillMoney, RunDueClosesTheLastMonthOnce) {
    add_use(account, {.hour = "2026-02-07T00:00:00Z", .charge = 5});
    sync_wait(service->run_due());
    EXPECT_EQ(number("SELECT count(*) FROM bills"), 0);
    clock.advance(std::chrono::days(14) + std::chrono::minutes(9));
    sync_wait(service->run_due());
    EXPECT_EQ(number("SELECT count(*) FROM bills"), 0);
    clock.advance(std::chrono::minutes(2));
    sync_wait(service->run_due());
    sync_wait(service->run_due());
    EXPECT_EQ(number("SELECT count(*) FROM bills WHERE month = '2026-02'"), 1);
    EXPECT_EQ(number("SELECT count(*) FROM invoices"), 1);
}

// Why: a request that ran over the close must be on some statement, once.
TEST_P(BillMoney, UseRecordedAfterTheCloseIsOnTheNextStatement) {
    add_use(account, {.hour = "2026-01-31T23:00:00Z", .charge = 10});
    ASSERT_EQ(sync_wait(service->close_month("2026-01")).value(), 1);
    add_use(account, {.hour = "2026-01-31T23:00:00Z", .key = 2, .charge = 3});
    add_use(account, {.hour = "2026-02-01T00:00:00Z", .charge = 5});
    clock.advance(std::chrono::days(14));
    ASSERT_EQ(sync_wait(service->close_month("2026-02")).value(), 1);
    EXPECT_EQ(number("SELECT total FROM bills WHERE month = '2026-02'"), 8);
    EXPECT_EQ(number("SELECT late FROM bills WHERE month = '2026-02'"), 3);
}

// Why: a price that was wrong is put right once, however often the operator asks and by whatever windows.
TEST_P(BillMoney, RerateCorrectsOnceAndAgainOnlyAfterANewPrice) {
    ASSERT_TRUE(sync_wait(billing->grant(account, Nanos{100}, "g", "")));
    add_record(account, {.output = 10, .charge = 30});
    add_record(account, {.time = "2026-02-02T00:00:00Z", .output = 5, .charge = 15});
    add_record(account, {.time = "2026-02-03T00:00:00Z", .output = 5, .charge = 15, .model = "unpriced"});
    EXPECT_EQ(rerate("2026-01-01", "2026-02-15"), "0 records, 0 corrected, 0") << "no prices, nothing to do";
    price(1'000'000, "2026-01-01");  // one nano-dollar per token: 10 and 5 instead of 30 and 15
    EXPECT_EQ(rerate("2026-01-01", "2026-02-15", {}, true), "2 records, 1 corrected, 30");
    EXPECT_EQ(available(account), 100) << "a dry run moves nothing";
    EXPECT_EQ(rerate("2026-01-01", "2026-02-02"), "1 records, 1 corrected, 20");
    EXPECT_EQ(rerate("2026-01-01", "2026-02-15"), "2 records, 1 corrected, 10");
    EXPECT_EQ(rerate("2026-01-01", "2026-02-15"), "2 records, 0 corrected, 0");
    EXPECT_EQ(available(account), 130);
    EXPECT_EQ(corrections(), 2);
    price(4'000'000, "2026-02-02");  // dearer from the second on: 20 instead of 5
    EXPECT_EQ(rerate("2026-01-01", "2026-02-15", account), "2 records, 1 corrected, -15");
    EXPECT_EQ(rerate("2026-01-01", "2026-02-15", account), "2 records, 0 corrected, 0");
    EXPECT_EQ(available(account), 115);
    EXPECT_EQ(rerate("2026-01-01", "2026-02-15", other), "0 records, 0 corrected, 0");
    EXPECT_EQ(sync_wait(service->rerate(at("2026-02-01"), at("2026-02-01"), {}, false)).error().param, "to");
}

// Why: what a plan's quota paid for has no price, and what was forgiven is not charged afterwards.
TEST_P(BillMoney, RerateLeavesQuotaAndForgivenPartsAlone) {
    EXPECT_EQ(due_of(Nanos{10}, Nanos{6}, Nanos{4}).value, 6);
    EXPECT_EQ(due_of(Nanos{12}, Nanos{6}, Nanos{4}).value, 8);
    EXPECT_EQ(due_of(Nanos{8}, Nanos{6}, Nanos{4}).value, 6);
    EXPECT_EQ(due_of(Nanos{5}, Nanos{6}, Nanos{4}).value, 5);
    ASSERT_TRUE(sync_wait(billing->grant(account, Nanos{100}, "g", "")));
    add_record(account, {.input = 100, .output = 10, .charge = 10, .quota_input = 100});
    Prices prices{Nanos{9'000'000}, Nanos{1'000'000}, Nanos{9'000'000}};
    ASSERT_TRUE(sync_wait(service->set_price("qwen3", prices, at("2026-01-01"))));
    EXPECT_EQ(rerate("2026-01-01", "2026-02-15"), "1 records, 0 corrected, 0");
}

// Why: what is priced apart must be rated apart, and by what other tokens cost where a version says nothing
// of it.
TEST_P(BillMoney, RerateKnowsCacheWritesReasoningAndUnits) {
    ASSERT_TRUE(sync_wait(billing->grant(account, Nanos{1'000}, "g", "")));
    Record record{.input = 10, .output = 10, .charge = 1, .model = "m"};
    record.cache_write = 4;
    record.reasoning = 3;
    record.units = 2;
    add_record(account, record);
    Prices prices = token_prices(Nanos{1'000'000}, Nanos{2'000'000});
    prices.cache_write_per_m = Nanos{3'000'000};
    prices.reasoning_per_m = Nanos{5'000'000};
    prices.unit = Nanos{100};
    ASSERT_TRUE(sync_wait(service->set_price("m", prices, at("2026-01-01"))));
    // 6 + 4 * 3 + 7 * 2 + 3 * 5 + 2 * 100
    EXPECT_EQ(rerate("2026-01-01", "2026-02-15"), "1 records, 1 corrected, -246");
    exec({"test.plain",
          "UPDATE price_versions SET cache_write_per_m = NULL, reasoning_per_m = NULL, unit = 0"},
         {});
    EXPECT_EQ(rerate("2026-01-01", "2026-02-15"), "1 records, 1 corrected, 217") << "10 + 20";
    prices.unit = Nanos{-1};
    EXPECT_FALSE(sync_wait(service->set_price("m", prices, at("2026-01-01"))));
}

// Why: who brought his own provider key owes a share of the list price, whatever the list price is now.
TEST_P(BillMoney, RerateLeavesOwnKeysTheirShare) {
    ASSERT_TRUE(sync_wait(billing->grant(account, Nanos{1'000}, "g", "")));
    Record record{.output = 1'000, .charge = 50};
    record.byok_ppm = 50'000;
    add_record(account, record);
    price(1'000'000, "2026-01-01");
    EXPECT_EQ(rerate("2026-01-01", "2026-02-15"), "1 records, 0 corrected, 0");
    price(2'000'000, "2026-01-01");
    EXPECT_EQ(rerate("2026-01-01", "2026-02-15"), "1 records, 1 corrected, -50");
}

// Why: records that outweigh each other need no movement, but must be remembered all the same.
TEST_P(BillMoney, RerateRemembersCorrectionsThatCancelOut) {
    add_record(account, {.output = 10, .charge = 12});
    add_record(account, {.output = 10, .charge = 8});
    price(1'000'000, "2026-01-01");
    EXPECT_EQ(rerate("2026-01-01", "2026-02-15"), "2 records, 1 corrected, 0");
    EXPECT_EQ(corrections(), 0);
    EXPECT_EQ(rerate("2026-01-01", "2026-02-15"), "2 records, 0 corrected, 0");
    EXPECT_EQ(number("SELECT count(*) FROM usage_corrections"), 2);
}

// Why: what an operator changes in prices and money must be found later, with who did it; what changed
// nothing leaves no row.
TEST_P(BillMoney, WhatOperatorsChangeIsInTheAuditLog) {
    accounts::Caller by = caller(other);
    by.email = "op@example.com";
    auto log = [&](AccountId of) {
        auto read = [&](store::Tx& tx) -> Result<accounts::AuditPage> {
            return accounts::read_audit(tx, of, 100, 0);
        };
        std::string text;
        for (const accounts::AuditRow& row : db().read_blocking(read).value().rows)
            text += row.user_email + " " + row.entry.action + " " + row.entry.resource + " " +
                    row.entry.resource_name + " " + row.entry.details + "\n";
        return text;
    };
    ASSERT_TRUE(sync_wait(billing->grant(account, Nanos{100}, "g", "")));
    add_record(account, {.time = "2026-01-20T00:00:00Z", .output = 10, .charge = 30});
    Prices prices{Nanos{}, Nanos{1'000'000}, Nanos{}};
    ASSERT_TRUE(sync_wait(service->set_price("qwen3", prices, at("2026-01-01"), &by)));
    ASSERT_FALSE(sync_wait(service->set_price("", prices, at("2026-01-01"), &by)));
    for (bool is_dry : {true, false, false})
        ASSERT_TRUE(sync_wait(service->rerate(at("2026-01-01"), at("2026-02-01"), {}, is_dry, &by)));
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(sync_wait(service->close_month("2026-01", &by)));
    EXPECT_EQ(log(other),
              "op@example.com Create Month Close 2026-01 {\"bills\":1}\n"
              "op@example.com Create Price qwen3 {\"effective_from\":\"2026-01-01T00:00:00.000Z\","
              "\"input_per_m\":\"0.00\",\"output_per_m\":\"0.001\",\"cached_input_per_m\":\"0.00\","
              "\"cache_write_per_m\":\"0.00\",\"reasoning_per_m\":\"0.00\",\"unit\":\"0.00\","
              "\"request\":\"0.00\"}\n");
    EXPECT_EQ(log(account), "op@example.com Update Re-rating " + account.text() +
                                " {\"from\":\"2026-01-01T00:00:00.000Z\",\"to\":\"2026-02-01T00:00:00.000Z\","
                                "\"records\":1,\"difference\":\"0.00000002\"}\n");
    price(2'000'000, "2026-01-01");
    (void)rerate("2026-01-01", "2026-02-01");
    EXPECT_EQ(number("SELECT count(*) FROM audit_log"), 3) << "the command line is no person";
}

// Why: two operators may press the button at once; the customer must be corrected once.
TEST_P(BillMoney, RerateFromTwoSidesCorrectsOnce) {
    ASSERT_TRUE(sync_wait(billing->grant(account, Nanos{1'000}, "g", "")));
    for (int i = 0; i < 50; ++i) add_record(account, {.output = 10, .charge = 13});
    price(1'000'000, "2026-01-01");
    {
        std::vector<std::jthread> workers;
        for (int t = 0; t < 3; ++t) workers.emplace_back([&] { (void)rerate("2026-01-01", "2026-02-15"); });
    }
    EXPECT_EQ(available(account), 1'150);
    EXPECT_EQ(corrections(), 1);
}

// Why: what a provider bills is compared with every account's records of that provider, and of no other.
TEST_P(BillMoney, RecordedUseIsSummedPerDayAndUpstreamModel) {
    add_record(account, {.time = "2026-01-31T23:59:59Z", .input = 9, .output = 9});
    add_record(account, {.time = "2026-02-01T00:00:00Z", .input = 10, .output = 1});
    add_record(other, {.time = "2026-02-01T23:59:59Z", .input = 20, .output = 2});
    add_record(other, {.time = "2026-02-02T00:00:00Z", .input = 5, .model = "mini"});
    add_record(other, {.time = "2026-02-03T00:00:00Z", .input = 5});
    auto name = [](std::string_view model) { return "up/" + std::string(model); };
    auto sum = [&](std::string provider) {
        Window window{at("2026-02-01"), at("2026-02-03")};
        return sync_wait(recorded_use(db(), std::move(provider), window, name)).value();
    };
    UseByDay expected{{{"2026-02-01", "up/qwen3"}, {2, 30, 3}}, {{"2026-02-02", "up/mini"}, {1, 5, 0}}};
    EXPECT_EQ(sum("p"), expected);
    EXPECT_EQ(sum("q"), UseByDay{});
}

// Why: of two versions for one time the later decision counts; a mistake in a price must be repairable.
TEST_P(BillMoney, TheLastVersionForATimeCounts) {
    price(5, "2026-01-01");
    price(7, "2026-01-01");
    price(9, "2026-02-01");
    auto work = [](store::Tx& tx) -> Result<PriceHistory> { return PriceHistory::read(tx); };
    PriceHistory history = db().read_blocking(work).value();
    EXPECT_EQ(history.at("qwen3", at("2026-01-31"))->output_per_m.value, 7);
    EXPECT_EQ(history.at("qwen3", at("2026-02-01"))->output_per_m.value, 9);
    EXPECT_FALSE(history.at("qwen3", at("2025-12-31")).has_value());
    EXPECT_FALSE(history.at("llama", at("2026-02-01")).has_value());
    EXPECT_EQ(body(pages->operator_prices(request(""))).at("prices").as_array().size(), 2u);
    EXPECT_FALSE(sync_wait(service->set_price("", {}, at("2026-01-01"))).has_value());
    EXPECT_FALSE(sync_wait(service->set_price("m", {Nanos{-1}, {}, {}}, at("2026-01-01"))).has_value());
}

}  // namespace
}  // namespace nebula::billing::bills
