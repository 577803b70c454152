#pragma once
// What the pages read: sums over usage_hours and rows of movements, as functions of a transaction. Private to
// bills. Nothing here reads usage_records.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.hpp"
#include "base/nanos.hpp"
#include "billing/billing.hpp"
#include "billing/bills/periods.hpp"
#include "store/store.hpp"

namespace nebula::billing::bills {

/// Sums of metered use in one period.
struct UsageSum {
    Time start;         // of the period
    KeyId key;          // empty unless asked for
    std::string model;  // empty unless asked for
    std::string product;
    std::int64_t requests = 0;
    std::int64_t input = 0;  // tokens, cached ones included
    std::int64_t cached = 0;
    std::int64_t output = 0;
    std::int64_t quota_input = 0;
    std::int64_t quota_output = 0;
    Nanos charge;
    Nanos written_off;
    std::int64_t cache_write = 0;  // of input
    std::int64_t reasoning = 0;    // of output
    std::int64_t units = 0;        // images, seconds …

    void add(const UsageSum& other);
};
struct UsageFilter {
    AccountId account;
    Window window;  // edges that are no full hour count from the hour they are in
    Cycle cycle = Cycle::hour;
    bool by_key = false;
    bool by_model = true;
    std::string product = {};               // empty = all
    std::string name = {};                  // part of the model's id, any case; empty = all
    std::optional<std::string> model = {};  // exactly this one
    std::optional<KeyId> key = {};
};
/// In order of period, then key, product and model.
std::vector<UsageSum> sum_usage(store::Tx& tx, const UsageFilter& filter);
/// What requests with the customer's own provider keys were worth by our list, as the fee tells it: by day,
/// key and model.
struct ByokSum {
    Time day;
    KeyId key;
    std::string model;
    Nanos list;
};
std::vector<ByokSum> byok_sums(store::Tx& tx, AccountId account, Window window);
/// One sum over a window, whatever the model.
UsageSum total_usage(store::Tx& tx, AccountId account, Window window);

struct HourRow {
    Time hour;
    Nanos metered;  // charges of requests
    Nanos compute;  // charges for instances and storage
};
struct HourPage {
    std::vector<HourRow> rows;
    std::int64_t total = 0;
};
/// Hours with use or charges, newest first.
HourPage list_hours(store::Tx& tx, AccountId account, std::int64_t limit, std::int64_t offset);

struct MovementRow {
    PostingId id;
    std::string kind;
    Nanos change;  // of what the customer has: credits less debt
    Nanos tax;
    std::string note;
    std::string reference;
    std::string product;
    Time created_at;
};
enum class Flow { any, recharge, refund, consume };
struct MovementFilter {
    AccountId account;
    Window window = {Time::min(), Time::max()};
    Flow flow = Flow::any;
    std::optional<PostingId> id = {};
    std::string kind = {};  // empty = all
};
/// Newest first.
std::vector<MovementRow> list_movements(store::Tx& tx, const MovementFilter& filter, std::int64_t limit,
                                        std::int64_t offset);
std::int64_t count_movements(store::Tx& tx, const MovementFilter& filter);
Flow flow_of(const MovementRow& movement);

/// Charges for products that are not metered by request (movements of kind charge), by period, product and
/// what was charged for.
struct ProductSum {
    Time start;
    std::string product;
    std::string reference;
    Nanos charge;
};
std::vector<ProductSum> sum_products(store::Tx& tx, AccountId account, Window window, Cycle cycle);

struct KindSum {
    std::string kind;
    std::string product;
    Nanos change;
    Nanos tax;
};
/// Movements of a window by kind and product.
std::vector<KindSum> sum_movements(store::Tx& tx, AccountId account, Window window);

/// Of the ledger: in and out since the beginning; credits = in - used.
struct Lifetime {
    Nanos credits;  // all that came in
    Nanos used;     // all that was charged, corrections taken off
};
Lifetime read_lifetime(store::Tx& tx, AccountId account);

/// Accounts above `after` with use or movements in the window, ascending; at most `limit`.
std::vector<AccountId> active_accounts(store::Tx& tx, AccountId after, Window window, bool with_movements,
                                       std::int64_t limit);
/// As the tables have it; empty for none.
std::string account_name(store::Tx& tx, AccountId account);

}  // namespace nebula::billing::bills
