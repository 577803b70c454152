#pragma once
// Commerce as built: what Commerce::make() returns, with what it needs from outside replaceable by tests.

#include <atomic>
#include <map>
#include <mutex>

#include "accounts/caller.hpp"
#include "billing/commerce.hpp"
#include "billing/commerce/facts.hpp"
#include "billing/commerce/goods.hpp"
#include "billing/commerce/plan_change.hpp"
#include "billing/commerce/stripe.hpp"
#include "billing/commerce/tables.hpp"

namespace nebula::billing::commerce {

/// Bills::add_payment_invoice.
using AddInvoice = std::function<std::int64_t(
    store::Tx& tx, const Clock& clock, AccountId account, UserId user, Nanos net, Nanos tax,
    std::string_view tax_name, PostingId movement, std::string_view reference, std::string_view tax_percent)>;
struct Outside {
    std::function<void(accounts::Mail)> send_mail;
    AddInvoice add_invoice;
    std::unique_ptr<StripeApi> stripe;  // null: no card payments
    Secret webhook_secret;
    std::chrono::milliseconds webhook_tolerance{300'000};
};

/// What a customer sees of the plan.
struct PlanView {
    Subscription row;
    const PlanSettings* plan = nullptr;  // null: none
    Time quota_start;
    Time quota_end;
    TokenUsage used;
};

class Routes;

class Shop final : public Commerce {
   public:
    Shop(Goods goods, Outside outside, store::Db& db, Billing& billing, const Clock& clock,
         metrics::Registry& metrics);
    ~Shop() override;

    Terms load_terms(Tx& tx, AccountId account, Time now) override;
    Async<Result<void>> subscribe(AccountId account, std::string plan, const accounts::Caller* caller,
                                  bool by_operator) override;
    Async<Result<void>> cancel(AccountId account, const accounts::Caller* caller) override;
    Async<Result<Moved>> redeem(AccountId account, std::string code, const accounts::Caller* caller) override;
    Async<Result<NewCode>> create_code(NewCode code, const accounts::Caller* by = nullptr) override;
    Async<Result<Suspension>> suspend(AccountId account, std::string reason,
                                      const accounts::Caller* by) override;
    Async<Result<void>> resume(AccountId account, const accounts::Caller* by) override;
    Async<Result<std::optional<Suspension>>> suspension(AccountId account) override;
    Async<void> run_due() override;
    Tax tax_on(Tx& tx, AccountId account, Nanos amount) override;
    void register_routes(http::Router& router, accounts::Guard& guard) override;

    const Goods& goods() const { return goods_; }
    bool takes_cards() const { return outside_.stripe != nullptr; }
    Async<Result<PlanView>> plan_view(AccountId account);
    Async<Result<std::vector<CodeRow>>> list_codes();
    Async<Result<Profile>> profile(AccountId account);
    Async<Result<void>> save_profile(accounts::Caller caller, Profile profile);
    Async<Result<std::vector<Payment>>> payments(AccountId account, PaymentId before, std::int64_t limit);

    // Card payments. Errors: invalid_request (amount, no card payments here), payment_required (declined),
    // upstream_failed, timeout.
    /// Stripe's page where `amount` of credits are paid; answers its session object.
    Async<Result<json::object>> start_checkout(accounts::Caller caller, Nanos amount,
                                               std::string return_path);
    /// Stripe's PaymentIntent, to be confirmed by the customer's browser; with `method`, charged to that card
    /// now.
    Async<Result<json::object>> start_intent(accounts::Caller caller, Nanos amount, std::string method);
    /// `intent` or session of this account: asks Stripe how it stands and answers the payment.
    Async<Result<Payment>> look_up(AccountId account, std::string intent_or_session);
    /// Stripe's SetupIntent: for adding a card.
    Async<Result<json::object>> start_setup(accounts::Caller caller);
    /// As Stripe has them now; as last known when it does not answer.
    Async<Result<std::vector<Card>>> cards(AccountId account);
    Async<Result<void>> remove_card(accounts::Caller caller, std::string id);
    /// `only_first`: keeps a default that there is.
    Async<Result<void>> choose_card(accounts::Caller caller, std::string id, bool only_first);
    Async<Result<AutoPay>> auto_pay(AccountId account);
    Async<Result<AutoPay>> save_auto_pay(accounts::Caller caller, AutoPay settings);

    /// A webhook as received. Error: invalid_request (signature), or internal: Stripe shall send it again.
    Async<Result<void>> take_webhook(std::string body, std::string signature);
    /// Posts what is known of the payment and not in the ledger yet. Idempotent.
    Async<Result<void>> reconcile(PaymentId id);
    Async<void> charge_automatically(AccountId account);

   private:
    struct Counters {
        explicit Counters(metrics::Registry& metrics);
        metrics::Counter& payments;
        metrics::Counter& renewals;
        metrics::Counter& lapsed;
        metrics::Counter& redemptions;
        std::map<std::string, metrics::Counter*, std::less<>> webhooks;  // by outcome
    };
    using Work = std::function<Result<void>(Tx&)>;

    std::string tier_of(Tx& tx, AccountId account, Time now, Terms& terms);
    Async<Result<Subscription>> read_subscription(AccountId account);
    Async<Result<void>> store_change(Work also);
    Async<Result<void>> charge_plan(AccountId account, Nanos fee, Subscription row, Work also);
    Async<void> post_bonus(AccountId account);
    Async<void> renew(AccountId account);
    Async<void> lapse(AccountId account, Subscription row, std::string reason);
    Work storing(AccountId account, Subscription row, std::optional<accounts::Caller> caller,
                 std::string action);

    Result<StripeApi*> stripe();
    Result<Payment> new_payment(Tx& tx, AccountId account, UserId user, std::string kind, Nanos amount);
    Async<Result<Payment>> insert_payment(AccountId account, UserId user, std::string kind, Nanos amount,
                                          std::string method);
    Async<Result<std::string>> customer(AccountId account);
    Async<Result<Payment>> apply_answer(PaymentId id, StripeAnswer answer);
    Async<void> refresh(Payment payment);
    Async<Result<StripeAnswer>> send_automatic(Payment payment);
    StripeForm intent_form(const Payment& payment, const std::string& customer) const;
    Async<void> follow_up(FollowUp work);
    Async<Result<void>> sync_cards(AccountId account);
    void mail_owner(AccountId account, const std::optional<Owner>& owner, std::string subject,
                    std::string text);
    Async<void> mail(AccountId account, std::string subject, std::string text);
    bool may_try_code(AccountId account);
    void note_wrong_code(AccountId account);

    Async<void> run_plans();
    Async<void> run_payments();
    Async<void> run_auto_pay();
    Async<void> run_minutely();

    Goods goods_;
    Outside outside_;
    store::Db& db_;
    Billing& billing_;
    const Clock& clock_;
    Counters counters_;
    std::unique_ptr<Routes> routes_;
    std::atomic<bool> is_running_ = false;
    std::atomic<std::int64_t> last_minute_ = 0;
    struct Wrong {
        Ticks since;
        int count = 0;
    };
    std::mutex wrong_codes_mutex_;
    std::map<AccountId, Wrong> wrong_codes_;
};

}  // namespace nebula::billing::commerce
