#include "billing/commerce/facts.hpp"

#include <algorithm>
#include <boost/json/parse.hpp>

#include "base/log.hpp"
#include "billing/commerce/amounts.hpp"
#include "billing/commerce/stripe.hpp"

namespace nebula::billing::commerce {
namespace {

constexpr std::size_t kept_bytes_max = 64 * 1024;
constexpr std::int64_t auto_pay_failures_max = 3;

std::string_view payment_name(const json::object& object) {
    const json::object* metadata = object_of(object, "metadata");
    std::string_view name = metadata == nullptr ? std::string_view() : text_of(*metadata, "nebula_payment");
    return name.empty() ? text_of(object, "client_reference_id") : name;
}

// The payment intent that the event is about, if any.
std::string_view subject_of(const json::object& event) {
    const json::object* data = object_of(event, "data");
    const json::object* object = data == nullptr ? nullptr : object_of(*data, "object");
    if (object == nullptr) return {};
    if (text_of(*object, "object") == "payment_intent") return text_of(*object, "id");
    return id_of(*object, "payment_intent");
}

bool is_ours(const Payment& payment, std::int64_t cents, std::string_view currency) {
    if (payment.cents == cents && payment.currency == currency) return true;
    LOG_ERROR("Stripe names another amount than the payment has", {"payment", payment.id.text()},
              {"cents", cents}, {"currency", currency}, {"expected_cents", payment.cents});
    return false;
}

}  // namespace

const char* outcome_word(Outcome outcome) {
    switch (outcome) {
        case Outcome::applied:
            return "applied";
        case Outcome::ignored:
            return "ignored";
        case Outcome::unknown:
            return "unknown";
        case Outcome::mismatch:
            return "mismatch";
    }
    return "ignored";
}

std::string status_of(const Payment& payment, const std::vector<Dispute>& disputes) {
    if (!payment.is_paid) return payment.status;
    for (const Dispute& dispute : disputes)
        if (dispute.is_withdrawn && !dispute.is_returned) return "disputed";
    return payment.refunded_cents >= payment.cents ? "refunded" : "success";
}

Outcome Facts::event(const json::object& event, std::string_view text) {
    std::string_view id = text_of(event, "id");
    std::string_view type = text_of(event, "type");
    if (id.empty() || !sql::insert_event(tx_, id, type, now_)) return Outcome::ignored;
    Outcome outcome = apply(event);
    std::string_view subject = subject_of(event);
    if (outcome == Outcome::unknown && !subject.empty() && text.size() <= kept_bytes_max)
        sql::keep_event(tx_, id, subject, text);
    else if (outcome != Outcome::applied)
        sql::set_event_outcome(tx_, id, outcome_word(outcome));
    return outcome;
}

Outcome Facts::apply(const json::object& event) {
    std::string_view type = text_of(event, "type");
    const json::object* data = object_of(event, "data");
    const json::object* object = data == nullptr ? nullptr : object_of(*data, "object");
    if (object == nullptr) return Outcome::ignored;
    if (type.starts_with("checkout.session.")) {
        if (text_of(*object, "mode") != "payment") return Outcome::ignored;
        auto payment = find(*object, text_of(*object, "id"), id_of(*object, "payment_intent"));
        if (!payment) return Outcome::unknown;
        if (type == "checkout.session.async_payment_failed") {
            unpaid(*payment, "failed", "the payment did not go through");
            return Outcome::applied;
        }
        return session(*object);
    }
    if (type == "payment_intent.succeeded" || type == "payment_intent.payment_failed" ||
        type == "payment_intent.canceled")
        return intent(*object);
    if (type == "charge.refunded") return refund(*object);
    if (type.starts_with("charge.dispute.")) return dispute(type, *object);
    if (type == "setup_intent.succeeded") return setup(*object);
    if (type == "payment_method.attached" || type == "payment_method.detached" ||
        type == "payment_method.updated")
        return method(type, *object, *data);
    return Outcome::ignored;
}

std::optional<Payment> Facts::find(const json::object& object, std::string_view session,
                                   std::string_view intent) {
    std::optional<PaymentId> id;
    if (!intent.empty()) id = sql::payment_by_intent(tx_, intent);
    if (!id && !session.empty()) id = sql::payment_by_session(tx_, session);
    if (!id) id = PaymentId::parse(payment_name(object));
    if (!id) return std::nullopt;
    auto payment = sql::lock_payment(tx_, *id);
    if (!payment) return std::nullopt;
    // Named by what we wrote into it, but another one than we know: not about this payment.
    if (!intent.empty() && !payment->intent.empty() && payment->intent != intent) return std::nullopt;
    if (!session.empty() && !payment->session.empty() && payment->session != session) return std::nullopt;
    if (!session.empty()) payment->session = session;
    if (!intent.empty() && payment->intent.empty()) claim(*payment, intent);
    return payment;
}

void Facts::claim(Payment& payment, std::string_view intent) {
    payment.intent = intent;
    sql::update_payment(tx_, payment);
    for (const sql::KeptEvent& kept : sql::kept_events(tx_, intent)) {
        sql::set_event_outcome(tx_, kept.id, "applied");
        boost::system::error_code bad;
        json::value event = json::parse(kept.body, bad);
        if (!bad && event.is_object()) apply(event.get_object());
    }
    payment = *sql::lock_payment(tx_, payment.id);
}

void Facts::store(Payment& payment) {
    payment.status = status_of(payment, sql::disputes(tx_, payment.id));
    ++payment.facts;
    payment.has_work = payment.is_paid;
    sql::update_payment(tx_, payment);
    follow_up_.payments.push_back(payment.id);
}

void Facts::paid(Payment& payment, std::string_view method) {
    if (!method.empty()) payment.method = method;
    if (!payment.is_paid && payment.kind == "auto_pay") sql::note_auto_pay_success(tx_, payment.account);
    payment.is_paid = true;
    payment.failure.clear();
    store(payment);
}

void Facts::unpaid(Payment& payment, const char* status, std::string_view why) {
    // Money that has come is not undone by news of an earlier attempt.
    if (payment.is_paid) return;
    bool is_news = payment.status == "pending";
    payment.status = status;
    payment.failure = why.substr(0, 500);
    store(payment);
    if (!is_news || payment.kind != "auto_pay") return;
    follow_up_.auto_pay_failed.push_back(payment.id);
    if (sql::note_auto_pay_failure(tx_, payment.account, auto_pay_failures_max))
        follow_up_.auto_pay_off.push_back(payment.account);
}

Outcome Facts::session(const json::object& session) {
    auto payment = find(session, text_of(session, "id"), id_of(session, "payment_intent"));
    if (!payment) return Outcome::unknown;
    if (text_of(session, "payment_status") == "paid") {
        if (!is_ours(*payment, number_of(session, "amount_total"), text_of(session, "currency")))
            return Outcome::mismatch;
        paid(*payment, {});
    } else if (text_of(session, "status") == "expired") {
        unpaid(*payment, "expired", {});
    } else {
        sql::update_payment(tx_, *payment);  // it may have told its intent
    }
    return Outcome::applied;
}

Outcome Facts::intent(const json::object& intent) {
    auto payment = find(intent, {}, text_of(intent, "id"));
    if (!payment) return Outcome::unknown;
    if (!is_ours(*payment, number_of(intent, "amount"), text_of(intent, "currency")))
        return Outcome::mismatch;
    std::string_view status = text_of(intent, "status");
    if (status == "succeeded") {
        if (!is_ours(*payment, number_of(intent, "amount_received"), text_of(intent, "currency")))
            return Outcome::mismatch;
        paid(*payment, id_of(intent, "payment_method"));
    } else if (status == "canceled") {
        unpaid(*payment, "expired", {});
    } else if (const json::object* error = object_of(intent, "last_payment_error")) {
        unpaid(*payment, "failed", text_of(*error, "message"));
    } else {
        sql::update_payment(tx_, *payment);
    }
    return Outcome::applied;
}

Outcome Facts::refund(const json::object& charge) {
    auto payment = find(charge, {}, id_of(charge, "payment_intent"));
    if (!payment) return Outcome::unknown;
    std::int64_t refunded = number_of(charge, "amount_refunded");
    if (!is_ours(*payment, number_of(charge, "amount"), text_of(charge, "currency")) || refunded < 0 ||
        refunded > payment->cents)
        return Outcome::mismatch;
    // Cumulative: of several in any order the largest counts.
    payment->refunded_cents = std::max(payment->refunded_cents, refunded);
    store(*payment);
    return Outcome::applied;
}

Outcome Facts::dispute(std::string_view type, const json::object& object) {
    std::string_view id = text_of(object, "id");
    auto payment = find(object, {}, id_of(object, "payment_intent"));
    if (!payment || id.empty()) return Outcome::unknown;
    std::int64_t cents = number_of(object, "amount");
    if (cents <= 0 || cents > payment->cents || text_of(object, "currency") != payment->currency)
        return Outcome::mismatch;
    std::string_view status = text_of(object, "status");
    Dispute dispute;
    dispute.id = id;
    dispute.payment = payment->id;
    dispute.cents = cents;
    // An inquiry ("warning_…") takes no money.
    dispute.is_withdrawn = type == "charge.dispute.funds_withdrawn" ||
                           (!status.starts_with("warning_") && type != "charge.dispute.funds_reinstated");
    dispute.is_returned = type == "charge.dispute.funds_reinstated" || status == "won";
    dispute.is_lost = status == "lost";
    sql::note_dispute(tx_, dispute, now_);
    store(*payment);
    return Outcome::applied;
}

Outcome Facts::setup(const json::object& object) {
    auto account = sql::account_of_customer(tx_, id_of(object, "customer"));
    if (!account) return Outcome::unknown;
    if (const json::object* method = object_of(object, "payment_method"))
        card(*account, *method);
    else
        follow_up_.cards.push_back(*account);
    return Outcome::applied;
}

Outcome Facts::method(std::string_view type, const json::object& object, const json::object& data) {
    if (type != "payment_method.detached") {
        auto account = sql::account_of_customer(tx_, id_of(object, "customer"));
        if (!account) return Outcome::unknown;
        card(*account, object);
        return Outcome::applied;
    }
    if (auto known = sql::card(tx_, text_of(object, "id"))) {
        card_gone(*known);
        return Outcome::applied;
    }
    // Heard before it was known: what comes late must not bring it back.
    const json::object* before = object_of(data, "previous_attributes");
    auto account =
        before == nullptr ? std::nullopt : sql::account_of_customer(tx_, id_of(*before, "customer"));
    if (!account || text_of(object, "id").empty()) return Outcome::unknown;
    Card gone;
    gone.id = text_of(object, "id");
    gone.account = *account;
    gone.status = "detached";
    gone.created_at = now_;
    sql::put_card(tx_, gone);
    return Outcome::applied;
}

void Facts::card(AccountId account, const json::object& method) {
    static const json::object nothing;
    std::string_view id = text_of(method, "id");
    if (id.empty()) return;
    auto known = sql::card(tx_, id);
    if (known && (known->status != "attached" || known->account != account)) return;
    const json::object* about = object_of(method, "card");
    const json::object& details = about == nullptr ? nothing : *about;
    Card card = known.value_or(Card{});
    card.id = id;
    card.account = account;
    if (!text_of(method, "type").empty()) card.kind = text_of(method, "type");
    card.brand = text_of(details, "brand");
    card.last4 = text_of(details, "last4");
    card.exp_month = number_of(details, "exp_month");
    card.exp_year = number_of(details, "exp_year");
    card.fingerprint = text_of(details, "fingerprint");
    if (!known) card.created_at = now_;
    auto twin = card.fingerprint.empty() ? std::nullopt : sql::card_by_fingerprint(tx_, card.fingerprint);
    if (twin && twin->id != card.id) {
        if (twin->account == account) {  // the same card again: the new one takes its place
            sql::forget_auto_pay_method(tx_, account, twin->id, card.id);
            card.is_default = twin->is_default;
            card_gone(*twin);
            follow_up_.detach.push_back(twin->id);
        } else {  // one card cannot serve two accounts
            card.status = "refused";
            card.is_default = false;
            follow_up_.detach.push_back(card.id);
        }
    }
    auto others = sql::cards(tx_, account);
    bool has_default =
        std::ranges::any_of(others, [&](const Card& c) { return c.is_default && c.id != card.id; });
    if (card.status == "attached" && !has_default) card.is_default = true;
    if (card.is_default && has_default) sql::set_default_card(tx_, account, {});
    sql::put_card(tx_, card);
    if (!known) follow_up_.cards_changed.push_back(account);
}

void Facts::card_gone(const Card& card) {
    if (card.status != "attached") return;
    Card gone = card;
    gone.status = "detached";
    gone.is_default = false;
    sql::put_card(tx_, gone);
    sql::forget_auto_pay_method(tx_, card.account, card.id, {});
    auto left = sql::cards(tx_, card.account);
    if (card.is_default && !left.empty()) sql::set_default_card(tx_, card.account, left.front().id);
    follow_up_.cards_changed.push_back(card.account);
}

}  // namespace nebula::billing::commerce
