#include "billing/bills/month.hpp"

#include "billing/bills/queries.hpp"

namespace nebula::billing::bills {
namespace {

constexpr const char* columns =
    "month, user_id, usage, late, charges, fees, corrections, total, written_off, paid_in, invoice_number,"
    " created_at";

MonthBill read_row(const store::Row& row, AccountId account) {
    MonthBill bill;
    bill.account = account;
    bill.month = row.text(0);
    bill.user = UserId::from_db(row.i64(1));
    bill.usage = Nanos{row.i64(2)};
    bill.late = Nanos{row.i64(3)};
    bill.charges = Nanos{row.i64(4)};
    bill.fees = Nanos{row.i64(5)};
    bill.corrections = Nanos{row.i64(6)};
    bill.total = Nanos{row.i64(7)};
    bill.written_off = Nanos{row.i64(8)};
    bill.paid_in = Nanos{row.i64(9)};
    bill.invoice = row.is_null(10) ? 0 : row.i64(10);
    bill.created_at = from_micros(row.i64(11));
    return bill;
}

std::optional<MonthBill> find_bill(store::Tx& tx, AccountId account, const std::string& month) {
    static const std::string text =
        std::string("SELECT ") + columns + " FROM bills WHERE account_id = $1 AND month = $2";
    store::Sql find{"bills.find", text.c_str()};
    std::optional<MonthBill> found;
    tx.one(find, {account.db(), std::string_view(month)},
           [&](const store::Row& row) { found = read_row(row, account); });
    return found;
}

std::string grouped(std::int64_t number) {
    std::string digits = std::to_string(number);
    for (std::ptrdiff_t at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3)
        digits.insert(static_cast<std::size_t>(at), ",");
    return digits;
}

std::string use_detail(const UsageSum& sum) {
    std::string text = grouped(sum.requests) + " requests, " + grouped(sum.input) + " input and " +
                       grouped(sum.output) + " output tokens";
    if (sum.quota_input + sum.quota_output > 0)
        text +=
            "; of these the plan paid for " + grouped(sum.quota_input) + " and " + grouped(sum.quota_output);
    return text;
}

std::vector<InvoiceLine> lines_of(store::Tx& tx, const MonthBill& bill, Window window) {
    std::vector<InvoiceLine> lines;
    for (const UsageSum& sum :
         sum_usage(tx, {.account = bill.account, .window = window, .cycle = Cycle::month}))
        lines.push_back({sum.product + ": " + sum.model, use_detail(sum), sum.charge});
    if (bill.late.value != 0) lines.push_back({"Use of the month before, recorded later", "", bill.late});
    for (const ProductSum& sum : sum_products(tx, bill.account, window, Cycle::month))
        lines.push_back({sum.product.empty() ? "Charge" : sum.product, sum.reference, sum.charge});
    if (bill.fees.value != 0) lines.push_back({"Plan", "", bill.fees});
    if (bill.corrections.value != 0)
        lines.push_back({"Corrections of earlier charges", "", Nanos{} - bill.corrections});
    return lines;
}

bool insert_bill(store::Tx& tx, const MonthBill& bill) {
    static constexpr store::Sql insert{
        "bills.insert",
        "INSERT INTO bills (account_id, month, user_id, usage, late, charges, fees, corrections, total,"
        " written_off, paid_in, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
        " ON CONFLICT (account_id, month) DO NOTHING"};
    return tx.exec(insert, {bill.account.db(), std::string_view(bill.month), bill.user.db(), bill.usage.value,
                            bill.late.value, bill.charges.value, bill.fees.value, bill.corrections.value,
                            bill.total.value, bill.written_off.value, bill.paid_in.value,
                            to_micros(bill.created_at)}) == 1;
}

}  // namespace

MonthBill sum_month(store::Tx& tx, AccountId account, const std::string& month) {
    MonthBill bill;
    bill.account = account;
    bill.month = month;
    Window window = parse_month(month).value();
    UsageSum used = total_usage(tx, account, window);
    bill.usage = used.charge;
    bill.written_off = used.written_off;
    std::string before = month_text(window.from - std::chrono::hours(1));
    if (auto earlier = find_bill(tx, account, before))
        bill.late = total_usage(tx, account, parse_month(before).value()).charge - earlier->usage;
    for (const KindSum& sum : sum_movements(tx, account, window)) {
        if (sum.kind == "charge") bill.charges -= sum.change;
        if (sum.kind == "plan_fee") bill.fees -= sum.change;
        if (sum.kind == "correction") bill.corrections += sum.change;
        if (sum.kind == "payment" || sum.kind == "refund" || sum.kind.starts_with("dispute"))
            bill.paid_in += sum.change;
    }
    bill.total = bill.usage + bill.late + bill.charges + bill.fees - bill.corrections;
    return bill;
}

std::vector<MonthBill> list_bills(store::Tx& tx, AccountId account, const std::string& first_month,
                                  std::int64_t limit, std::int64_t offset) {
    static const std::string text = std::string("SELECT ") + columns +
                                    " FROM bills WHERE account_id = $1 AND month >= $2"
                                    " ORDER BY month DESC LIMIT $3 OFFSET $4";
    store::Sql list{"bills.list", text.c_str()};
    std::vector<MonthBill> found;
    tx.query(list, {account.db(), std::string_view(first_month), limit, offset},
             [&](const store::Row& row) { found.push_back(read_row(row, account)); });
    return found;
}

bool close_account(store::Tx& tx, const Clock& clock, AccountId account, UserId user,
                   const std::string& customer, const std::string& month) {
    static constexpr store::Sql number{
        "bills.set_number", "UPDATE bills SET invoice_number = $3 WHERE account_id = $1 AND month = $2"};
    if (find_bill(tx, account, month)) return false;
    MonthBill bill = sum_month(tx, account, month);
    bill.user = user;
    bill.created_at = clock.now();
    // Somebody else may close the same month now: who comes second waits here and finds it closed.
    if (!insert_bill(tx, bill)) return false;
    Invoice statement;
    statement.account = account;
    statement.user = user;
    statement.kind = "Statement";
    statement.period = month;
    // Prepaid: credits have paid already, and tax was paid when they were bought.
    statement.net = statement.total = statement.paid = bill.total;
    statement.customer = customer;
    statement.lines = lines_of(tx, bill, parse_month(month).value());
    statement.created_at = bill.created_at;
    insert_invoice(tx, statement);
    tx.exec(number, {account.db(), std::string_view(month), statement.number});
    return true;
}

}  // namespace nebula::billing::bills
