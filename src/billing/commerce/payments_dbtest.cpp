// Card payments on both engines: every webhook first, again, out of order, wrong and forged; refunds,
// disputes, auto-pay.
#include <thread>

#include "billing/commerce/shop_fixture.hpp"

namespace nebula::billing::commerce {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PaymentsDb : public ShopFixture {};
NEBULA_BOTH_ENGINES(PaymentsDb);

// What is charged is credits and tax; what is credited is credits and bonus; the invoice says both.
TEST_P(PaymentsDb, ACheckoutIsTaxedPostedAndInvoicedOnce) {
    options.taxes = {{"CA-QC", "GST+QST", "14.975"}};
    open();
    Profile profile;
    profile.country = "CA-QC";
    ASSERT_TRUE(sync_wait(shop->save_profile(caller(account), profile)).has_value());
    Payment payment = begin(account, 100);
    EXPECT_EQ(payment.cents, 11'498);
    EXPECT_EQ(payment.status, "pending");
    const StripeRequest& request = *stripe->last("/v1/checkout/sessions");
    EXPECT_EQ(MemoryStripe::field(request, "line_items[0][price_data][unit_amount]"), "10000");
    EXPECT_EQ(MemoryStripe::field(request, "line_items[1][price_data][unit_amount]"), "1498");
    EXPECT_EQ(MemoryStripe::field(request, "line_items[1][price_data][product_data][name]"), "GST+QST");
    EXPECT_EQ(available(account), "0") << "a page is no payment";
    hear("checkout.session.completed", session_of(payment));
    hear("payment_intent.succeeded", intent_of(payment));
    EXPECT_EQ(available(account), "120.0000");
    EXPECT_EQ(balance(account).bonus.text(), "20.0000");
    EXPECT_THAT(invoices, ElementsAre("100.0000 + 14.9800 GST+QST"));
    EXPECT_EQ(newest(account).status, "success");
    EXPECT_TRUE(newest(account).completed_at.has_value());
}

// What a profile says is printed on invoices and decides the tax: nothing else may get in.
TEST_P(PaymentsDb, ABillingProfileIsCheckedFieldByField) {
    Profile good{"Ada Ltd", "1 Road\nTown", "GB 123", "GB", {}};
    ASSERT_TRUE(sync_wait(shop->save_profile(caller(account), good)).has_value());
    auto refused = [&](std::string Profile::* field, std::string value) {
        Profile bad = good;
        bad.*field = std::move(value);
        auto saved = sync_wait(shop->save_profile(caller(account), bad));
        return saved ? std::string("ok") : saved.error().param;
    };
    EXPECT_EQ(refused(&Profile::name, std::string(201, 'n')), "name");
    EXPECT_EQ(refused(&Profile::name, "Ada\nLtd"), "name");
    EXPECT_EQ(refused(&Profile::tax_number, std::string(51, '1')), "tax_number");
    EXPECT_EQ(refused(&Profile::tax_number, std::string(1, '\0')), "tax_number");
    EXPECT_EQ(refused(&Profile::address, std::string(1'001, 'a')), "address");
    EXPECT_EQ(refused(&Profile::address, "1\n2\n3\n4\n5\n6\n7\n8\n9"), "address");
    EXPECT_EQ(refused(&Profile::address, "a\tb"), "address");
    for (const char* country : {"gb", "GBR", "G", "US-", "*"})
        EXPECT_EQ(refused(&Profile::country, country), "country") << country;
    EXPECT_EQ(refused(&Profile::country, "US-CA"), "ok");
    auto kept = sync_wait(shop->profile(account)).value();
    EXPECT_EQ(kept.address, good.address);
    EXPECT_EQ(kept.country, "US-CA");
}

// Amounts that cannot be sold are refused before anything is begun.
TEST_P(PaymentsDb, AmountsHaveBoundsAndWholeCents) {
    for (std::int64_t nanos : {std::int64_t{0}, -credit, 4 * credit, 10'001 * credit, 10 * credit + 1}) {
        auto begun = sync_wait(shop->start_checkout(caller(account), Nanos{nanos}, "/"));
        ASSERT_FALSE(begun.has_value()) << nanos;
        EXPECT_EQ(begun.error().param, "amount");
    }
    EXPECT_TRUE(stripe->requests.empty());
}

struct Told {
    const char* type;
    const char* payment_status;  // of a session; or status of an intent
    const char* status;          // of a session; null: an intent
    const char* becomes;         // of a pending payment
    const char* available;
};

// Every event about a payment, alone, doubled, and with another one before or after it.
TEST_P(PaymentsDb, EveryEventFirstAgainAndInAnyOrder) {
    const Told table[] = {
        {"checkout.session.completed", "paid", "complete", "success", "10.0000"},
        {"checkout.session.completed", "unpaid", "complete", "pending", "0"},
        {"checkout.session.async_payment_succeeded", "paid", "complete", "success", "10.0000"},
        {"checkout.session.async_payment_failed", "unpaid", "complete", "failed", "0"},
        {"checkout.session.expired", "unpaid", "expired", "expired", "0"},
        {"payment_intent.succeeded", "succeeded", nullptr, "success", "10.0000"},
        {"payment_intent.payment_failed", "requires_payment_method", nullptr, "failed", "0"},
        {"payment_intent.canceled", "canceled", nullptr, "expired", "0"},
    };
    auto object_of = [&](const Told& told, const Payment& p) {
        json::object object = told.status != nullptr ? session_of(p, told.payment_status, told.status)
                                                     : intent_of(p, told.payment_status);
        if (std::string_view(told.becomes) == "failed")
            object["last_payment_error"] = json::object{{"message", "no"}};
        return object;
    };
    for (const Told& told : table) {
        AccountId buyer = new_account("b" + std::to_string(++serial) + "@example.com");
        Payment p = begin(buyer, 10);
        json::object first = event(told.type, object_of(told, p));
        ASSERT_TRUE(send(first).has_value());
        EXPECT_EQ(newest(buyer).status, told.becomes) << told.type;
        EXPECT_EQ(available(buyer), told.available) << told.type;
        ASSERT_TRUE(send(first).has_value()) << "the same event again";
        hear(told.type, object_of(told, p));  // the same news by another event
        EXPECT_EQ(available(buyer), told.available) << told.type;
        for (const Told& other : table) {
            AccountId second = new_account("c" + std::to_string(++serial) + "@example.com");
            Payment q = begin(second, 10);
            hear(told.type, object_of(told, q));
            hear(other.type, object_of(other, q));
            // Money that came once stays, whatever else is heard before or after.
            bool is_paid =
                std::string_view(told.becomes) == "success" || std::string_view(other.becomes) == "success";
            EXPECT_EQ(available(second), is_paid ? "10.0000" : "0") << told.type << " then " << other.type;
            if (is_paid) EXPECT_EQ(newest(second).status, "success") << told.type << " then " << other.type;
        }
    }
}

// What does not agree with our row, is about nothing of ours, or is not signed moves nothing.
TEST_P(PaymentsDb, WrongUnknownAndForgedEventsMoveNothing) {
    Payment p = begin(account, 10);
    json::object object = intent_of(p);
    object["amount"] = object["amount_received"] = p.cents + 1;
    hear("payment_intent.succeeded", object);
    object = intent_of(p);
    object["amount_received"] = p.cents - 1;
    hear("payment_intent.succeeded", object);
    object = intent_of(p);
    object["currency"] = "eur";
    hear("payment_intent.succeeded", object);
    object = session_of(p);
    object["amount_total"] = 1;
    hear("checkout.session.completed", object);
    EXPECT_EQ(heard("mismatch"), 4u);
    object = intent_of(p);
    object["id"] = "pi_other";
    object["metadata"] = json::object{{"nebula_payment", "pay_0000000000001"}};
    hear("payment_intent.succeeded", object);
    hear("payment_intent.succeeded", {{"id", "pi_foreign"}, {"object", "payment_intent"}, {"amount", 5}});
    hear("charge.refunded", charge_of(Payment{}, 5));
    hear("charge.dispute.created", dispute_of(Payment{}, "needs_response"));
    hear("setup_intent.succeeded", {{"id", "seti_x"}, {"customer", "cus_x"}});
    hear("payment_method.attached", card_of("pm_x", "cus_x", "fp"));
    hear("payment_method.detached", {{"id", "pm_x"}, {"customer", nullptr}});
    EXPECT_EQ(heard("unknown"), 7u);
    hear("customer.created", {{"id", "cus_x"}});
    hear("checkout.session.completed", {{"id", "cs_setup"}, {"mode", "setup"}});
    EXPECT_EQ(heard("ignored"), 2u);

    std::string body = json::serialize(event("payment_intent.succeeded", intent_of(p)));
    for (const std::string& header :
         {std::string(), sign(body, "whsec_wrong", clock.now()), sign(body, "whsec_shop", clock.now() - 301s),
          sign(body, "whsec_shop", clock.now() + 301s), sign(body + " ", "whsec_shop", clock.now())}) {
        auto taken = sync_wait(shop->take_webhook(body, header));
        ASSERT_FALSE(taken.has_value());
        EXPECT_EQ(taken.error().code, Code::invalid_request);
    }
    EXPECT_FALSE(sync_wait(shop->take_webhook("[1]", sign("[1]", "whsec_shop", clock.now()))).has_value());
    EXPECT_EQ(heard("refused"), 6u);
    EXPECT_EQ(available(account), "0");
    EXPECT_EQ(newest(account).status, "pending");
}

// Many deliveries at once, from several nodes: one posting.
TEST_P(PaymentsDb, EventsAtOncePostOnce) {
    Payment p = begin(account, 25);
    std::vector<std::jthread> threads;
    for (int i = 0; i < 6; ++i) {
        json::object e = i % 2 ? event("payment_intent.succeeded", intent_of(p))
                               : event("checkout.session.completed", session_of(p));
        threads.emplace_back([this, e] { EXPECT_TRUE(send(e).has_value()); });
    }
    threads.clear();
    run_due();
    EXPECT_EQ(available(account), "27.5000");
    EXPECT_EQ(invoices.size(), 1u);
}

// Refunds are cumulative: the difference is posted; the bonus goes with the money; the tax is given back in
// step.
TEST_P(PaymentsDb, RefundsPostTheDifferenceInAnyOrder) {
    options.taxes = {{"*", "VAT", "20"}};
    open();
    Payment p = begin(account, 25);
    EXPECT_EQ(p.cents, 3'000);
    hear("charge.refunded", charge_of(p, 600));  // before anything is known of the payment
    EXPECT_EQ(available(account), "0");
    hear("payment_intent.succeeded", intent_of(p));
    EXPECT_EQ(available(account), "22.0000") << "25 and 2.5 less a fifth of both";
    hear("charge.refunded", charge_of(p, 1'500));
    hear("charge.refunded", charge_of(p, 900));  // late
    EXPECT_EQ(available(account), "13.7500");
    EXPECT_EQ(newest(account).status, "success");
    hear("charge.refunded", charge_of(p, 3'000));
    hear("charge.refunded", charge_of(p, 3'000));
    EXPECT_EQ(available(account), "0");
    EXPECT_EQ(newest(account).status, "refunded");
    json::object wrong = charge_of(p, 3'001);
    hear("charge.refunded", wrong);
    EXPECT_EQ(heard("mismatch"), 1u);
}

// What was spent already becomes a debt: spending stops, and new money pays the debt first.
TEST_P(PaymentsDb, ARefundAfterSpendingIsADebt) {
    Payment p = begin(account, 10);
    hear("payment_intent.succeeded", intent_of(p));
    spend(account, 4 * credit);
    hear("charge.refunded", charge_of(p, 1'000));
    EXPECT_EQ(available(account), "-4.0000");
    EXPECT_EQ(balance(account).debt.text(), "4.0000");
    EXPECT_TRUE(terms(account).is_suspended);
    hear("payment_intent.succeeded", intent_of(begin(account, 5)));
    EXPECT_EQ(available(account), "1.0000");
    EXPECT_FALSE(terms(account).is_suspended);
}

// A dispute takes the money at once; won, it comes back; lost, the bonus goes too. In whatever order it is
// heard.
TEST_P(PaymentsDb, DisputesTakeAndGiveBack) {
    Payment p = begin(account, 25);
    hear("payment_intent.succeeded", intent_of(p));
    hear("charge.dispute.created", dispute_of(p, "warning_needs_response"));
    EXPECT_EQ(available(account), "27.5000") << "an inquiry takes nothing";
    hear("charge.dispute.funds_withdrawn", dispute_of(p, "needs_response"));
    hear("charge.dispute.created", dispute_of(p, "needs_response"));
    EXPECT_EQ(available(account), "2.5000");
    EXPECT_EQ(newest(account).status, "disputed");
    hear("charge.dispute.closed", dispute_of(p, "won"));
    hear("charge.dispute.funds_reinstated", dispute_of(p, "won"));
    EXPECT_EQ(available(account), "27.5000");
    EXPECT_EQ(newest(account).status, "success");

    AccountId other = new_account("order@example.com");
    Payment q = begin(other, 25);
    // Before the payment's intent was ever named to us.
    hear("charge.dispute.closed", dispute_of(q, "lost"));
    EXPECT_EQ(heard("unknown"), 1u);
    hear("checkout.session.completed", session_of(q));
    EXPECT_EQ(available(other), "0");
    hear("charge.dispute.created", dispute_of(q, "needs_response"));
    EXPECT_EQ(available(other), "0");
    EXPECT_EQ(newest(other).status, "disputed");

    AccountId third = new_account("reinstated@example.com");
    Payment r = begin(third, 10);
    hear("charge.dispute.funds_reinstated", dispute_of(r, "won"));
    hear("payment_intent.succeeded", intent_of(r));
    hear("charge.dispute.funds_withdrawn", dispute_of(r, "needs_response"));
    EXPECT_EQ(available(third), "10.0000");
}

// A lost webhook is made up for by asking; what nobody paid ends.
TEST_P(PaymentsDb, LostWebhooksAreMadeUpFor) {
    Payment p = begin(account, 10);
    stripe->objects[p.session] = session_of(p);
    clock.advance(14min);
    run_due();
    EXPECT_EQ(available(account), "0");
    clock.advance(2min);
    run_due();
    EXPECT_EQ(available(account), "10.0000");
    Payment q = begin(account, 10);
    stripe->objects[q.session] = session_of(q, "unpaid", "expired");
    EXPECT_EQ(sync_wait(shop->look_up(account, q.session)).value().status, "expired");
    EXPECT_EQ(sync_wait(shop->look_up(new_account("eve@example.com"), q.session)).error().code,
              Code::not_found);
    // Stripe never answered the beginning.
    ASSERT_TRUE(sync_wait(shop->start_setup(caller(account))).has_value());
    stripe->failures = 1;
    EXPECT_FALSE(sync_wait(shop->start_checkout(caller(account), Nanos{10 * credit}, "/")).has_value());
    clock.advance(16min);
    run_due();
    EXPECT_EQ(newest(account).status, "expired");
}

// At most once an hour, once per attempt whatever is lost, off after three failures; and the owner is told.
TEST_P(PaymentsDb, AutoPayChargesTheCardOnceAnHour) {
    AutoPay wanted{true, Nanos{5 * credit}, Nanos{25 * credit}, {}, {}, 0};
    EXPECT_THAT(sync_wait(shop->save_auto_pay(caller(account), wanted)).error().message,
                HasSubstr("needs a card"));
    add_card(account, "pm_1", "fp_1");
    ASSERT_TRUE(sync_wait(shop->save_auto_pay(caller(account), wanted)).has_value());
    run_due();
    EXPECT_EQ(available(account), "27.5000");
    const StripeRequest& request = *stripe->last("/v1/payment_intents");
    EXPECT_EQ(MemoryStripe::field(request, "off_session"), "true");
    EXPECT_EQ(MemoryStripe::field(request, "payment_method"), "pm_1");
    spend(account, 27 * credit);
    clock.advance(59min);
    run_due();
    EXPECT_EQ(available(account), "0.5000");
    clock.advance(1min);
    stripe->failures = 1;  // the answer is lost: asked again with the same key
    run_due();
    EXPECT_EQ(available(account), "0.5000");
    clock.advance(2min);
    run_due();
    run_due();
    EXPECT_EQ(available(account), "28.0000");
    EXPECT_EQ(stripe->requests.at(stripe->requests.size() - 1).idempotency_key,
              "nebula-auto-" + newest(account).id.text());
    spend(account, 28 * credit);
    stripe->decline = "Your card was declined.";
    for (int i = 0; i < 5; ++i) {
        clock.advance(1h);
        run_due();
    }
    EXPECT_FALSE(sync_wait(shop->auto_pay(account)).value().enabled);
    EXPECT_EQ(stripe->count("/v1/payment_intents"), 6);
    ASSERT_EQ(mails.size(), 4u);
    EXPECT_THAT(mails[0].text, HasSubstr("Your card was declined."));
    EXPECT_THAT(mails[3].subject, HasSubstr("switched off"));
    EXPECT_EQ(newest(account).status, "failed");
    EXPECT_EQ(available(account), "0");
}

// Paying with a kept card, and only with one's own.
TEST_P(PaymentsDb, AnIntentChargesAKeptCard) {
    add_card(account, "pm_1", "fp_1");
    auto paid = sync_wait(shop->start_intent(caller(account), Nanos{10 * credit}, "pm_1"));
    ASSERT_TRUE(paid.has_value());
    EXPECT_EQ(available(account), "10.0000");
    AccountId eve = new_account("eve@example.com");
    EXPECT_EQ(sync_wait(shop->start_intent(caller(eve), Nanos{10 * credit}, "pm_1")).error().code,
              Code::not_found);
    EXPECT_EQ(sync_wait(shop->remove_card(caller(eve), "pm_1")).error().code, Code::not_found);
    EXPECT_EQ(sync_wait(shop->choose_card(caller(eve), "pm_1", false)).error().code, Code::not_found);
    stripe->decline = "Insufficient funds.";
    auto declined = sync_wait(shop->start_intent(caller(account), Nanos{10 * credit}, "pm_1"));
    EXPECT_EQ(declined.error().code, Code::payment_required);
    EXPECT_EQ(declined.error().message, "Insufficient funds.");
    EXPECT_EQ(newest(account).status, "failed");
    auto open_intent = sync_wait(shop->start_intent(caller(account), Nanos{5 * credit}, {}));
    EXPECT_EQ(text_of(open_intent.value(), "status"), "requires_payment_method");
    EXPECT_EQ(newest(account).status, "pending");
}

// One card serves one account; the newest of the same replaces it; a removed one does not come back.
TEST_P(PaymentsDb, CardsBelongToOneAccount) {
    add_card(account, "pm_1", "fp_1");
    AccountId eve = new_account("eve@example.com");
    stripe->methods.clear();
    add_card(eve, "pm_2", "fp_1");
    stripe->methods.clear();
    EXPECT_TRUE(sync_wait(shop->cards(eve)).value().empty());
    EXPECT_NE(stripe->last("/v1/payment_methods/pm_2/detach"), nullptr);
    clock.advance(1s);
    add_card(account, "pm_3", "fp_1");
    add_card(account, "pm_4", "fp_4");
    stripe->methods.clear();
    for (const char* id : {"pm_3", "pm_4"})
        stripe->methods.push_back(
            card_of(id, customer_of(account), std::string("fp_") + (id[3] == '3' ? "1" : "4")));
    auto cards = sync_wait(shop->cards(account)).value();
    ASSERT_EQ(cards.size(), 2u);
    EXPECT_EQ(cards[0].id, "pm_3");
    EXPECT_TRUE(cards[0].is_default);
    ASSERT_TRUE(sync_wait(shop->choose_card(caller(account), "pm_4", true)).has_value());
    EXPECT_EQ(sync_wait(shop->cards(account)).value()[0].id, "pm_3") << "there is a default already";
    ASSERT_TRUE(sync_wait(shop->choose_card(caller(account), "pm_4", false)).has_value());
    EXPECT_EQ(sync_wait(shop->cards(account)).value()[0].id, "pm_4");
    ASSERT_TRUE(sync_wait(shop->remove_card(caller(account), "pm_4")).has_value());
    hear("payment_method.attached", card_of("pm_4", customer_of(account), "fp_4"));
    cards = sync_wait(shop->cards(account)).value();
    ASSERT_EQ(cards.size(), 1u);
    EXPECT_TRUE(cards[0].is_default);
    hear("payment_method.detached", {{"id", "pm_3"}, {"customer", nullptr}});
    json::object early = event("payment_method.detached", {{"id", "pm_5"}, {"customer", nullptr}});
    early["data"].as_object()["previous_attributes"] = json::object{{"customer", customer_of(account)}};
    ASSERT_TRUE(send(early).has_value());
    hear("payment_method.attached", card_of("pm_5", customer_of(account), "fp_5"));
    stripe->methods.clear();
    EXPECT_TRUE(sync_wait(shop->cards(account)).value().empty());
}

}  // namespace
}  // namespace nebula::billing::commerce
