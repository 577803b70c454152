// Novita's monthly bills and fixed-term (subscription) bills.
#include <algorithm>
#include <array>

#include "base/text.hpp"
#include "billing/bills/month.hpp"
#include "billing/bills/pages.hpp"
#include "billing/bills/wire.hpp"

namespace nebula::billing::bills {
namespace {

using namespace std::chrono;

constexpr std::array fixed_term_categories{"summary",    "gpu",           "local_storage", "image",
                                           "serverless", "cloud_storage", "bare_metal"};

std::string owner_text(const accounts::Caller& caller) {
    return caller.user ? caller.user.text() : caller.account.text();
}

// The months that are not closed yet: the current one, and the last one until its bill is made.
std::vector<MonthBill> open_months(store::Tx& tx, AccountId account, Time now) {
    std::vector<MonthBill> open;
    Time start = period_start(Cycle::month, now);
    std::string current = month_text(start);
    std::string last = month_text(start - hours(1));
    open.push_back(sum_month(tx, account, current));
    if (list_bills(tx, account, last, 1, 0).empty()) {
        MonthBill bill = sum_month(tx, account, last);
        if (bill.total.value != 0) open.push_back(bill);
    }
    return open;
}

void write_month(JsonText& out, const MonthBill& bill, const std::string& user) {
    Window window = parse_month(bill.month).value();
    std::string total = units_text(bill.total);
    bool is_closed = bill.invoice != 0;
    out.open('{').text("billId", bill.account.text() + "-" + bill.month).text("userId", user);
    out.text("billingMonth", bill.month).text("totalAmount", total).text("originTotalAmount", total);
    out.text("voucherPayAmount", "0").text("cashPayAmount", total).text("debtAmount", "0");
    out.text("status", is_closed ? "paid" : "pending");
    out.text("invoiceUrl",
             is_closed ? "/console/api/billing/invoices/" + std::to_string(bill.invoice) + ".pdf" : "");
    out.text("startTime", seconds_text(window.from)).text("endTime", seconds_text(window.to));
    out.text("repaidAmount", "0").close();
}

}  // namespace

Pages::Answer Pages::novita_monthly_bills(Request request) {
    auto page = request.query.integer("page", 1, 1, 100'000);
    auto size = request.query.integer("pageSize", 20, 1, 500);
    if (!page) co_return fail(page.error());
    if (!size) co_return fail(size.error());
    std::string first(request.query.get("startMonth").value_or(""));
    if (!first.empty() && !parse_month(first))
        co_return fail(Code::invalid_request, "'startMonth' must look like 2026-10", "startMonth");
    Time now = clock_.now();
    AccountId account = request.caller.account;
    auto work = [=](store::Tx& tx) -> Result<std::vector<MonthBill>> {
        auto open = open_months(tx, account, now);
        std::erase_if(open, [&](const MonthBill& bill) { return bill.month < first; });
        std::int64_t skip = (*page - 1) * *size;
        auto open_count = static_cast<std::int64_t>(open.size());
        std::vector<MonthBill> found;
        for (std::int64_t i = skip; i < std::min(open_count, skip + *size); ++i)
            found.push_back(open[static_cast<std::size_t>(i)]);
        std::int64_t left = *size - static_cast<std::int64_t>(found.size());
        for (MonthBill& bill :
             list_bills(tx, account, first, left, std::max<std::int64_t>(0, skip - open_count)))
            found.push_back(std::move(bill));
        return found;
    };
    auto found = co_await db_.read(std::move(work));
    if (!found) co_return fail(std::move(found.error()));
    JsonText out;
    out.open('{').open("data", '[');
    for (const MonthBill& bill : *found) write_month(out, bill, owner_text(request.caller));
    out.close().close();
    co_return json_answer(out.take());
}

Pages::Answer Pages::novita_fixed_term_bills(Request request) {
    std::string category(request.query.get("category").value_or("summary"));
    auto is_category = [&](const char* known) { return category == known; };
    if (std::ranges::none_of(fixed_term_categories, is_category))
        co_return fail(Code::invalid_request, "'category' is no category of fixed-term bills", "category");
    constexpr std::int64_t year_9999 = 253'402'300'799;
    auto from = request.query.integer("startTime", 0, 0, year_9999);
    auto to = request.query.integer("endTime", 0, 0, year_9999);
    if (!from) co_return fail(from.error());
    if (!to) co_return fail(to.error());
    std::string name = to_lower(request.query.get("productName").value_or(""));
    std::string owner(request.query.get("ownerId").value_or(""));
    // What is sold for a fixed term here are plans; they belong to no other category.
    bool is_none = category != "summary" || !owner.empty();
    MovementFilter filter{.account = request.caller.account, .kind = "plan_fee"};
    auto work = [=](store::Tx& tx) -> Result<std::vector<MovementRow>> {
        if (is_none) return std::vector<MovementRow>{};
        return list_movements(tx, filter, 1'000, 0);
    };
    auto found = co_await db_.read(std::move(work));
    if (!found) co_return fail(std::move(found.error()));
    JsonText out;
    out.open('{').open("bills", '[');
    for (std::size_t i = 0; i < found->size(); ++i) {
        const MovementRow& fee = (*found)[i];
        std::string plan = fee.product.empty() ? fee.reference : fee.product;
        if (plan.empty()) plan = fee.note;
        if (!name.empty() && !to_lower(plan).contains(name)) continue;
        if (fee.created_at < Time(seconds(*from)) || (*to > 0 && fee.created_at >= Time(seconds(*to))))
            continue;
        std::string amount = units_text(Nanos{} - fee.change);
        std::string user = owner_text(request.caller);
        Time end = sys_days(year_month_day(floor<days>(fee.created_at)) + months(1));
        out.open('{').text("userId", user).text("startTime", seconds_text(fee.created_at));
        out.text("endTime", seconds_text(end)).text("memberId", user).text("productName", plan);
        out.text("productCategory", "plan").text("ownerID", "").text("tradeMode", "monthly");
        out.text("tradeType", i + 1 == found->size() ? "monthly_new_buy" : "monthly_re_buy");
        out.text("basePrice", amount).text("billNum", "1").text("amount", amount).text("voucherAmount", "0");
        out.text("payAmount", amount).text("payAmountDisplay", money_text(Nanos{} - fee.change));
        out.text("pricePrecision", "10000").text("createTime", seconds_text(fee.created_at));
        out.text("cycle", "1").text("storageDays", "0").close();
    }
    out.close().close();
    co_return json_answer(out.take());
}

}  // namespace nebula::billing::bills
