// What is due: renewals, open payments, auto-pay, low-balance notices. Every node asks; each item is claimed
// by one row.
#include "base/log.hpp"
#include "billing/commerce/amounts.hpp"
#include "billing/commerce/shop.hpp"

namespace nebula::billing::commerce {
namespace {

constexpr std::chrono::hours auto_pay_pause{1};
constexpr std::chrono::days events_keep{90};
constexpr std::int64_t at_once = 200;

}  // namespace

Async<void> Shop::run_due() {
    if (is_running_.exchange(true)) co_return;
    try {
        co_await run_plans();
        co_await run_payments();
        co_await run_auto_pay();
        std::int64_t minute = to_micros(clock_.now()) / 60'000'000;
        if (last_minute_.exchange(minute) != minute) co_await run_minutely();
    } catch (...) {
        is_running_ = false;
        throw;
    }
    is_running_ = false;
}

Async<void> Shop::run_auto_pay() {
    if (!takes_cards()) co_return;
    Time tried_before = clock_.now() - auto_pay_pause;
    auto read = [tried_before](Tx& tx) -> Result<std::vector<AccountId>> {
        return sql::auto_pay_due(tx, tried_before, at_once);
    };
    auto due = co_await db_.read(std::move(read));
    if (!due) co_return;
    for (AccountId account : *due) co_await charge_automatically(account);
}

Async<void> Shop::charge_automatically(AccountId account) {
    Time now = clock_.now();
    // The claim and the payment's row are one: an attempt that is cut off is found by its row, not made anew.
    auto claim = [this, account, now](Tx& tx) -> Result<std::optional<Payment>> {
        if (!sql::claim_auto_pay(tx, account, now, now - auto_pay_pause)) return std::optional<Payment>();
        AutoPay settings = sql::auto_pay(tx, account);
        if (settings.method.empty()) {
            auto cards = sql::cards(tx, account);
            if (cards.empty()) return std::optional<Payment>();
            settings.method = cards.front().id;
        }
        auto payment = new_payment(tx, account, UserId{}, "auto_pay", settings.amount);
        if (!payment) return fail(std::move(payment.error()));
        payment->method = settings.method;
        sql::insert_payment(tx, *payment, now + std::chrono::minutes(2));
        return std::optional<Payment>(*payment);
    };
    auto payment = co_await db_.in_tx(std::move(claim));
    if (!payment || !*payment) co_return;
    auto answer = co_await send_automatic(**payment);
    if (!answer) {
        LOG_WARN("automatic payment unanswered", {"payment", (*payment)->id.text()});
        co_return;
    }
    auto applied = co_await apply_answer((*payment)->id, std::move(*answer));
    if (!applied)
        LOG_INFO("automatic payment failed", {"payment", (*payment)->id.text()},
                 {"detail", applied.error().detail});
}

Async<Result<StripeAnswer>> Shop::send_automatic(Payment payment) {
    auto buyer = co_await customer(payment.account);
    if (!buyer) co_return fail(std::move(buyer.error()));
    StripeRequest request;
    request.path = "/v1/payment_intents";
    request.form = intent_form(payment, *buyer);
    request.form.emplace_back("payment_method", payment.method);
    request.form.emplace_back("off_session", "true");
    request.form.emplace_back("confirm", "true");
    request.idempotency_key = "nebula-auto-" + payment.id.text();
    co_return co_await outside_.stripe->call(std::move(request));
}

Async<void> Shop::run_minutely() {
    Time now = clock_.now();
    auto forget = [this, now](Tx& tx) -> Result<std::vector<AccountId>> {
        sql::forget_events(tx, now - events_keep);
        if (goods_.low_balance.value <= 0) return std::vector<AccountId>();
        sql::reset_low_notices(tx, goods_.low_balance);
        std::vector<AccountId> told;
        for (AccountId account : sql::newly_low(tx, goods_.low_balance, at_once))
            if (sql::claim_low_notice(tx, account)) told.push_back(account);
        return told;
    };
    auto told = co_await db_.in_tx(std::move(forget));
    if (!told) co_return;
    for (AccountId account : *told) {
        std::string text = "Your balance is below " + goods_.low_balance.text() +
                           " credits.\nAdd credits at " + goods_.public_url + "\n";
        co_await mail(account, "Your balance is low", std::move(text));
    }
}

}  // namespace nebula::billing::commerce
