// Cards on file, by Stripe's names for them; auto-pay's settings.
#include <algorithm>

#include "accounts/audit.hpp"
#include "base/log.hpp"
#include "billing/commerce/amounts.hpp"
#include "billing/commerce/shop.hpp"

namespace nebula::billing::commerce {
namespace {

std::unexpected<Error> no_card() {
    return fail(Code::not_found, "there is no such payment method", "payment_method_id");
}

std::optional<Card> own_card(Tx& tx, AccountId account, std::string_view id) {
    auto card = sql::card(tx, id);
    if (!card || card->account != account || card->status != "attached") return std::nullopt;
    return card;
}

}  // namespace

Async<Result<json::object>> Shop::start_setup(accounts::Caller caller) {
    auto api = stripe();
    if (!api) co_return fail(std::move(api.error()));
    auto buyer = co_await customer(caller.account);
    if (!buyer) co_return fail(std::move(buyer.error()));
    StripeRequest request;
    request.path = "/v1/setup_intents";
    request.form = {{"customer", *buyer},
                    {"usage", "off_session"},
                    {"payment_method_types[]", "card"},
                    {"metadata[nebula_account]", caller.account.text()}};
    // Each is used once: a repeated request of the customer means another one.
    request.idempotency_key = "nebula-setup-" + PaymentId::next(clock_).text();
    auto answer = co_await (*api)->call(std::move(request));
    if (!answer) co_return fail(std::move(answer.error()));
    if (!answer->ok()) co_return fail(answer->error());
    co_return std::move(answer->body);
}

Async<Result<void>> Shop::sync_cards(AccountId account) {
    auto read = [account](Tx& tx) -> Result<std::string> {
        return sql::profile(tx, account).stripe_customer;
    };
    auto buyer = co_await db_.read(std::move(read));
    if (!buyer) co_return fail(std::move(buyer.error()));
    if (buyer->empty() || outside_.stripe == nullptr) co_return Result<void>();
    Time asked_at = clock_.now();
    StripeRequest request;
    request.method = http::Method::get;
    request.path = "/v1/customers/" + *buyer + "/payment_methods";
    request.form = {{"type", "card"}, {"limit", "100"}};
    auto answer = co_await outside_.stripe->call(std::move(request));
    if (!answer) co_return fail(std::move(answer.error()));
    if (!answer->ok()) co_return fail(answer->error());
    FollowUp work;
    auto keep = [&, this](Tx& tx) -> Result<bool> {
        Facts facts(tx, clock_.now());
        const json::value* list = answer->body.if_contains("data");
        if (list == nullptr || !list->is_array())
            return fail(Code::upstream_failed, "the payment provider has no list");
        std::vector<std::string_view> there;
        for (const json::value& item : list->get_array()) {
            if (!item.is_object()) continue;
            facts.card(account, item.get_object());
            there.push_back(text_of(item.get_object(), "id"));
        }
        const json::value* more = answer->body.if_contains("has_more");
        bool is_whole = more == nullptr || !more->is_bool() || !more->get_bool();
        for (const Card& card : sql::cards(tx, account))
            if (is_whole && card.created_at < asked_at && std::ranges::find(there, card.id) == there.end())
                facts.card_gone(card);
        work = facts.follow_up();
        return true;
    };
    auto kept = co_await db_.in_tx(std::move(keep));
    if (!kept) co_return fail(std::move(kept.error()));
    co_await follow_up(std::move(work));
    co_return Result<void>();
}

Async<Result<std::vector<Card>>> Shop::cards(AccountId account) {
    auto synced = co_await sync_cards(account);
    if (!synced) LOG_WARN("cards shown as last known", {"account", account.text()});
    auto read = [account](Tx& tx) -> Result<std::vector<Card>> { return sql::cards(tx, account); };
    co_return co_await db_.read(std::move(read));
}

Async<Result<void>> Shop::remove_card(accounts::Caller caller, std::string id) {
    auto api = stripe();
    if (!api) co_return fail(std::move(api.error()));
    FollowUp work;
    auto remove = [&, this](Tx& tx) -> Result<bool> {
        auto card = own_card(tx, caller.account, id);
        if (!card) return no_card();
        Facts facts(tx, clock_.now());
        facts.card_gone(*card);
        work = facts.follow_up();
        accounts::write_audit(
            tx, clock_, caller,
            {caller.account, "Delete", "Payment Method", id, card->brand + " " + card->last4, {}});
        return true;
    };
    auto removed = co_await db_.in_tx(std::move(remove));
    if (!removed) co_return fail(std::move(removed.error()));
    // Gone for us whatever Stripe answers.
    work.detach.push_back(id);
    co_await follow_up(std::move(work));
    co_return Result<void>();
}

Async<Result<void>> Shop::choose_card(accounts::Caller caller, std::string id, bool only_first) {
    auto synced = co_await sync_cards(caller.account);
    if (!synced) LOG_WARN("cards as last known", {"account", caller.account.text()});
    auto choose = [this, caller, id, only_first](Tx& tx) -> Result<bool> {
        if (!own_card(tx, caller.account, id)) return no_card();
        auto cards = sql::cards(tx, caller.account);
        bool has_default = !cards.empty() && cards.front().is_default;
        if (only_first && has_default) return true;
        sql::set_default_card(tx, caller.account, id);
        accounts::write_audit(tx, clock_, caller, {caller.account, "Update", "Payment Method", id, {}, {}});
        return true;
    };
    auto chosen = co_await db_.in_tx(std::move(choose));
    if (!chosen) co_return fail(std::move(chosen.error()));
    co_return Result<void>();
}

Async<Result<AutoPay>> Shop::auto_pay(AccountId account) {
    auto read = [account](Tx& tx) -> Result<AutoPay> { return sql::auto_pay(tx, account); };
    co_return co_await db_.read(std::move(read));
}

Async<Result<AutoPay>> Shop::save_auto_pay(accounts::Caller caller, AutoPay settings) {
    auto save = [this, caller, settings](Tx& tx) -> Result<AutoPay> {
        if (settings.enabled) {
            auto api = stripe();
            if (!api) return fail(std::move(api.error()));
            auto payment = new_payment(tx, caller.account, caller.user, "auto_pay", settings.amount);
            if (!payment) return fail(std::move(payment.error()));
            if (settings.threshold.value <= 0)
                return fail(Code::invalid_request, "'threshold' must be more than 0", "threshold");
            if (!settings.method.empty() && !own_card(tx, caller.account, settings.method)) return no_card();
            if (settings.method.empty() && !sql::has_card(tx, caller.account))
                return fail(Code::invalid_request, "auto-pay needs a card on file", "payment_method_id");
        }
        sql::save_auto_pay(tx, caller.account, settings);
        accounts::write_audit(tx, clock_, caller, {caller.account, "Update", "Auto-pay", {}, {}, {}});
        return sql::auto_pay(tx, caller.account);
    };
    co_return co_await db_.in_tx(std::move(save));
}

}  // namespace nebula::billing::commerce
