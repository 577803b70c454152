#pragma once
// The pages of every dialect as functions from a query to an answer, so that tests need no connection.
// Private to bills.

#include <map>
#include <string>

#include "accounts/guard.hpp"
#include "billing/bills.hpp"
#include "billing/bills/invoice.hpp"
#include "billing/bills/price_history.hpp"
#include "billing/bills/queries.hpp"
#include "http/json_api.hpp"

namespace nebula::billing::bills {

struct Request {
    http::Params query;
    accounts::Caller caller;
    std::string name = {};  // what the path names: an invoice, a request
};

/// The platform's and the console's paging.
struct Paging {
    std::int64_t limit;
    std::int64_t offset;
};

class Pages {
   public:
    using Answer = Async<Result<http::Response>>;

    Pages(const InvoiceSettings& seller, store::Db& db, Billing& billing, accounts::Accounts& accounts,
          const Clock& clock, Bills& bills)
        : seller_(seller), db_(db), billing_(billing), accounts_(accounts), clock_(clock), bills_(bills) {}

    void register_routes(http::Router& router, accounts::Guard& guard);
    void set_list_prices(Bills::ListPrices prices) { list_prices_ = std::move(prices); }

    // novita.cpp
    Answer novita_balance(Request request);
    Answer novita_bills(Request request);
    Answer novita_key_bills(Request request);
    Answer novita_monthly_bills(Request request);
    Answer novita_fixed_term_bills(Request request);
    Answer novita_transactions(Request request);
    Answer novita_user(Request request);

    // platform.cpp
    Answer platform_credits(Request request);
    Answer platform_history(Request request);
    Answer platform_invoices(Request request);
    Answer platform_statistics(Request request);
    Answer invoice_file(Request request);  // "12" or "12.pdf"

    // openrouter.cpp
    Answer openrouter_credits(Request request);
    Answer openrouter_activity(Request request);

    // console.cpp
    Answer console_summary(Request request);
    Answer console_usage(Request request);
    Answer console_invoices(Request request);
    Answer console_transactions(Request request);
    Answer receipt(Request request);
    Answer receipt_key(Request request);
    Answer operator_prices(Request request);
    Async<void> operator_set_price(http::Exchange& exchange, accounts::Caller caller);
    Async<void> operator_rerate(http::Exchange& exchange, accounts::Caller caller);
    Async<void> operator_close_month(http::Exchange& exchange, accounts::Caller caller);

    // export.cpp
    Async<void> export_csv(http::Exchange& exchange, accounts::Caller caller);
    /// What a console page asks for: from, to, group, by, model, key, product.
    struct UsageQuery {
        UsageFilter filter;
        Cycle cycle = Cycle::day;
    };
    Result<UsageQuery> usage_query(const http::Params& query, AccountId account, bool is_export) const;
    static std::string csv_head(const UsageQuery& asked);
    /// The lines of one piece of the window.
    Async<Result<std::string>> csv_piece(UsageQuery asked, Window piece);

   private:
    using Page = Answer (Pages::*)(Request);
    struct Names {
        std::string name;
        std::string hint;
        UserId creator;
        Sha256 hash;
    };
    using KeyNames = std::map<KeyId, Names>;

    struct FoundInvoices {
        std::vector<Invoice> rows;
        std::int64_t total = 0;
    };
    Async<Result<FoundInvoices>> invoices_of(AccountId account, Paging asked);

    /// `param` is a literal of the route table.
    Async<void> serve(http::Exchange& exchange, accounts::Caller caller, Page page, std::string_view param);
    Async<Result<KeyNames>> key_names(AccountId account);
    std::optional<Prices> price_at(const PriceHistory& history, std::string_view model, Time time) const;

    const InvoiceSettings& seller_;
    store::Db& db_;
    Billing& billing_;
    accounts::Accounts& accounts_;
    const Clock& clock_;
    Bills& bills_;
    Bills::ListPrices list_prices_;
};

/// 200, application/json.
http::Response json_answer(std::string body);
/// {"data":…,"message":…,"status":"success"} around JSON text.
http::Response platform_answer(std::string_view data, std::string_view message);
Result<Paging> paging(const http::Params& query, std::int64_t limit_fallback);

}  // namespace nebula::billing::bills
