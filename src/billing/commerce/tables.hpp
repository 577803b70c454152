#pragma once
// Every SQL statement of the commerce tables, and their rows.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.hpp"
#include "billing/billing.hpp"
#include "billing/commerce.hpp"
#include "store/store.hpp"

namespace nebula::billing::commerce {

using store::Tx;

struct PaymentTag {
    static constexpr std::string_view prefix = "pay";
};
using PaymentId = Id<PaymentTag>;

struct Profile {
    std::string name;
    std::string address;
    std::string tax_number;
    std::string country;
    std::string stripe_customer;
};
struct AutoPay {
    bool enabled = false;
    Nanos threshold;
    Nanos amount;
    std::string method;  // payment method; empty: the default one
    std::optional<Time> attempt_at;
    std::int64_t failures = 0;
};
struct Subscription {
    std::string plan;
    bool is_active = false;
    Time anchor;
    Time period_start;
    Time period_end;
    std::string next_plan;  // from the next period on; empty: the same
    bool cancel_at_period_end = false;
    Nanos price;               // of the period in full
    Nanos bonus;               // likewise
    Nanos bonus_due;           // still to be posted
    std::int64_t version = 0;  // 0 = no row yet
};
struct Payment {
    PaymentId id;
    AccountId account;
    UserId user;
    std::string kind;  // checkout | intent | auto_pay
    std::string status = "pending";
    Nanos net;
    Nanos bonus;
    Nanos tax;
    std::string tax_name;
    std::string tax_percent;
    std::int64_t cents = 0;
    std::string currency;
    std::string intent;
    std::string session;
    std::string method;
    bool is_paid = false;
    PostingId posting;
    PostingId bonus_posting;
    std::int64_t refunded_cents = 0;
    std::int64_t refund_posted_cents = 0;
    Nanos bonus_taken;
    std::string failure;
    std::int64_t facts = 0;
    bool has_work = false;
    Time created_at;
    std::optional<Time> completed_at;
};
struct Dispute {
    std::string id;
    PaymentId payment;
    std::int64_t cents = 0;
    bool is_withdrawn = false;  // the money has been taken
    bool is_returned = false;   // and given back
    bool is_lost = false;
    PostingId withdrawn;  // postings made for it
    PostingId returned;
};
struct Card {
    std::string id;
    AccountId account;
    std::string kind = "card";
    std::string brand;
    std::string last4;
    std::int64_t exp_month = 0;
    std::int64_t exp_year = 0;
    std::string fingerprint;
    bool is_default = false;
    std::string status = "attached";
    Time created_at;
};
struct CodeRow {
    std::string code;
    Nanos amount;
    std::int64_t uses = 0;
    std::int64_t uses_max = 0;
    std::optional<Time> expires_at;
    std::int64_t bonus_days = 0;
    std::string note;
    Time created_at;
};
struct Owner {
    std::string email;
    std::string name;
};

namespace sql {

std::optional<Owner> owner(Tx& tx, AccountId account);
std::optional<std::string> account_name(Tx& tx, AccountId account);

std::optional<Commerce::Suspension> suspension(Tx& tx, AccountId account);
/// Keeps the time of one that there is.
Commerce::Suspension suspend(Tx& tx, AccountId account, std::string_view reason, Time now);
/// False: is not suspended.
bool resume(Tx& tx, AccountId account);

Profile profile(Tx& tx, AccountId account);
void save_profile(Tx& tx, AccountId account, const Profile& profile);
/// Keeps the first one; answers which that is.
std::string keep_customer(Tx& tx, AccountId account, std::string_view customer);
std::optional<AccountId> account_of_customer(Tx& tx, std::string_view customer);
AutoPay auto_pay(Tx& tx, AccountId account);
void save_auto_pay(Tx& tx, AccountId account, const AutoPay& settings);
/// Accounts whose ledger balance is below the threshold and whose last attempt was before `tried_before`.
std::vector<AccountId> auto_pay_due(Tx& tx, Time tried_before, std::int64_t limit);
/// True for one caller only; the next attempt waits until this one is older than `tried_before`.
bool claim_auto_pay(Tx& tx, AccountId account, Time now, Time tried_before);
/// Counts failures since the last success; switched off at `failures_max`. Answers whether it was.
bool note_auto_pay_failure(Tx& tx, AccountId account, std::int64_t failures_max);
void note_auto_pay_success(Tx& tx, AccountId account);
void forget_auto_pay_method(Tx& tx, AccountId account, std::string_view method, std::string_view instead);
/// Accounts that have ever had money, now below `threshold`, and have not been told.
std::vector<AccountId> newly_low(Tx& tx, Nanos threshold, std::int64_t limit);
bool claim_low_notice(Tx& tx, AccountId account);
void reset_low_notices(Tx& tx, Nanos threshold);

Subscription subscription(Tx& tx, AccountId account);
/// Where the row still has `expected_version` (0: no row); false: somebody else changed it.
bool save_subscription(Tx& tx, AccountId account, const Subscription& row, std::int64_t expected_version);
void bonus_posted(Tx& tx, AccountId account, Time period_start);
std::vector<AccountId> subscriptions_due(Tx& tx, Time now, std::int64_t limit);
std::vector<AccountId> bonuses_due(Tx& tx, std::int64_t limit);

void insert_payment(Tx& tx, const Payment& row, Time check_at);
std::optional<Payment> payment(Tx& tx, PaymentId id);
std::optional<Payment> lock_payment(Tx& tx, PaymentId id);
std::optional<PaymentId> payment_by_intent(Tx& tx, std::string_view intent);
std::optional<PaymentId> payment_by_session(Tx& tx, std::string_view session);
/// Newest first; `before` 0: from the newest.
std::vector<Payment> payments(Tx& tx, AccountId account, PaymentId before, std::int64_t limit);
/// Everything that can change of a payment, after lock_payment().
void update_payment(Tx& tx, const Payment& row);
void set_payment_check(Tx& tx, PaymentId id, std::optional<Time> at);
/// False: it has a posting already.
bool set_posting(Tx& tx, PaymentId id, PostingId posting, Time now);
bool set_bonus_posting(Tx& tx, PaymentId id, PostingId posting);
/// From the amount posted before, which must be `from`.
bool set_refund_posted(Tx& tx, PaymentId id, std::int64_t from, std::int64_t to);
bool set_bonus_taken(Tx& tx, PaymentId id, Nanos from, Nanos to);
void clear_work(Tx& tx, PaymentId id, std::int64_t facts);
std::vector<PaymentId> payments_with_work(Tx& tx, std::int64_t limit);
struct ToCheck {
    PaymentId id;
    Time created_at;
};
std::vector<ToCheck> payments_to_check(Tx& tx, Time now, std::int64_t limit);

std::vector<Dispute> disputes(Tx& tx, PaymentId payment);
/// Adds what the flags say to what is known.
void note_dispute(Tx& tx, const Dispute& dispute, Time now);
bool set_dispute_posting(Tx& tx, std::string_view id, bool is_return, PostingId posting);

std::vector<Card> cards(Tx& tx, AccountId account);  // attached ones, default first
std::optional<Card> card(Tx& tx, std::string_view id);
std::optional<Card> card_by_fingerprint(Tx& tx, std::string_view fingerprint);  // attached
void put_card(Tx& tx, const Card& card);
void set_default_card(Tx& tx, AccountId account, std::string_view id);
bool has_card(Tx& tx, AccountId account);

void insert_code(Tx& tx, const CodeRow& row);  // throws UniqueViolation
std::optional<CodeRow> code(Tx& tx, std::string_view code);
std::vector<CodeRow> codes(Tx& tx, std::int64_t limit);
/// False: used up, expired or unknown.
bool use_code(Tx& tx, std::string_view code, Time now);
/// False: redeemed by this account before.
bool insert_redemption(Tx& tx, std::string_view code, AccountId account, UserId user, Time now);
bool is_redeemed(Tx& tx, std::string_view code, AccountId account);

/// False: this event was taken in before.
bool insert_event(Tx& tx, std::string_view id, std::string_view type, Time now);
void set_event_outcome(Tx& tx, std::string_view id, std::string_view outcome);
/// One that nothing here is about yet.
void keep_event(Tx& tx, std::string_view id, std::string_view subject, std::string_view body);
struct KeptEvent {
    std::string id;
    std::string body;
};
std::vector<KeptEvent> kept_events(Tx& tx, std::string_view subject);
void forget_events(Tx& tx, Time before);

/// What tiers are decided by.
struct Paid {
    Nanos total;       // payments in all, without what was given back
    Nanos best_month;  // best of the calendar months that begin at `months`
};
Paid paid(Tx& tx, AccountId account, const std::vector<Time>& months);
Nanos spent(Tx& tx, AccountId account);

}  // namespace sql
}  // namespace nebula::billing::commerce
