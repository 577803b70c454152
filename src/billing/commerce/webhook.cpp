// Stripe's webhooks: checked, written down as facts in one transaction, then posted.
#include <boost/json/parse.hpp>

#include "base/log.hpp"
#include "billing/commerce/amounts.hpp"
#include "billing/commerce/shop.hpp"

namespace nebula::billing::commerce {

Async<Result<void>> Shop::take_webhook(std::string body, std::string signature) {
    if (!takes_cards() || outside_.webhook_secret.empty())
        co_return fail(Code::invalid_request, "card payments are not set up here");
    auto valid =
        check_signature(signature, body, outside_.webhook_secret, clock_.now(), outside_.webhook_tolerance);
    if (!valid) {
        counters_.webhooks["refused"]->add();
        co_return fail(std::move(valid.error()));
    }
    boost::system::error_code bad;
    json::value event = json::parse(body, bad);
    if (bad || !event.is_object()) {
        counters_.webhooks["refused"]->add();
        co_return fail(Code::invalid_request, "the webhook must be a JSON object");
    }
    FollowUp work;
    auto take = [&, this](Tx& tx) -> Result<Outcome> {
        Facts facts(tx, clock_.now());
        Outcome outcome = facts.event(event.get_object(), body);
        work = facts.follow_up();
        return outcome;
    };
    auto outcome = co_await db_.in_tx(std::move(take));
    // Not written down: Stripe shall send it again.
    if (!outcome) co_return fail(std::move(outcome.error()));
    counters_.webhooks[outcome_word(*outcome)]->add();
    if (*outcome == Outcome::unknown || *outcome == Outcome::mismatch)
        LOG_WARN("webhook of Stripe not applied", {"outcome", outcome_word(*outcome)},
                 {"event", text_of(event.get_object(), "id")}, {"type", text_of(event.get_object(), "type")});
    co_await follow_up(std::move(work));
    co_return Result<void>();
}

// What fails here is written down and taken up again by run_due().
Async<void> Shop::follow_up(FollowUp work) {
    for (PaymentId id : work.payments) {
        auto done = co_await reconcile(id);
        if (!done)
            LOG_WARN("payment not posted yet", {"payment", id.text()}, {"message", done.error().message});
    }
    for (const std::string& id : work.detach) {
        if (outside_.stripe == nullptr) break;
        StripeRequest request;
        request.path = "/v1/payment_methods/" + id + "/detach";
        request.idempotency_key = "nebula-detach-" + id;
        auto answer = co_await outside_.stripe->call(std::move(request));
        if (!answer || !answer->ok()) LOG_WARN("card not detached at Stripe", {"method", id});
    }
    for (AccountId account : work.cards_changed) {
        auto changed = [this, account](Tx& tx) -> Result<bool> {
            billing_.terms_changed(tx, account);
            return true;
        };
        auto told = co_await db_.in_tx(std::move(changed));
        if (!told) LOG_WARN("terms stay until they are loaded again", {"account", account.text()});
    }
    for (AccountId account : work.cards) {
        auto synced = co_await sync_cards(account);
        if (!synced) LOG_WARN("cards not read from Stripe", {"account", account.text()});
    }
    for (PaymentId id : work.auto_pay_failed) {
        auto read = [id](Tx& tx) -> Result<std::optional<Payment>> { return sql::payment(tx, id); };
        auto payment = co_await db_.read(std::move(read));
        if (!payment || !*payment) continue;
        std::string text = "The automatic payment of " + (*payment)->net.text() +
                           " credits did not go through: " +
                           ((*payment)->failure.empty() ? "the card was declined" : (*payment)->failure) +
                           "\nCheck your card at " + goods_.public_url + "\n";
        co_await mail((*payment)->account, "Automatic payment failed", std::move(text));
    }
    for (AccountId account : work.auto_pay_off) {
        std::string text =
            "Automatic payments failed several times in a row and are switched off now.\n"
            "Switch them on again with a card that works at " +
            goods_.public_url + "\n";
        co_await mail(account, "Automatic payments are switched off", std::move(text));
    }
}

}  // namespace nebula::billing::commerce
