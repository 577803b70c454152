// Card payments: begun here, known by Stripe's word, posted by reconcile().
#include <algorithm>

#include "accounts/audit.hpp"
#include "base/log.hpp"
#include "billing/commerce/amounts.hpp"
#include "billing/commerce/shop.hpp"

namespace nebula::billing::commerce {
namespace {

// A lost webhook is made up for by asking; a checkout page lives for a day.
constexpr std::chrono::minutes first_check{15};
constexpr std::chrono::hours last_check{96};
constexpr int steps_max = 64;

// With "conflict", what steps of others say when they were first.
constexpr const char* raced = "the payment was brought up to date at the same time";

struct Books {
    Payment payment;
    std::vector<Dispute> disputes;
};

}  // namespace

Result<StripeApi*> Shop::stripe() {
    if (outside_.stripe == nullptr)
        return fail(Code::invalid_request, "card payments are not set up here; ask the operator for credits");
    return outside_.stripe.get();
}

Async<Result<std::vector<Payment>>> Shop::payments(AccountId account, PaymentId before, std::int64_t limit) {
    auto read = [account, before, limit](Tx& tx) -> Result<std::vector<Payment>> {
        return sql::payments(tx, account, before, limit);
    };
    co_return co_await db_.read(std::move(read));
}

Result<Payment> Shop::new_payment(Tx& tx, AccountId account, UserId user, std::string kind, Nanos amount) {
    auto cents = to_cents(amount);
    bool is_package = std::ranges::any_of(goods_.packages, [&](const auto& p) { return p.price == amount; });
    if (!cents || amount.value <= 0)
        return fail(Code::invalid_request, "'amount' must be more than 0, in whole cents", "amount");
    if (!is_package && (amount < goods_.minimum_payment || amount > goods_.maximum_payment))
        return fail(
            Code::invalid_request,
            "'amount' must be from " + goods_.minimum_payment.text() + " to " + goods_.maximum_payment.text(),
            "amount");
    Tax tax = tax_on(tx, account, amount);
    Payment payment;
    payment.id = PaymentId::next(clock_);
    payment.account = account;
    payment.user = user;
    payment.kind = std::move(kind);
    payment.net = amount;
    payment.bonus = goods_.bonus_for(amount);
    payment.tax = tax.amount;
    payment.tax_name = tax.name;
    payment.tax_percent = tax.percent;
    payment.cents = *cents + *to_cents(tax.amount);
    payment.currency = goods_.currency;
    payment.created_at = clock_.now();
    return payment;
}

Async<Result<Payment>> Shop::insert_payment(AccountId account, UserId user, std::string kind, Nanos amount,
                                            std::string method) {
    auto insert = [this, account, user, kind, amount, method](Tx& tx) -> Result<Payment> {
        auto payment = new_payment(tx, account, user, kind, amount);
        if (!payment) return payment;
        payment->method = method;
        sql::insert_payment(tx, *payment, payment->created_at + first_check);
        return payment;
    };
    co_return co_await db_.in_tx(std::move(insert));
}

Async<Result<std::string>> Shop::customer(AccountId account) {
    auto read = [account](Tx& tx) -> Result<std::pair<std::string, std::optional<Owner>>> {
        return std::pair(sql::profile(tx, account).stripe_customer, sql::owner(tx, account));
    };
    auto known = co_await db_.read(std::move(read));
    if (!known) co_return fail(std::move(known.error()));
    if (!known->first.empty()) co_return known->first;
    StripeRequest request;
    request.path = "/v1/customers";
    request.form = {{"metadata[nebula_account]", account.text()}};
    if (known->second) request.form.emplace_back("email", known->second->email);
    if (known->second && !known->second->name.empty()) request.form.emplace_back("name", known->second->name);
    request.idempotency_key = "nebula-customer-" + account.text();
    auto answer = co_await outside_.stripe->call(std::move(request));
    if (!answer) co_return fail(std::move(answer.error()));
    if (!answer->ok()) co_return fail(answer->error());
    std::string made(text_of(answer->body, "id"));
    if (made.empty()) co_return fail(Code::upstream_failed, "the payment provider made no customer");
    auto keep = [account, made](Tx& tx) -> Result<std::string> {
        return sql::keep_customer(tx, account, made);
    };
    co_return co_await db_.in_tx(std::move(keep));
}

StripeForm Shop::intent_form(const Payment& payment, const std::string& customer) const {
    return {{"amount", std::to_string(payment.cents)},
            {"currency", payment.currency},
            {"customer", customer},
            {"description", "Credits"},
            {"metadata[nebula_payment]", payment.id.text()},
            {"metadata[nebula_account]", payment.account.text()}};
}

Async<Result<json::object>> Shop::start_checkout(accounts::Caller caller, Nanos amount,
                                                 std::string return_path) {
    auto api = stripe();
    if (!api) co_return fail(std::move(api.error()));
    auto payment = co_await insert_payment(caller.account, caller.user, "checkout", amount, std::string());
    if (!payment) co_return fail(std::move(payment.error()));
    auto buyer = co_await customer(caller.account);
    if (!buyer) co_return fail(std::move(buyer.error()));
    std::string back = goods_.public_url + return_path;
    std::string mark = return_path.find('?') == std::string::npos ? "?" : "&";
    StripeRequest request;
    request.path = "/v1/checkout/sessions";
    request.form = {{"mode", "payment"},
                    {"customer", *buyer},
                    {"client_reference_id", payment->id.text()},
                    {"metadata[nebula_payment]", payment->id.text()},
                    {"payment_intent_data[metadata][nebula_payment]", payment->id.text()},
                    {"payment_intent_data[metadata][nebula_account]", payment->account.text()},
                    {"payment_intent_data[description]", "Credits"},
                    {"success_url", back + mark + "payment=success&session_id={CHECKOUT_SESSION_ID}"},
                    {"cancel_url", back + mark + "payment=cancelled"},
                    {"line_items[0][quantity]", "1"},
                    {"line_items[0][price_data][currency]", payment->currency},
                    {"line_items[0][price_data][unit_amount]", std::to_string(*to_cents(payment->net))},
                    {"line_items[0][price_data][product_data][name]", "Credits"}};
    if (payment->tax.value > 0) {
        request.form.emplace_back("line_items[1][quantity]", "1");
        request.form.emplace_back("line_items[1][price_data][currency]", payment->currency);
        request.form.emplace_back("line_items[1][price_data][unit_amount]",
                                  std::to_string(*to_cents(payment->tax)));
        request.form.emplace_back("line_items[1][price_data][product_data][name]", payment->tax_name);
    }
    request.idempotency_key = "nebula-checkout-" + payment->id.text();
    auto answer = co_await (*api)->call(std::move(request));
    if (!answer) co_return fail(std::move(answer.error()));
    json::object session = answer->body;
    auto applied = co_await apply_answer(payment->id, std::move(*answer));
    if (!applied) co_return fail(std::move(applied.error()));
    auto log = [this, caller, payment = *payment](Tx& tx) -> Result<bool> {
        accounts::write_audit(
            tx, clock_, caller,
            {caller.account, "Create", "Payment", payment.id.text(), payment.net.text(), {}});
        return true;
    };
    auto logged = co_await db_.in_tx(std::move(log));
    if (!logged) co_return fail(std::move(logged.error()));
    co_return session;
}

Async<Result<json::object>> Shop::start_intent(accounts::Caller caller, Nanos amount, std::string method) {
    auto api = stripe();
    if (!api) co_return fail(std::move(api.error()));
    if (!method.empty()) {
        auto owned = [account = caller.account, method](Tx& tx) -> Result<bool> {
            auto card = sql::card(tx, method);
            if (!card || card->account != account || card->status != "attached")
                return fail(Code::not_found, "there is no such payment method", "payment_method_id");
            return true;
        };
        auto found = co_await db_.read(std::move(owned));
        if (!found) co_return fail(std::move(found.error()));
    }
    auto payment = co_await insert_payment(caller.account, caller.user, "intent", amount, method);
    if (!payment) co_return fail(std::move(payment.error()));
    auto buyer = co_await customer(caller.account);
    if (!buyer) co_return fail(std::move(buyer.error()));
    StripeRequest request;
    request.path = "/v1/payment_intents";
    request.form = intent_form(*payment, *buyer);
    request.form.emplace_back("automatic_payment_methods[enabled]", "true");
    if (!method.empty()) {
        request.form.emplace_back("payment_method", method);
        request.form.emplace_back("confirm", "true");
        request.form.emplace_back("return_url", goods_.public_url + "/billing");
    }
    request.idempotency_key = "nebula-intent-" + payment->id.text();
    auto answer = co_await (*api)->call(std::move(request));
    if (!answer) co_return fail(std::move(answer.error()));
    json::object intent = answer->body;
    auto applied = co_await apply_answer(payment->id, std::move(*answer));
    if (!applied) co_return fail(std::move(applied.error()));
    co_return intent;
}

// What Stripe answered about this payment, a declined card included.
Async<Result<Payment>> Shop::apply_answer(PaymentId id, StripeAnswer answer) {
    const json::object* object = &answer.body;
    if (const json::object* error = object_of(answer.body, "error"))
        object = object_of(*error, "payment_intent");
    FollowUp work;
    auto apply = [&, this](Tx& tx) -> Result<Payment> {
        Facts facts(tx, clock_.now());
        if (object != nullptr) {
            if (text_of(*object, "object") == "checkout.session")
                facts.session(*object);
            else
                facts.intent(*object);
        }
        work = facts.follow_up();
        auto payment = sql::lock_payment(tx, id);
        if (!payment) return fail(Code::not_found, "there is no such payment", "payment");
        // Refused before there was an intent.
        if (!answer.ok() && object == nullptr && payment->status == "pending" && !payment->is_paid) {
            payment->status = "failed";
            payment->failure = answer.error().message.substr(0, 500);
            sql::update_payment(tx, *payment);
            sql::set_payment_check(tx, id, std::nullopt);
        }
        return *payment;
    };
    auto applied = co_await db_.in_tx(std::move(apply));
    if (!applied) co_return fail(std::move(applied.error()));
    co_await follow_up(std::move(work));
    if (!answer.ok()) co_return fail(answer.error());
    co_return applied;
}

Async<Result<Payment>> Shop::look_up(AccountId account, std::string name) {
    auto api = stripe();
    if (!api) co_return fail(std::move(api.error()));
    auto find = [account, name](Tx& tx) -> Result<Payment> {
        auto id = PaymentId::parse(name);
        if (!id) id = sql::payment_by_intent(tx, name);
        if (!id) id = sql::payment_by_session(tx, name);
        auto payment = id ? sql::payment(tx, *id) : std::nullopt;
        if (!payment || payment->account != account)
            return fail(Code::not_found, "there is no such payment", "payment_intent_id");
        return *payment;
    };
    auto before = co_await db_.read(find);
    if (!before) co_return fail(std::move(before.error()));
    if (!before->is_paid) co_await refresh(std::move(*before));
    co_return co_await db_.read(find);
}

Async<void> Shop::refresh(Payment payment) {
    if (payment.intent.empty() && payment.session.empty()) {
        if (payment.kind == "auto_pay" && clock_.now() - payment.created_at < std::chrono::hours(20)) {
            auto again = co_await send_automatic(payment);
            if (!again) co_return;
            auto applied = co_await apply_answer(payment.id, std::move(*again));
            if (!applied) LOG_INFO("automatic payment failed", {"payment", payment.id.text()});
            co_return;
        }
        // Its beginning was not answered, so no customer has seen a page of it.
        auto expire = [id = payment.id](Tx& tx) -> Result<bool> {
            auto row = sql::lock_payment(tx, id);
            if (!row || row->status != "pending" || !row->intent.empty() || !row->session.empty())
                return false;
            row->status = "expired";
            sql::update_payment(tx, *row);
            return true;
        };
        auto expired = co_await db_.in_tx(std::move(expire));
        if (!expired) LOG_WARN("payment not expired", {"payment", payment.id.text()});
        co_return;
    }
    StripeRequest request;
    request.method = http::Method::get;
    request.path = payment.session.empty() ? "/v1/payment_intents/" + payment.intent
                                           : "/v1/checkout/sessions/" + payment.session;
    auto answer = co_await outside_.stripe->call(std::move(request));
    if (!answer || !answer->ok()) co_return;
    auto applied = co_await apply_answer(payment.id, std::move(*answer));
    if (!applied) LOG_WARN("payment not looked up", {"payment", payment.id.text()});
}

Async<Result<void>> Shop::reconcile(PaymentId id) {
    for (int i = 0; i < steps_max; ++i) {
        auto read = [id](Tx& tx) -> Result<Books> {
            auto payment = sql::payment(tx, id);
            if (!payment) return fail(Code::not_found, "there is no such payment", "payment");
            return Books{*payment, sql::disputes(tx, id)};
        };
        auto books = co_await db_.read(std::move(read));
        if (!books) co_return fail(std::move(books.error()));
        auto step = next_step(books->payment, books->disputes, goods_, clock_.now());
        if (!step) {
            auto clear = [id, facts = books->payment.facts](Tx& tx) -> Result<bool> {
                sql::clear_work(tx, id, facts);
                return true;
            };
            if (books->payment.has_work) {
                auto cleared = co_await db_.in_tx(std::move(clear));
                if (!cleared) co_return fail(std::move(cleared.error()));
            }
            co_return Result<void>();
        }
        step->movement.id = PostingId::next(clock_);
        Movement movement = step->movement;
        auto also = [this, payment = books->payment, step = *step](Tx& tx) -> Result<void> {
            if (!mark_done(tx, payment.id, step, step.movement.id, clock_.now()))
                return fail(Code::conflict, raced);
            if (step.what == Step::What::payment && outside_.add_invoice)
                outside_.add_invoice(tx, clock_, payment.account, payment.user, payment.net, payment.tax,
                                     payment.tax_name, step.movement.id, step.movement.reference,
                                     payment.tax_percent);
            billing_.terms_changed(tx, payment.account);
            return {};
        };
        auto moved = co_await billing_.move(std::move(movement), also);
        if (!moved && moved.error().code == Code::conflict && moved.error().message == raced) continue;
        if (!moved) co_return fail(std::move(moved.error()));
        if (step->what == Step::What::payment) counters_.payments.add();
    }
    co_return fail(Code::internal, "the payment could not be brought up to date", {}, id.text());
}

Async<void> Shop::run_payments() {
    constexpr std::int64_t at_once = 100;
    auto read = [](Tx& tx) -> Result<std::vector<PaymentId>> { return sql::payments_with_work(tx, at_once); };
    auto open = co_await db_.read(std::move(read));
    if (!open) co_return;
    for (PaymentId id : *open) {
        auto done = co_await reconcile(id);
        if (!done) LOG_ERROR("payment not posted", {"payment", id.text()}, {"message", done.error().message});
    }
    if (!takes_cards()) co_return;
    Time now = clock_.now();
    auto take = [now](Tx& tx) -> Result<std::vector<Payment>> {
        std::vector<Payment> due;
        for (const sql::ToCheck& check : sql::payments_to_check(tx, now, at_once)) {
            auto age = now - check.created_at;
            std::optional<Time> next;
            if (age < last_check) next = now + std::max<Time::duration>(first_check, age);
            sql::set_payment_check(tx, check.id, next);
            if (auto payment = sql::payment(tx, check.id); payment && !payment->is_paid)
                due.push_back(*payment);
        }
        return due;
    };
    auto any = [now](Tx& tx) -> Result<bool> { return !sql::payments_to_check(tx, now, 1).empty(); };
    auto is_due = co_await db_.read(std::move(any));
    if (!is_due || !*is_due) co_return;
    auto due = co_await db_.in_tx(std::move(take));
    if (!due) co_return;
    for (Payment& payment : *due) co_await refresh(std::move(payment));
}

}  // namespace nebula::billing::commerce
