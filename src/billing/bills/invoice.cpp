#include "billing/bills/invoice.hpp"

#include <boost/json/parse.hpp>

#include "billing/bills/wire.hpp"
#include "billing/commerce/tables.hpp"

namespace nebula::billing::bills {
namespace {

namespace json = boost::json;

constexpr const char* columns =
    "number, account_id, user_id, kind, period, net, tax, total, paid, tax_name, tax_percent, movement_id,"
    " reference, customer, created_at, customer_address, customer_country, customer_tax_number";

std::string lines_text(const std::vector<InvoiceLine>& lines) {
    JsonText out;
    out.open('[');
    for (const InvoiceLine& line : lines) {
        out.open('{').text("text", line.text).text("detail", line.detail);
        out.number("nanos", line.amount.value).close();
    }
    out.close();
    return out.take();
}

std::vector<InvoiceLine> parse_lines(std::string_view text) {
    std::vector<InvoiceLine> lines;
    boost::system::error_code failed;
    json::value value = json::parse(text, failed);
    if (failed || !value.is_array()) throw store::DbError("an invoice's lines are no JSON array");
    for (const json::value& item : value.get_array()) {
        const json::object& line = item.as_object();
        lines.push_back({std::string(line.at("text").as_string()), std::string(line.at("detail").as_string()),
                         Nanos{line.at("nanos").as_int64()}});
    }
    return lines;
}

Invoice read_row(const store::Row& row) {
    Invoice read;
    read.number = row.i64(0);
    read.account = AccountId::from_db(row.i64(1));
    read.user = UserId::from_db(row.i64(2));
    read.kind = row.text(3);
    read.period = row.text(4);
    read.net = Nanos{row.i64(5)};
    read.tax = Nanos{row.i64(6)};
    read.total = Nanos{row.i64(7)};
    read.paid = Nanos{row.i64(8)};
    read.tax_name = row.text(9);
    read.tax_percent = row.text(10);
    if (!row.is_null(11)) read.movement = PostingId::from_db(row.i64(11));
    read.reference = row.text(12);
    read.customer = row.text(13);
    read.created_at = from_micros(row.i64(14));
    read.customer_address = row.text(15);
    read.customer_country = row.text(16);
    read.customer_tax_number = row.text(17);
    return read;
}

void set_customer(store::Tx& tx, Invoice& invoice) {
    commerce::Profile profile = commerce::sql::profile(tx, invoice.account);
    if (!profile.name.empty()) invoice.customer = profile.name;
    invoice.customer_address = profile.address;
    invoice.customer_country = profile.country;
    invoice.customer_tax_number = profile.tax_number;
}

}  // namespace

void insert_invoice(store::Tx& tx, Invoice& invoice) {
    static constexpr store::Sql take{"bills.take_number",
                                     "UPDATE invoice_counter SET last_number = last_number + 1 WHERE id = 1"};
    static constexpr store::Sql taken{"bills.taken_number",
                                      "SELECT last_number FROM invoice_counter WHERE id = 1"};
    static constexpr store::Sql insert{
        "bills.insert_invoice",
        "INSERT INTO invoices (number, account_id, user_id, kind, period, net, tax, total, paid, tax_name,"
        " tax_percent, movement_id, reference, customer, lines, created_at, customer_address,"
        " customer_country, customer_tax_number)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)"};
    set_customer(tx, invoice);
    tx.exec(take);
    bool is_there = tx.one(taken, {}, [&](const store::Row& row) { invoice.number = row.i64(0); });
    if (!is_there) throw store::DbError("the row of invoice_counter is missing");
    std::string lines = lines_text(invoice.lines);
    store::Param movement = nullptr;
    if (invoice.movement) movement = invoice.movement.db();
    tx.exec(
        insert,
        {invoice.number, invoice.account.db(), invoice.user.db(), std::string_view(invoice.kind),
         std::string_view(invoice.period), invoice.net.value, invoice.tax.value, invoice.total.value,
         invoice.paid.value, std::string_view(invoice.tax_name), std::string_view(invoice.tax_percent),
         movement, std::string_view(invoice.reference), std::string_view(invoice.customer),
         std::string_view(lines), to_micros(invoice.created_at), std::string_view(invoice.customer_address),
         std::string_view(invoice.customer_country), std::string_view(invoice.customer_tax_number)});
}

std::optional<Invoice> find_invoice(store::Tx& tx, AccountId account, std::int64_t number) {
    static const std::string text =
        "SELECT " + std::string(columns) + ", lines FROM invoices WHERE number = $1 AND account_id = $2";
    store::Sql find{"bills.find_invoice", text.c_str()};
    std::optional<Invoice> found;
    tx.one(find, {number, account.db()}, [&](const store::Row& row) {
        found = read_row(row);
        found->lines = parse_lines(row.text(18));
    });
    return found;
}

std::optional<std::int64_t> invoice_of_movement(store::Tx& tx, PostingId movement) {
    static constexpr store::Sql find{"bills.invoice_of_movement",
                                     "SELECT number FROM invoices WHERE movement_id = $1"};
    std::optional<std::int64_t> found;
    tx.one(find, {movement.db()}, [&](const store::Row& row) { found = row.i64(0); });
    return found;
}

std::vector<Invoice> list_invoices(store::Tx& tx, AccountId account, std::int64_t limit,
                                   std::int64_t offset) {
    static const std::string text =
        "SELECT " + std::string(columns) +
        " FROM invoices WHERE account_id = $1 ORDER BY number DESC LIMIT $2 OFFSET $3";
    store::Sql list{"bills.list_invoices", text.c_str()};
    std::vector<Invoice> found;
    tx.query(list, {account.db(), limit, offset},
             [&](const store::Row& row) { found.push_back(read_row(row)); });
    return found;
}

std::int64_t count_invoices(store::Tx& tx, AccountId account) {
    static constexpr store::Sql count{"bills.count_invoices",
                                      "SELECT count(*) FROM invoices WHERE account_id = $1"};
    std::int64_t found = 0;
    tx.one(count, {account.db()}, [&](const store::Row& row) { found = row.i64(0); });
    return found;
}

std::string invoice_name(const InvoiceSettings& seller, std::int64_t number) {
    std::string digits = std::to_string(number);
    if (digits.size() < 6) digits.insert(0, 6 - digits.size(), '0');
    return seller.number_prefix + digits;
}

}  // namespace nebula::billing::bills
