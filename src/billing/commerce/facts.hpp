#pragma once
// What Stripe's objects say about our payments and cards, written down in one transaction and in any order;
// and, from what is written down, the next movement that the ledger lacks. No I/O but SQL.

#include <boost/json/object.hpp>
#include <optional>
#include <string>
#include <vector>

#include "billing/commerce/goods.hpp"
#include "billing/commerce/tables.hpp"

namespace nebula::billing::commerce {

namespace json = boost::json;

/// What is to be done outside the transaction.
struct FollowUp {
    std::vector<PaymentId> payments;         // reconcile
    std::vector<std::string> detach;         // cards to let go of at Stripe
    std::vector<AccountId> cards;            // ask Stripe for the cards
    std::vector<AccountId> cards_changed;    // terms may have changed
    std::vector<PaymentId> auto_pay_failed;  // newly
    std::vector<AccountId> auto_pay_off;     // switched off after failing again and again
};
enum class Outcome { applied, ignored, unknown, mismatch };
const char* outcome_word(Outcome outcome);

/// Takes facts in. One per transaction.
class Facts {
   public:
    Facts(Tx& tx, Time now) : tx_(tx), now_(now) {}

    /// An event as parsed. Duplicates are ignored; unknown ones are kept until a payment claims them.
    Outcome event(const json::object& event, std::string_view text);
    // Objects as Stripe answers them.
    Outcome session(const json::object& session);
    Outcome intent(const json::object& intent);
    /// Of this account, unless it is known as somebody else's.
    void card(AccountId account, const json::object& method);
    void card_gone(const Card& card);

    FollowUp& follow_up() { return follow_up_; }

   private:
    Outcome apply(const json::object& event);
    Outcome refund(const json::object& charge);
    Outcome dispute(std::string_view type, const json::object& object);
    Outcome method(std::string_view type, const json::object& object, const json::object& data);
    Outcome setup(const json::object& object);
    std::optional<Payment> find(const json::object& object, std::string_view session,
                                std::string_view intent);
    void paid(Payment& payment, std::string_view method);
    void unpaid(Payment& payment, const char* status, std::string_view why);
    void store(Payment& payment);
    /// The payment's intent is known now: events about it that came too early.
    void claim(Payment& payment, std::string_view intent);

    Tx& tx_;
    Time now_;
    FollowUp follow_up_;
};

/// One movement that the books lack.
struct Step {
    enum class What { payment, bonus, refund, bonus_back, dispute, dispute_won };
    What what;
    Movement movement;      // without id
    std::int64_t from = 0;  // refund: cents, bonus_back: nanos, before …
    std::int64_t to = 0;    // … and after
    std::string dispute;
};
std::optional<Step> next_step(const Payment& payment, const std::vector<Dispute>& disputes,
                              const Goods& goods, Time now);
/// success, refunded, disputed; what it was when it is not paid.
std::string status_of(const Payment& payment, const std::vector<Dispute>& disputes);
/// In the movement's transaction. False: somebody else did it.
bool mark_done(Tx& tx, PaymentId payment, const Step& step, PostingId posting, Time now);

}  // namespace nebula::billing::commerce
