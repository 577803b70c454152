// Novita's billing operations: bare objects, amounts as decimal text in units of 0.0001 USD, times as text of
// UNIX seconds.
#include <algorithm>
#include <array>
#include <tuple>

#include "base/text.hpp"
#include "billing/bills/pages.hpp"
#include "billing/bills/wire.hpp"

namespace nebula::billing::bills {
namespace {

using namespace std::chrono;

constexpr std::array product_categories{
    "summary",    "gpu",           "llm",           "serverless",
    "gen_api",    "cloud_storage", "cloud_sandbox", "llm_dedicated_endpoint",
    "web_search", "bare_metal"};
constexpr std::array key_categories{"llm", "gen_api", "web_search"};
// Units of one USD: what an amount is divided by to be money.
constexpr std::string_view price_precision = "10000";

std::string owner_text(const accounts::Caller& caller) {
    return caller.user ? caller.user.text() : caller.account.text();
}

std::unexpected<Error> bad(std::string_view param, const std::string& why) {
    return fail(Code::invalid_request, "'" + std::string(param) + "' " + why, std::string(param));
}

template <std::size_t N>
bool is_one_of(const std::array<const char*, N>& words, std::string_view word) {
    return std::ranges::any_of(words, [&](const char* known) { return word == known; });
}

// The category as a filter: empty for all of them.
std::string as_filter(std::string_view category) {
    return category == "summary" ? std::string() : std::string(category);
}

Result<Time> seconds_of(const http::Params& query, std::string_view name) {
    constexpr std::int64_t year_9999 = 253'402'300'799;
    auto value = query.integer(name, 0, 0, year_9999);
    if (!value) return fail(value.error());
    return Time(seconds(*value));
}

// endTime 0: now; startTime 0: as far back as the window goes.
Result<Window> window_of(const http::Params& query, Time now, days longest) {
    auto from = seconds_of(query, "startTime");
    auto to = seconds_of(query, "endTime");
    if (!from) return fail(from.error());
    if (!to) return fail(to.error());
    Window window{*from, *to};
    if (to->time_since_epoch().count() == 0) window.to = now;
    if (from->time_since_epoch().count() == 0) window.from = window.to - longest;
    if (window.to < window.from) return bad("endTime", "must not be before startTime");
    if (window.to - window.from > longest)
        return bad("endTime", "must be at most " + std::to_string(longest.count()) + " days after startTime");
    return window;
}

Result<Cycle> cycle_of(const http::Params& query) {
    auto cycle = parse_cycle(query.get("cycleType").value_or(""));
    if (!cycle) return bad("cycleType", "must be Hour, Day, Week or Month");
    return *cycle;
}

std::string text_of(const http::Params& query, std::string_view name) {
    return std::string(query.get(name).value_or(""));
}

struct Bill {
    Time start;
    std::string product;
    std::string name;
    std::string owner;  // instance, or key
    std::int64_t input = 0;
    std::int64_t output = 0;
    std::optional<Prices> prices;
    Nanos amount;
    std::string key_name;
    std::string key_mask;
};

void write_bill(JsonText& out, const Bill& bill, Cycle cycle, const std::string& user, bool with_key) {
    auto price = [&](Nanos Prices::* which) { return bill.prices ? units_text((*bill.prices).*which) : "0"; };
    std::string amount = units_text(bill.amount);
    out.open('{').text("userId", user);
    out.text("startTime", seconds_text(bill.start))
        .text("endTime", seconds_text(next_period(cycle, bill.start)));
    out.text("billingMethod", "1").text("productName", bill.name).text("category", bill.product);
    out.text("ownerID", bill.owner);
    out.text("billNum0", std::to_string(bill.input)).text("billNum1", std::to_string(bill.output));
    out.text("basePrice0", price(&Prices::input_per_m)).text("basePrice1", price(&Prices::output_per_m));
    out.text("discountPrice0", price(&Prices::input_per_m));
    out.text("discountPrice1", price(&Prices::output_per_m));
    out.text("amount", amount).text("voucherAmount", "0").text("payAmount", amount);
    out.text("payAmountDisplay", money_text(bill.amount)).text("pricePrecision", price_precision);
    out.text("productId", bill.name);
    if (with_key) out.text("apikeyName", bill.key_name).text("apikeyMask", bill.key_mask);
    out.close();
}

std::string bills_text(const std::vector<Bill>& bills, Cycle cycle, const std::string& user, bool with_key) {
    JsonText out;
    out.open('{').open("bills", '[');
    for (const Bill& bill : bills) write_bill(out, bill, cycle, user, with_key);
    out.close().close();
    return out.take();
}

bool contains_ignoring_case(std::string_view text, std::string_view part) {
    return to_lower(text).contains(to_lower(part));
}

}  // namespace

Pages::Answer Pages::novita_balance(Request request) {
    auto balance = co_await billing_.balance(request.caller.account);
    if (!balance) co_return fail(std::move(balance.error()));
    JsonText out;
    out.open('{').text("availableBalance", units_text(balance->available));
    out.text("cashBalance", units_text(balance->paid)).text("creditLimit", "0");
    out.text("outstandingInvoices", units_text(balance->debt)).close();
    co_return json_answer(out.take());
}

Pages::Answer Pages::novita_bills(Request request) {
    auto cycle = cycle_of(request.query);
    if (!cycle) co_return fail(cycle.error());
    std::string category = text_of(request.query, "productCategory");
    if (!is_one_of(product_categories, category))
        co_return bad("productCategory",
                      "must be one of summary, gpu, llm, serverless, cloud_storage, gen_api");
    std::string narrower = text_of(request.query, "category");
    if (!narrower.empty() && !is_one_of(product_categories, narrower))
        co_return bad("category", "is no product category");
    auto window = window_of(request.query, clock_.now(), days(31));
    if (!window) co_return fail(window.error());
    std::string product = as_filter(category);
    if (!as_filter(narrower).empty()) {
        if (!product.empty() && product != narrower) co_return json_answer(R"({"bills":[]})");
        product = narrower;
    }
    std::string name = text_of(request.query, "productName");
    std::string owner = text_of(request.query, "ownerId");
    AccountId account = request.caller.account;
    auto work = [=, this](store::Tx& tx) -> Result<std::vector<Bill>> {
        std::vector<Bill> bills;
        PriceHistory history = PriceHistory::read(tx);
        UsageFilter filter{.account = account, .window = *window, .cycle = *cycle};
        filter.product = product;
        filter.name = name;
        if (owner.empty())  // metered use has no instance
            for (UsageSum& sum : sum_usage(tx, filter))
                bills.push_back({.start = sum.start,
                                 .product = sum.product,
                                 .name = sum.model,
                                 .owner = {},
                                 .input = sum.input,
                                 .output = sum.output,
                                 .prices = price_at(history, sum.model, sum.start),
                                 .amount = sum.charge,
                                 .key_name = {},
                                 .key_mask = {}});
        for (ProductSum& sum : sum_products(tx, account, *window, *cycle)) {
            if (!product.empty() && sum.product != product) continue;
            if (!owner.empty() && sum.reference != owner) continue;
            if (!contains_ignoring_case(sum.product, name)) continue;
            Bill bill{};
            bill.start = sum.start;
            bill.product = bill.name = sum.product;
            bill.owner = sum.reference;
            bill.amount = sum.charge;
            bills.push_back(std::move(bill));
        }
        std::ranges::sort(bills, {}, [](const Bill& bill) {
            return std::tie(bill.start, bill.product, bill.name, bill.owner);
        });
        return bills;
    };
    auto bills = co_await db_.read(std::move(work));
    if (!bills) co_return fail(std::move(bills.error()));
    co_return json_answer(bills_text(*bills, *cycle, owner_text(request.caller), false));
}

Pages::Answer Pages::novita_key_bills(Request request) {
    auto cycle = cycle_of(request.query);
    if (!cycle) co_return fail(cycle.error());
    std::string category = text_of(request.query, "category");
    if (!category.empty() && !is_one_of(key_categories, category))
        co_return bad("category", "must be one of llm, gen_api, web_search");
    for (std::string_view name : {"startTime", "endTime"})
        if (text_of(request.query, name).empty()) co_return bad(name, "is required");
    auto window = window_of(request.query, clock_.now(), days(*cycle == Cycle::hour ? 7 : 31));
    if (!window) co_return fail(window.error());
    auto names = co_await key_names(request.caller.account);
    if (!names) co_return fail(std::move(names.error()));
    UsageFilter filter{.account = request.caller.account, .window = *window, .cycle = *cycle, .by_key = true};
    filter.product = category;
    filter.name = text_of(request.query, "productName");
    auto work = [=, this, &names](store::Tx& tx) -> Result<std::vector<Bill>> {
        std::vector<Bill> bills;
        PriceHistory history = PriceHistory::read(tx);
        for (UsageSum& sum : sum_usage(tx, filter)) {
            auto key = names->find(sum.key);
            bills.push_back({.start = sum.start,
                             .product = sum.product,
                             .name = sum.model,
                             .owner = sum.key ? sum.key.text() : "",
                             .input = sum.input,
                             .output = sum.output,
                             .prices = price_at(history, sum.model, sum.start),
                             .amount = sum.charge,
                             .key_name = key == names->end() ? "" : key->second.name,
                             .key_mask = key == names->end() ? "" : key->second.hint});
        }
        return bills;
    };
    auto bills = co_await db_.read(std::move(work));
    if (!bills) co_return fail(std::move(bills.error()));
    co_return json_answer(bills_text(*bills, *cycle, owner_text(request.caller), true));
}

Pages::Answer Pages::novita_transactions(Request request) {
    auto number = request.query.integer("pageNo", 1, 1, 1'000'000);
    auto size = request.query.integer("pageSize", 20, 1, 1'000);
    if (!number) co_return fail(number.error());
    if (!size) co_return fail(size.error());
    for (std::string_view name : {"pageNo", "pageSize"})
        if (text_of(request.query, name).empty()) co_return bad(name, "is required");
    MovementFilter filter{.account = request.caller.account};
    std::string type = text_of(request.query, "transactionType");
    if (type == "recharge") filter.flow = Flow::recharge;
    if (type == "refund") filter.flow = Flow::refund;
    if (type == "consume") filter.flow = Flow::consume;
    if (!type.empty() && filter.flow == Flow::any)
        co_return bad("transactionType", "must be recharge, refund or consume");
    auto from = seconds_of(request.query, "transactionTimeStart");
    auto to = seconds_of(request.query, "transactionTimeEnd");
    if (!from) co_return fail(from.error());
    if (!to) co_return fail(to.error());
    filter.window.from = *from;
    if (to->time_since_epoch().count() > 0) filter.window.to = *to + seconds(1);
    // What is in the ledger has succeeded, and none of it came by the channels that can be asked for.
    std::string status = text_of(request.query, "status");
    bool is_none =
        (!status.empty() && status != "success") || !text_of(request.query, "transactionChannel").empty();
    std::string serial = text_of(request.query, "serialNumber");
    if (!serial.empty()) filter.id = PostingId::parse(serial);
    if (!serial.empty() && !filter.id) is_none = true;
    struct Found {
        std::vector<MovementRow> rows;
        std::int64_t total = 0;
    };
    auto work = [=](store::Tx& tx) -> Result<Found> {
        if (is_none) return Found{};
        return Found{list_movements(tx, filter, *size, (*number - 1) * *size), count_movements(tx, filter)};
    };
    auto found = co_await db_.read(std::move(work));
    if (!found) co_return fail(std::move(found.error()));
    JsonText out;
    out.open('{').open("data", '[');
    for (const MovementRow& row : found->rows) {
        Flow flow = flow_of(row);
        out.open('{').text("serialNumber", row.id.text()).text("userId", owner_text(request.caller));
        out.text("transactionTime", seconds_text(row.created_at));
        out.text("transactionType", flow == Flow::refund     ? "refund"
                                    : flow == Flow::recharge ? "recharge"
                                                             : "consume");
        out.text("transactionChannel", row.kind == "payment" ? "Card" : "Platform");
        out.text("orderType", row.kind).text("status", "success");
        out.text("amount", units_text(row.change)).text("tax", units_text(row.tax));
        out.text("orderId", row.reference)
            .text("productCategory", row.product)
            .text("remark", row.note)
            .close();
    }
    out.close().number("total", found->total).close();
    co_return json_answer(out.take());
}

Pages::Answer Pages::novita_user(Request request) {
    auto balance = co_await billing_.balance(request.caller.account);
    if (!balance) co_return fail(std::move(balance.error()));
    JsonText out;
    out.open('{').text("user_id", owner_text(request.caller)).text("email", request.caller.email);
    out.text("username", request.caller.name).raw("credit_balance", units_text(balance->available));
    out.open("free_trial", '{').close().open("allow_features", '[').close().close();
    co_return json_answer(out.take());
}

}  // namespace nebula::billing::bills
