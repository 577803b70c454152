// From the facts about a payment to the movements that the ledger lacks, one after the other.
#include <algorithm>

#include "billing/commerce/amounts.hpp"
#include "billing/commerce/facts.hpp"

namespace nebula::billing::commerce {
namespace {

// The part of so many cents that is credits; the rest is tax.
Nanos net_of(const Payment& payment, std::int64_t cents) {
    std::int64_t net_cents = payment.net.value / nanos_per_cent;
    return from_cents(share(net_cents, cents, payment.cents));
}

std::string source(const Payment& payment) {
    return "stripe:" + (payment.intent.empty() ? payment.id.text() : payment.intent);
}

Step step_of(const Payment& payment, Step::What what, MovementKind kind, Nanos amount, std::string key,
             std::string note) {
    Step step;
    step.what = what;
    step.movement.account = payment.account;
    step.movement.kind = kind;
    step.movement.amount = amount;
    step.movement.key = std::move(key);
    step.movement.note = std::move(note);
    step.movement.reference = payment.intent.empty() ? payment.id.text() : payment.intent;
    return step;
}

std::optional<Step> refund_step(const Payment& payment) {
    std::int64_t from = payment.refund_posted_cents, to = payment.refunded_cents;
    if (to <= from) return std::nullopt;
    Nanos net = net_of(payment, to) - net_of(payment, from);
    if (net.value <= 0) return std::nullopt;  // a cent that is all tax waits for the next one
    Step step = step_of(payment, Step::What::refund, MovementKind::refund, net,
                        source(payment) + ":refund:" + std::to_string(to), "refund of card payment");
    step.movement.tax = from_cents(to - from) - net;
    step.from = from;
    step.to = to;
    return step;
}

// By the payment's time, so that it does not change from one try to the next.
std::optional<Time> bonus_expiry(const Payment& payment, const Goods& goods) {
    return goods.bonus_expiry(payment.completed_at.value_or(payment.created_at), 0);
}

// Bonus credits go back with the money that they were given for.
std::optional<Step> bonus_back_step(const Payment& payment, const std::vector<Dispute>& disputes,
                                    const Goods& goods, Time now) {
    if (!payment.bonus_posting) return std::nullopt;
    auto expiry = bonus_expiry(payment, goods);
    if (expiry && *expiry <= now) return std::nullopt;  // what was left of it has expired: nothing is kept
    std::int64_t cents = payment.refunded_cents;
    for (const Dispute& dispute : disputes)
        if (dispute.is_lost && !dispute.is_returned) cents += dispute.cents;
    Nanos due{share(payment.bonus.value, std::min(cents, payment.cents), payment.cents)};
    if (due <= payment.bonus_taken) return std::nullopt;
    Step step = step_of(payment, Step::What::bonus_back, MovementKind::correction, payment.bonus_taken - due,
                        source(payment) + ":bonus-back:" + std::to_string(due.value),
                        "bonus of a payment that was given back");
    step.from = payment.bonus_taken.value;
    step.to = due.value;
    return step;
}

std::optional<Step> dispute_step(const Payment& payment, const Dispute& dispute) {
    Nanos net = net_of(payment, dispute.cents);
    if (net.value <= 0) return std::nullopt;
    std::string key = "stripe:" + dispute.id;
    std::optional<Step> step;
    if (dispute.is_withdrawn && !dispute.withdrawn)
        step = step_of(payment, Step::What::dispute, MovementKind::dispute, net, key + ":withdrawn",
                       "card payment disputed");
    else if (dispute.is_returned && dispute.withdrawn && !dispute.returned)
        step = step_of(payment, Step::What::dispute_won, MovementKind::dispute_won, net, key + ":returned",
                       "dispute won");
    if (!step) return std::nullopt;
    step->movement.tax = from_cents(dispute.cents) - net;
    step->movement.reference = dispute.id;
    step->dispute = dispute.id;
    return step;
}

}  // namespace

std::optional<Step> next_step(const Payment& payment, const std::vector<Dispute>& disputes,
                              const Goods& goods, Time now) {
    if (!payment.is_paid) return std::nullopt;
    if (!payment.posting) {
        Step step = step_of(payment, Step::What::payment, MovementKind::payment, payment.net, source(payment),
                            payment.kind == "auto_pay" ? "automatic card payment" : "card payment");
        step.movement.tax = payment.tax;
        return step;
    }
    if (payment.bonus.value > 0 && !payment.bonus_posting) {
        Step step = step_of(payment, Step::What::bonus, MovementKind::bonus, payment.bonus,
                            source(payment) + ":bonus", "bonus of a package");
        step.movement.expires_at = bonus_expiry(payment, goods);
        return step;
    }
    if (auto step = refund_step(payment)) return step;
    for (const Dispute& dispute : disputes)
        if (auto step = dispute_step(payment, dispute)) return step;
    return bonus_back_step(payment, disputes, goods, now);
}

bool mark_done(Tx& tx, PaymentId payment, const Step& step, PostingId posting, Time now) {
    switch (step.what) {
        case Step::What::payment:
            return sql::set_posting(tx, payment, posting, now);
        case Step::What::bonus:
            return sql::set_bonus_posting(tx, payment, posting);
        case Step::What::refund:
            return sql::set_refund_posted(tx, payment, step.from, step.to);
        case Step::What::bonus_back:
            return sql::set_bonus_taken(tx, payment, Nanos{step.from}, Nanos{step.to});
        case Step::What::dispute:
            return sql::set_dispute_posting(tx, step.dispute, false, posting);
        case Step::What::dispute_won:
            return sql::set_dispute_posting(tx, step.dispute, true, posting);
    }
    return false;
}

}  // namespace nebula::billing::commerce
