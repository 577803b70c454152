#pragma once
// Invoices: rows with numbers that have no gaps, and their PDF. Private to bills but for
// Bills::add_payment_invoice.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/ids.hpp"
#include "base/nanos.hpp"
#include "billing/bills.hpp"
#include "store/store.hpp"

namespace nebula::billing::bills {

struct InvoiceLine {
    std::string text;    // "Credits", "llm: qwen3"
    std::string detail;  // "1,204 requests, 3,200,000 input and 1,000,000 output tokens"
    Nanos amount;        // may be negative
};

struct Invoice {
    std::int64_t number = 0;
    AccountId account;
    UserId user;
    std::string kind;    // Reload | Statement
    std::string period;  // of a statement: "2026-10"
    Nanos net;
    Nanos tax;
    Nanos total;
    Nanos paid;
    std::string tax_name;
    std::string tax_percent;  // decimal text, may be empty
    PostingId movement;       // of a reload, may be empty
    std::string reference;
    // As the billing profile said when the invoice was made.
    std::string customer;          // the name; without one in the profile the account's
    std::string customer_address;  // lines separated by '\n'
    std::string customer_country;
    std::string customer_tax_number;
    std::vector<InvoiceLine> lines;
    Time created_at;
};

/// Gives the invoice its number and the customer of the account's billing profile (`customer` stays when the
/// profile has no name) and writes it. The counter's row stays locked until the transaction ends, so a
/// rollback leaves no hole. Throws UniqueViolation for a movement or period that has its invoice.
void insert_invoice(store::Tx& tx, Invoice& invoice);
std::optional<Invoice> find_invoice(store::Tx& tx, AccountId account, std::int64_t number);
std::optional<std::int64_t> invoice_of_movement(store::Tx& tx, PostingId movement);
/// Newest first, without lines.
std::vector<Invoice> list_invoices(store::Tx& tx, AccountId account, std::int64_t limit, std::int64_t offset);
std::int64_t count_invoices(store::Tx& tx, AccountId account);

/// "NB-000042"
std::string invoice_name(const InvoiceSettings& seller, std::int64_t number);
/// The same bytes for the same invoice and settings. Names outside Western European letters need the DejaVu
/// font (package fonts-dejavu-core) on this machine, else their letters become '?'.
Result<std::string> invoice_pdf(const InvoiceSettings& seller, const Invoice& invoice);

}  // namespace nebula::billing::bills
