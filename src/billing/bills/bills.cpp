// The service: prices, re-rating, month close, and the table of routes.
#include "billing/bills.hpp"

#include <algorithm>
#include <atomic>

#include "accounts/audit.hpp"
#include "base/crypto.hpp"
#include "base/log.hpp"
#include "billing/bills/month.hpp"
#include "billing/bills/pages.hpp"
#include "billing/bills/rerate.hpp"
#include "billing/bills/wire.hpp"

namespace nebula::billing {

using namespace bills;

namespace {

constexpr std::int64_t accounts_per_page = 200;
constexpr std::int64_t records_per_page = 5'000;
constexpr std::size_t records_per_correction = 100'000;
constexpr int months_looked_back = 3;

Error not_over(const std::string& month) {
    return {Code::invalid_request, "'" + month + "' is not over yet", "month"};
}

using By = std::optional<accounts::Caller>;

By copy_of(const accounts::Caller* by) { return by == nullptr ? By() : By(*by); }

// The same records with the same amounts give the same key, whoever runs it and however often.
std::string correction_key(AccountId account, const std::vector<Rerating>& changes) {
    std::string content = account.text();
    for (const Rerating& change : changes)
        content += ";" + std::to_string(change.id) + ":" + std::to_string(change.was.value) + ":" +
                   std::to_string(change.due.value);
    return "rerate:" + to_hex(sha256(content).bytes);
}

}  // namespace

void InvoiceSettings::describe(settings::Visitor& v) {
    v.field({.name = "seller_name", .help = "Who sells, as printed on invoices."}, seller_name);
    v.field({.name = "seller_lines",
             .help = "Address, registration and tax numbers of the seller, one per line."},
            seller_lines);
    v.field({.name = "number_prefix", .help = "In front of invoice numbers, which have no gaps."},
            number_prefix);
    v.field({.name = "footer", .help = "Last line of every page of an invoice."}, footer);
}

struct Bills::Impl {
    Impl(const InvoiceSettings& invoice, store::Db& on, Billing& money, accounts::Accounts& people,
         const Clock& time, metrics::Registry& metrics, Bills& bills)
        : seller(invoice),
          db(on),
          billing(money),
          accounts(people),
          clock(time),
          pages(seller, db, billing, accounts, clock, bills),
          statements(metrics.counter("nebula_billing_statements_total", "Months closed for an account.")),
          corrections(
              metrics.counter("nebula_billing_corrections_total", "Corrections posted by re-rating.")) {}

    InvoiceSettings seller;
    store::Db& db;
    Billing& billing;
    accounts::Accounts& accounts;
    const Clock& clock;
    Pages pages;
    metrics::Counter& statements;
    metrics::Counter& corrections;
    std::atomic<std::int64_t> closed_up_to{0};  // microseconds; start of the month up to which all is closed

    struct Run {
        Window window;
        bool is_dry = false;
        By by = {};
        std::shared_ptr<const PriceHistory> history;
        Rerated done = {};
    };
    // `run` belongs to the coroutine that awaits these.
    Async<Result<void>> rerate_account(AccountId account, Run& run);
    Async<Result<void>> correct(AccountId account, std::vector<Rerating> changes, Run& run);
    Async<Result<std::vector<AccountId>>> accounts_after(AccountId after, Window window, bool with_movements);
    Async<Result<bool>> close(AccountId account, std::string month);
    Async<Result<bool>> is_closed(std::string month);
};

Bills::Bills(const InvoiceSettings& settings, store::Db& db, Billing& billing, Commerce&,
             accounts::Accounts& accounts, const Clock& clock, metrics::Registry& metrics)
    : impl_(std::make_unique<Impl>(settings, db, billing, accounts, clock, metrics, *this)) {}
Bills::~Bills() = default;

void Bills::set_list_prices(ListPrices prices) { impl_->pages.set_list_prices(std::move(prices)); }

void Bills::register_routes(http::Router& router, accounts::Guard& guard) {
    impl_->pages.register_routes(router, guard);
}

Async<Result<void>> Bills::set_price(std::string model, Prices prices, Time effective_from,
                                     const accounts::Caller* by) {
    constexpr Nanos most{1'000'000 * Nanos::per_credit};
    if (model.empty() || model.size() > 200 || model.contains('\0'))
        co_return fail(Code::invalid_request, "'model' must have 1 to 200 characters", "model");
    for (Nanos price : {prices.input_per_m, prices.output_per_m, prices.cached_input_per_m, prices.request,
                        prices.cache_write_per_m, prices.reasoning_per_m, prices.unit})
        if (price < Nanos{} || price > most)
            co_return fail(Code::invalid_request, "a price must be from 0 to 1,000,000 credits", "prices");
    JsonText details;
    details.open('{').text("effective_from", to_iso8601(effective_from));
    details.text("input_per_m", money_text(prices.input_per_m));
    details.text("output_per_m", money_text(prices.output_per_m));
    details.text("cached_input_per_m", money_text(prices.cached_input_per_m));
    details.text("cache_write_per_m", money_text(prices.cache_write_per_m));
    details.text("reasoning_per_m", money_text(prices.reasoning_per_m));
    details.text("unit", money_text(prices.unit));
    details.text("request", money_text(prices.request)).close();
    auto work = [=, who = copy_of(by), text = details.take(),
                 clock = &impl_->clock](store::Tx& tx) -> Result<void> {
        insert_price(tx, model, prices, effective_from, *clock);
        if (who) accounts::write_audit(tx, *clock, *who, {who->account, "Create", "Price", {}, model, text});
        return {};
    };
    co_return co_await impl_->db.in_tx(std::move(work));
}

Async<Result<std::vector<AccountId>>> Bills::Impl::accounts_after(AccountId after, Window window,
                                                                  bool with_movements) {
    auto work = [=](store::Tx& tx) -> Result<std::vector<AccountId>> {
        return active_accounts(tx, after, window, with_movements, accounts_per_page);
    };
    co_return co_await db.read(std::move(work));
}

Async<Result<void>> Bills::Impl::correct(AccountId account, std::vector<Rerating> changes, Run& run) {
    Nanos difference;
    for (const Rerating& change : changes) difference += change.was - change.due;
    run.done.difference += difference;
    if (run.is_dry) co_return Result<void>{};
    std::string key = correction_key(account, changes);
    auto shared = std::make_shared<const std::vector<Rerating>>(std::move(changes));
    JsonText details;
    details.open('{').text("from", to_iso8601(run.window.from)).text("to", to_iso8601(run.window.to));
    details.number("records", static_cast<std::int64_t>(shared->size()));
    details.text("difference", money_text(difference)).close();
    auto write = [=, this, by = run.by, text = details.take()](store::Tx& tx) -> Result<void> {
        // In the log of the account whose credits change.
        if (by)
            accounts::write_audit(tx, clock, *by,
                                  {account, "Update", "Re-rating", key, account.text(), text});
        return remember(tx, account, *shared, key);
    };
    // Records that outweigh each other move no money.
    if (difference.value == 0) co_return co_await db.in_tx(std::move(write));
    Movement movement;
    movement.account = account;
    movement.kind = MovementKind::correction;
    movement.amount = difference;
    movement.key = key;
    movement.note = "re-rated use from " + to_iso8601(run.window.from) + " to " + to_iso8601(run.window.to);
    auto moved = co_await billing.move(std::move(movement), std::move(write));
    if (!moved) co_return fail(std::move(moved.error()));
    corrections.add();
    co_return Result<void>{};
}

Async<Result<void>> Bills::Impl::rerate_account(AccountId account, Run& run) {
    std::vector<Rerating> changes;
    bool is_corrected = false;
    std::int64_t after = first_record_id(run.window.from);
    for (bool is_last = false; !is_last;) {
        auto work = [window = run.window, history = run.history, account,
                     after](store::Tx& tx) -> Result<RecordPage> {
            return rate_page(tx, account, window, *history, after, records_per_page);
        };
        auto page = co_await db.read(std::move(work));
        if (!page) co_return fail(std::move(page.error()));
        is_last = page->is_last;
        after = page->last;
        run.done.records += page->rated;
        changes.insert(changes.end(), page->changes.begin(), page->changes.end());
        bool is_full = changes.size() >= records_per_correction;
        if (changes.empty() || (!is_last && !is_full)) continue;
        is_corrected = true;
        auto batch = std::exchange(changes, std::vector<Rerating>());
        auto done = co_await correct(account, std::move(batch), run);
        if (!done) co_return done;
    }
    if (is_corrected) ++run.done.corrected;
    co_return Result<void>{};
}

Async<Result<Bills::Rerated>> Bills::rerate(Time from, Time to, std::optional<AccountId> account,
                                            bool dry_run, const accounts::Caller* by) {
    By who = copy_of(by);
    if (to <= from) co_return fail(Code::invalid_request, "'to' must be after 'from'", "to");
    auto work = [](store::Tx& tx) -> Result<PriceHistory> { return PriceHistory::read(tx); };
    auto history = co_await impl_->db.read(std::move(work));
    if (!history) co_return fail(std::move(history.error()));
    Impl::Run run{.window = {from, to},
                  .is_dry = dry_run,
                  .by = std::move(who),
                  .history = std::make_shared<const PriceHistory>(std::move(*history))};
    if (run.history->is_empty()) co_return run.done;
    if (account) {
        auto done = co_await impl_->rerate_account(*account, run);
        if (!done) co_return fail(std::move(done.error()));
        co_return run.done;
    }
    for (AccountId after{};;) {
        auto found = co_await impl_->accounts_after(after, run.window, false);
        if (!found) co_return fail(std::move(found.error()));
        if (found->empty()) co_return run.done;
        for (AccountId one : *found) {
            auto done = co_await impl_->rerate_account(one, run);
            if (!done) co_return fail(std::move(done.error()));
        }
        after = found->back();
    }
}

Async<Result<bool>> Bills::Impl::close(AccountId account, std::string month) {
    auto has_bill = [=](store::Tx& tx) -> Result<bool> {
        auto bills = list_bills(tx, account, month, 1'000, 0);
        return std::ranges::any_of(bills, [&](const MonthBill& bill) { return bill.month == month; });
    };
    auto is_there = co_await db.read(std::move(has_bill));
    if (!is_there) co_return fail(std::move(is_there.error()));
    if (*is_there) co_return false;
    std::string customer;
    UserId user;
    auto about = co_await accounts.account(account.text());
    if (about) {
        customer = about->display_name.empty() ? about->name : about->display_name;
        user = about->owner;
    }
    auto work = [=, this](store::Tx& tx) -> Result<bool> {
        return close_account(tx, clock, account, user, customer, month);
    };
    co_return co_await db.in_tx(std::move(work));
}

Async<Result<std::int64_t>> Bills::close_month(std::string month, const accounts::Caller* by) {
    By who = copy_of(by);
    auto window = parse_month(month);
    if (!window) co_return fail(Code::invalid_request, "'month' must look like 2026-10", "month");
    if (impl_->clock.now() < window->to) co_return fail(not_over(month));
    std::int64_t made = 0;
    for (AccountId after{};;) {
        auto found = co_await impl_->accounts_after(after, *window, true);
        if (!found) co_return fail(std::move(found.error()));
        if (found->empty()) break;
        for (AccountId account : *found) {
            auto is_new = co_await impl_->close(account, month);
            if (!is_new) co_return fail(std::move(is_new.error()));
            if (*is_new) impl_->statements.add();
            made += *is_new ? 1 : 0;
        }
        after = found->back();
    }
    auto work = [=, clock = &impl_->clock](store::Tx& tx) -> Result<void> {
        static constexpr store::Sql note{"bills.note_closed",
                                         "INSERT INTO closed_months (month, closed_at) VALUES ($1, $2)"
                                         " ON CONFLICT (month) DO NOTHING"};
        bool is_new = tx.exec(note, {std::string_view(month), to_micros(clock->now())}) == 1;
        if (who && (is_new || made > 0)) {
            std::string details = "{\"bills\":" + std::to_string(made) + "}";
            accounts::write_audit(tx, *clock, *who,
                                  {who->account, "Create", "Month Close", {}, month, details});
        }
        return {};
    };
    auto noted = co_await impl_->db.in_tx(std::move(work));
    if (!noted) co_return fail(std::move(noted.error()));
    co_return made;
}

Async<Result<bool>> Bills::Impl::is_closed(std::string month) {
    auto work = [=](store::Tx& tx) -> Result<bool> {
        static constexpr store::Sql find{"bills.is_closed", "SELECT 1 FROM closed_months WHERE month = $1"};
        return tx.one(find, {std::string_view(month)}, [](const store::Row&) {});
    };
    co_return co_await db.read(std::move(work));
}

Async<void> Bills::run_due() {
    // Requests that ran over midnight have been recorded by then, but for very few, which the next month has.
    constexpr auto grace = std::chrono::minutes(10);
    Time current = period_start(Cycle::month, impl_->clock.now() - grace);
    if (impl_->closed_up_to.load() >= to_micros(current)) co_return;
    std::vector<std::string> due;
    for (Time start = current; static_cast<int>(due.size()) < months_looked_back;) {
        start = period_start(Cycle::month, start - std::chrono::hours(1));
        due.insert(due.begin(), month_text(start));
    }
    for (const std::string& month : due) {
        auto is_done = co_await impl_->is_closed(month);
        if (is_done && *is_done) continue;
        auto made = co_await close_month(month);
        if (!made) {
            LOG_ERROR("month not closed", {"month", month}, {"why", made.error().message},
                      {"detail", made.error().detail});
            co_return;
        }
    }
    impl_->closed_up_to.store(to_micros(current));
}

std::int64_t Bills::add_payment_invoice(store::Tx& tx, const Clock& clock, AccountId account, UserId user,
                                        Nanos net, Nanos tax, std::string_view tax_name, PostingId movement,
                                        std::string_view reference, std::string_view tax_percent) {
    if (movement)
        if (auto made = invoice_of_movement(tx, movement)) return *made;
    Invoice invoice;
    invoice.account = account;
    invoice.user = user;
    invoice.kind = "Reload";
    invoice.net = net;
    invoice.tax = tax;
    invoice.total = invoice.paid = net + tax;
    invoice.tax_name = tax_name;
    invoice.tax_percent = tax_percent;
    invoice.movement = movement;
    invoice.reference = reference;
    invoice.customer = account_name(tx, account);
    invoice.lines.push_back({"Credits", "", net});
    invoice.created_at = clock.now();
    insert_invoice(tx, invoice);
    return invoice.number;
}

}  // namespace nebula::billing
