#pragma once
// A shop on a real database with a clock that tests move, a Stripe in memory, and mails that are kept.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <deque>
#include <mutex>

#include "base/crypto.hpp"
#include "billing/billing_fixture.hpp"
#include "billing/commerce/amounts.hpp"
#include "billing/commerce/shop.hpp"

namespace nebula::billing::commerce {

/// Makes objects, keeps them and does what the test says. Thread-safe as far as calls go.
class MemoryStripe final : public StripeApi {
   public:
    Async<Result<StripeAnswer>> call(StripeRequest request) override {
        std::lock_guard lock(mutex_);
        requests.push_back(request);
        if (failures > 0) {
            --failures;
            co_return fail(Code::timeout, "the payment provider does not answer; try again");
        }
        co_return answer(request);
    }
    /// The last request to this path.
    const StripeRequest* last(std::string_view path) const {
        for (auto it = requests.rbegin(); it != requests.rend(); ++it)
            if (it->path == path) return &*it;
        return nullptr;
    }
    int count(std::string_view path) const {
        return static_cast<int>(
            std::ranges::count_if(requests, [&](const auto& r) { return r.path == path; }));
    }
    static std::string field(const StripeRequest& request, std::string_view name) {
        for (const auto& [key, value] : request.form)
            if (key == name) return value;
        return {};
    }

    std::vector<StripeRequest> requests;
    int failures = 0;     // so many calls are not answered
    std::string decline;  // message of every charge's refusal
    std::map<std::string, json::object> objects;
    std::map<std::string, std::string> by_key;  // idempotency key → id
    json::array methods;                        // of the customer

   private:
    StripeAnswer answer(const StripeRequest& request) {
        if (request.method == http::Method::get) {
            if (request.path.ends_with("/payment_methods"))
                return {200, {{"data", methods}, {"has_more", false}}};
            auto found = objects.find(request.path.substr(request.path.rfind('/') + 1));
            if (found == objects.end()) return {404, {{"error", {{"type", "invalid_request_error"}}}}};
            return {200, found->second};
        }
        if (request.path.ends_with("/detach")) return {200, {}};
        EXPECT_FALSE(request.idempotency_key.empty()) << request.path;
        if (auto known = by_key.find(request.idempotency_key); known != by_key.end())
            return {200, objects[known->second]};
        json::object made = make(request);
        std::string id(text_of(made, "id"));
        if (text_of(made, "status") == "requires_payment_method" && made.contains("last_payment_error"))
            return {402,
                    {{"error", {{"type", "card_error"}, {"message", decline}, {"payment_intent", made}}}}};
        objects[id] = made;
        by_key[request.idempotency_key] = id;
        return {200, made};
    }

    json::object make(const StripeRequest& request) {
        std::string n = std::to_string(++serial_);
        std::string payment = field(request, "metadata[nebula_payment]");
        json::object metadata{{"nebula_payment", payment}};
        if (request.path == "/v1/customers") return {{"id", "cus_" + n}, {"object", "customer"}};
        if (request.path == "/v1/setup_intents") return {{"id", "seti_" + n}, {"object", "setup_intent"}};
        if (request.path == "/v1/checkout/sessions") {
            std::int64_t total = 0;
            for (const auto& [name, value] : request.form)
                if (name.ends_with("[unit_amount]")) total += std::stoll(value);
            return {{"id", "cs_" + n},          {"object", "checkout.session"}, {"mode", "payment"},
                    {"status", "open"},         {"payment_status", "unpaid"},   {"amount_total", total},
                    {"currency", "usd"},        {"metadata", metadata},         {"payment_intent", nullptr},
                    {"url", "https://pay/" + n}};
        }
        json::object intent{{"id", "pi_" + n},
                            {"object", "payment_intent"},
                            {"amount", std::stoll(field(request, "amount"))},
                            {"amount_received", 0},
                            {"currency", "usd"},
                            {"metadata", metadata},
                            {"status", "requires_payment_method"}};
        if (field(request, "confirm") != "true") return intent;
        if (!decline.empty()) {
            intent["last_payment_error"] = json::object{{"message", decline}};
            return intent;
        }
        intent["status"] = "succeeded";
        intent["amount_received"] = intent["amount"];
        intent["payment_method"] = field(request, "payment_method");
        return intent;
    }

    std::mutex mutex_;
    int serial_ = 0;
};

class ShopFixture : public store::EngineTest {
   public:
    void SetUp() override {
        log::set_sink_for_test([](std::string_view) {});
        ASSERT_TRUE(db().migrate(all_migrations()).has_value());
        accounts_ = std::make_unique<accounts::Accounts>(db(), clock, metrics);
        billing = std::make_unique<Billing>(billing_settings, db(), clock, metrics);
        billing->start();
        account = new_account("ada@example.com");
        open();
    }
    void TearDown() override {
        shop.reset();
        billing.reset();
        log::set_sink_for_test(nullptr);
        auto report = Billing::verify(db());
        ASSERT_TRUE(report.has_value()) << report.error().detail;
        EXPECT_EQ(report->problems, std::vector<std::string>{});
        accounts_.reset();
    }

    /// Anew, with `options` and `with_cards` as they are now.
    void open() {
        shop.reset();
        Outside outside;
        outside.send_mail = [this](accounts::Mail mail) { mails.push_back(std::move(mail)); };
        outside.add_invoice = [this](store::Tx&, const Clock&, AccountId, UserId, Nanos net, Nanos tax,
                                     std::string_view name, PostingId movement, std::string_view,
                                     std::string_view) {
            EXPECT_TRUE(movement);
            invoices.push_back(net.text() + " + " + tax.text() + " " + std::string(name));
            return std::int64_t{1};
        };
        if (with_cards) {
            auto made = std::make_unique<MemoryStripe>();
            stripe = made.get();
            outside.stripe = std::move(made);
            outside.webhook_secret = Secret("whsec_shop");
        }
        shop = std::make_unique<Shop>(check_goods(options).value(), std::move(outside), db(), *billing, clock,
                                      metrics);
        billing->set_terms_loader(
            [this](store::Tx& tx, AccountId of, Time now) { return shop->load_terms(tx, of, now); });
    }

    /// A person's account, so that there is somebody to write to.
    AccountId new_account(const std::string& email) {
        AccountId made = sync_wait(accounts_->create_account(email)).value().id;
        UserId user = UserId::next(clock);
        auto own = [&](store::Tx& tx) -> Result<bool> {
            static constexpr store::Sql person{"test.user",
                                               "INSERT INTO users (id, email, password_hash, role, "
                                               "created_at) VALUES ($1, $2, 'x', 'customer', 1)"};
            static constexpr store::Sql owner{"test.owner",
                                              "UPDATE accounts SET owner_id = $2 WHERE id = $1"};
            tx.exec(person, {user.db(), email});
            tx.exec(owner, {made.db(), user.db()});
            return true;
        };
        EXPECT_TRUE(db().in_tx_blocking(own).has_value());
        return made;
    }
    accounts::Caller caller(AccountId of) {
        accounts::Caller made;
        made.kind = accounts::Caller::Kind::person;
        made.account = of;
        made.user = UserId{7};
        return made;
    }
    void give(AccountId to, std::int64_t credits) {
        auto given = sync_wait(billing->grant(to, Nanos{credits * credit}, {}, "test"));
        ASSERT_TRUE(given.has_value()) << given.error().message;
    }
    /// Takes `nanos` as a product's charge does.
    void spend(AccountId from, std::int64_t nanos) {
        Movement movement;
        movement.account = from;
        movement.kind = MovementKind::charge;
        movement.amount = Nanos{nanos};
        movement.key = "spend-" + std::to_string(++serial);
        movement.product = "gpu";
        auto moved = sync_wait(billing->move(movement));
        ASSERT_TRUE(moved.has_value()) << moved.error().message;
    }
    Balance balance(AccountId of) { return sync_wait(billing->balance(of)).value(); }
    std::string available(AccountId of) { return balance(of).available.text(); }
    Terms terms(AccountId of) {
        auto read = [&](store::Tx& tx) -> Result<Terms> { return shop->load_terms(tx, of, clock.now()); };
        return db().read_blocking(read).value();
    }
    std::string subscribe(AccountId of, const char* plan) {
        auto done = sync_wait(shop->subscribe(of, plan, nullptr, false));
        return done ? "ok" : code_name(done.error().code);
    }
    void run_due() { sync_wait(shop->run_due()); }
    Payment payment(PaymentId id) {
        auto read = [id](store::Tx& tx) -> Result<std::optional<Payment>> { return sql::payment(tx, id); };
        return db().read_blocking(read).value().value();
    }
    Payment newest(AccountId of) { return sync_wait(shop->payments(of, {}, 1)).value().at(0); }

    /// A checkout of `credits` that was begun.
    Payment begin(AccountId of, std::int64_t credits) {
        auto session = sync_wait(shop->start_checkout(caller(of), Nanos{credits * credit}, "/billing"));
        EXPECT_TRUE(session.has_value()) << session.error().message;
        return newest(of);
    }
    static std::string sign(const std::string& body, const std::string& secret, Time at) {
        std::string seconds = std::to_string(to_micros(at) / 1'000'000), text = seconds + "." + body;
        unsigned char digest[32];
        unsigned int length = 0;
        HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
             reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest, &length);
        return "t=" + seconds + ",v1=" + to_hex({digest, length});
    }
    json::object event(const std::string& type, json::object object, const std::string& id = {}) {
        return {{"id", id.empty() ? "evt_" + std::to_string(++serial) : id},
                {"type", type},
                {"data", {{"object", std::move(object)}}}};
    }
    Result<void> send(const json::object& event) {
        std::string body = json::serialize(event);
        return sync_wait(shop->take_webhook(body, sign(body, "whsec_shop", clock.now())));
    }
    void hear(const std::string& type, json::object object) {
        auto taken = send(event(type, std::move(object)));
        EXPECT_TRUE(taken.has_value()) << taken.error().message;
    }
    // Objects about a payment, as Stripe shows them.
    static std::string intent_name(const Payment& p) { return "pi_of_" + p.id.text(); }
    json::object session_of(const Payment& p, const char* payment_status = "paid",
                            const char* status = "complete") {
        return {{"id", p.session},
                {"object", "checkout.session"},
                {"mode", "payment"},
                {"status", status},
                {"payment_status", payment_status},
                {"amount_total", p.cents},
                {"currency", "usd"},
                {"payment_intent", intent_name(p)},
                {"metadata", {{"nebula_payment", p.id.text()}}}};
    }
    json::object intent_of(const Payment& p, const char* status = "succeeded") {
        return {{"id", intent_name(p)},
                {"object", "payment_intent"},
                {"amount", p.cents},
                {"amount_received", std::string_view(status) == "succeeded" ? p.cents : 0},
                {"currency", "usd"},
                {"status", status},
                {"metadata", {{"nebula_payment", p.id.text()}}}};
    }
    json::object charge_of(const Payment& p, std::int64_t refunded) {
        return {{"id", "ch_1"},      {"object", "charge"},
                {"amount", p.cents}, {"amount_refunded", refunded},
                {"currency", "usd"}, {"payment_intent", intent_name(p)}};
    }
    json::object dispute_of(const Payment& p, const char* status) {
        return {{"id", "dp_of_" + p.id.text()},
                {"object", "dispute"},
                {"amount", p.cents},
                {"currency", "usd"},
                {"status", status},
                {"payment_intent", intent_name(p)}};
    }
    json::object card_of(const std::string& id, const std::string& customer, const std::string& fingerprint) {
        return {{"id", id},
                {"object", "payment_method"},
                {"type", "card"},
                {"customer", customer},
                {"card",
                 {{"brand", "visa"},
                  {"last4", "4242"},
                  {"exp_month", 2},
                  {"exp_year", 2031},
                  {"fingerprint", fingerprint}}}};
    }
    std::string customer_of(AccountId of) {
        auto read = [of](store::Tx& tx) -> Result<std::string> {
            return sql::profile(tx, of).stripe_customer;
        };
        return db().read_blocking(read).value();
    }
    /// The account has a card.
    void add_card(AccountId of, const std::string& id, const std::string& fingerprint) {
        ASSERT_TRUE(sync_wait(shop->start_setup(caller(of))).has_value());
        json::object method = card_of(id, customer_of(of), fingerprint);
        stripe->methods.push_back(method);
        hear("payment_method.attached", method);
    }
    std::uint64_t heard(const char* outcome) {
        return metrics.counter("nebula_stripe_webhooks_total", "", {{"outcome", outcome}}).value();
    }

    metrics::Registry metrics;
    FakeClock clock;
    BillingSettings billing_settings;
    std::unique_ptr<accounts::Accounts> accounts_;
    std::unique_ptr<Billing> billing;
    CommerceOptions options;
    bool with_cards = true;
    std::unique_ptr<Shop> shop;
    MemoryStripe* stripe = nullptr;
    std::deque<accounts::Mail> mails;
    std::vector<std::string> invoices;
    AccountId account;
    int serial = 0;
};

}  // namespace nebula::billing::commerce
