#pragma once
// Looking at money: bills, history, transactions, statistics, invoices. Reads hourly sums that the committer
// keeps (usage_hours), never the usage records themselves, so every page is fast at any size. Also: re-rating
// and the month close.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "accounts/accounts.hpp"
#include "accounts/guard.hpp"
#include "billing/billing.hpp"
#include "billing/commerce.hpp"
#include "http/http.hpp"
#include "store/store.hpp"

namespace nebula::http {
class Fields;
}

namespace nebula::billing {

/// The members input_per_m, output_per_m, cached_input_per_m, cache_write_per_m, reasoning_per_m, request,
/// unit of what somebody sent. Only the first two are required: what is not told costs what other tokens
/// cost, or nothing.
Prices read_prices(http::Fields& fields);

struct InvoiceSettings {  // [invoice]
    std::string seller_name = "Nebula";
    std::vector<std::string> seller_lines;  // address, registration and tax numbers, as printed
    std::string number_prefix = "NB-";      // numbers have no gaps: NB-000001
    std::string footer;
    void describe(settings::Visitor& v);
};

/// Thread-safe.
class Bills {
   public:
    Bills(const InvoiceSettings& settings, store::Db& db, Billing& billing, Commerce& commerce,
          accounts::Accounts& accounts, const Clock& clock, metrics::Registry& metrics);
    ~Bills();

    /// A new price of a model from a time on, for re-rating and for the record (live prices are the
    /// catalog's). `by` here and below: the operator who asks, for the audit log, written with the change;
    /// null for the command line and what is done by itself.
    Async<Result<void>> set_price(std::string model, Prices prices, Time effective_from,
                                  const accounts::Caller* by = nullptr);
    /// Prices of the catalog as they are now, where no recorded version holds: what the bills' unit prices
    /// show. Before register_routes().
    using ListPrices = std::function<std::optional<Prices>(std::string_view model)>;
    void set_list_prices(ListPrices prices);
    struct Rerated {
        std::int64_t records = 0;
        std::int64_t corrected = 0;  // accounts with a correction
        Nanos difference;            // sum of corrections; positive = given back
    };
    /// Rates the usage records of [from, to) anew by the price versions and posts one correction per account
    /// for the difference to what was charged and corrected before. Running it again changes nothing.
    Async<Result<Rerated>> rerate(Time from, Time to, std::optional<AccountId> account, bool dry_run,
                                  const accounts::Caller* by = nullptr);
    /// Closes a month ("2026-10") that is over: bills and statement invoices for every account with activity.
    /// Idempotent; numbers without gaps. Returns how many were made.
    Async<Result<std::int64_t>> close_month(std::string month, const accounts::Caller* by = nullptr);
    /// Closes the last month when it is over (every node may call it, every minute).
    Async<void> run_due();
    /// Invoice for a payment that has been posted, in its transaction; gapless number. Used by Commerce
    /// through this function so that payment and invoice are one.
    static std::int64_t add_payment_invoice(store::Tx& tx, const Clock& clock, AccountId account, UserId user,
                                            Nanos net, Nanos tax, std::string_view tax_name,
                                            PostingId movement, std::string_view reference,
                                            std::string_view tax_percent = {});

    /// Novita /openapi/v1/billing/…, /openapi/v1/bill/transaction, /v3/user; platform /api/v1/users/credits…,
    /// /users/invoices…, /serverless/llm-statistics; OpenRouter /api/v1/credits, /activity; console
    /// /console/api/billing/{usage,invoices,export.csv,…}; receipts.
    void register_routes(http::Router& router, accounts::Guard& guard);

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nebula::billing
