#include "billing/commerce/tables_detail.hpp"

namespace nebula::billing::commerce::sql {

using store::Row;
using store::Sql;

namespace {

#define NEBULA_PAYMENT_COLUMNS                                                                          \
    "id, account_id, user_id, kind, status, net, bonus, tax, tax_name, cents, currency, stripe_intent," \
    " stripe_session, stripe_method, is_paid, posting_id, bonus_posting_id, refunded_cents, "           \
    "refund_posted_cents,"                                                                              \
    " bonus_taken, failure, facts, has_work, created_at, completed_at, tax_percent"

std::string text_or_empty(const Row& row, int column) {
    return row.is_null(column) ? std::string() : std::string(row.text(column));
}
PostingId posting_or_none(const Row& row, int column) {
    return row.is_null(column) ? PostingId{} : PostingId::from_db(row.i64(column));
}

Payment payment_row(const Row& row) {
    Payment p;
    p.id = PaymentId::from_db(row.i64(0));
    p.account = AccountId::from_db(row.i64(1));
    p.user = UserId::from_db(row.i64(2));
    p.kind = row.text(3);
    p.status = row.text(4);
    p.net = Nanos{row.i64(5)};
    p.bonus = Nanos{row.i64(6)};
    p.tax = Nanos{row.i64(7)};
    p.tax_name = row.text(8);
    p.cents = row.i64(9);
    p.currency = row.text(10);
    p.intent = text_or_empty(row, 11);
    p.session = text_or_empty(row, 12);
    p.method = row.text(13);
    p.is_paid = row.i64(14) != 0;
    p.posting = posting_or_none(row, 15);
    p.bonus_posting = posting_or_none(row, 16);
    p.refunded_cents = row.i64(17);
    p.refund_posted_cents = row.i64(18);
    p.bonus_taken = Nanos{row.i64(19)};
    p.failure = row.text(20);
    p.facts = row.i64(21);
    p.has_work = row.i64(22) != 0;
    p.created_at = from_micros(row.i64(23));
    p.completed_at = optional_time(row, 24);
    p.tax_percent = row.text(25);
    return p;
}

std::optional<Payment> one_payment(Tx& tx, const Sql& statement, PaymentId id) {
    std::optional<Payment> found;
    tx.one(statement, {id.db()}, [&](const Row& row) { found = payment_row(row); });
    return found;
}

std::optional<PaymentId> one_id(Tx& tx, const Sql& statement, std::string_view name) {
    std::optional<PaymentId> found;
    tx.one(statement, {name}, [&](const Row& row) { found = PaymentId::from_db(row.i64(0)); });
    return found;
}

}  // namespace

void insert_payment(Tx& tx, const Payment& row, Time check_at) {
    static constexpr Sql statement{
        "commerce.insert_payment",
        "INSERT INTO payments (id, account_id, user_id, kind, status, net, bonus, tax, tax_name, "
        "tax_percent, cents,"
        " currency, stripe_method, check_at, created_at)"
        " VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"};
    tx.exec(statement, {row.id.db(), row.account.db(), row.user.db(), row.kind, row.net.value,
                        row.bonus.value, row.tax.value, row.tax_name, row.tax_percent, row.cents,
                        row.currency, row.method, to_micros(check_at), to_micros(row.created_at)});
}

std::optional<Payment> payment(Tx& tx, PaymentId id) {
    static constexpr Sql statement{"commerce.payment",
                                   "SELECT " NEBULA_PAYMENT_COLUMNS " FROM payments WHERE id = $1"};
    return one_payment(tx, statement, id);
}

std::optional<Payment> lock_payment(Tx& tx, PaymentId id) {
    static constexpr Sql statement{
        "commerce.lock_payment", "SELECT " NEBULA_PAYMENT_COLUMNS " FROM payments WHERE id = $1",
        "SELECT " NEBULA_PAYMENT_COLUMNS " FROM payments WHERE id = $1 FOR UPDATE"};
    return one_payment(tx, statement, id);
}

std::optional<PaymentId> payment_by_intent(Tx& tx, std::string_view intent) {
    static constexpr Sql statement{"commerce.payment_by_intent",
                                   "SELECT id FROM payments WHERE stripe_intent = $1"};
    return one_id(tx, statement, intent);
}

std::optional<PaymentId> payment_by_session(Tx& tx, std::string_view session) {
    static constexpr Sql statement{"commerce.payment_by_session",
                                   "SELECT id FROM payments WHERE stripe_session = $1"};
    return one_id(tx, statement, session);
}

std::vector<Payment> payments(Tx& tx, AccountId account, PaymentId before, std::int64_t limit) {
    static constexpr Sql statement{"commerce.payments", "SELECT " NEBULA_PAYMENT_COLUMNS
                                                        " FROM payments WHERE account_id = $1 AND id < $2"
                                                        " ORDER BY id DESC LIMIT $3"};
    std::int64_t below = before ? before.db() : std::numeric_limits<std::int64_t>::max();
    std::vector<Payment> rows;
    tx.query(statement, {account.db(), below, limit},
             [&](const Row& row) { rows.push_back(payment_row(row)); });
    return rows;
}

void update_payment(Tx& tx, const Payment& row) {
    static constexpr Sql statement{
        "commerce.update_payment",
        "UPDATE payments SET status = $2, stripe_intent = $3, stripe_session = $4, stripe_method = $5, "
        "is_paid = $6,"
        " refunded_cents = $7, failure = $8, facts = $9, has_work = $10 WHERE id = $1"};
    tx.exec(statement, {row.id.db(), row.status, text_or_null(row.intent), text_or_null(row.session),
                        row.method, std::int64_t{row.is_paid}, row.refunded_cents, row.failure, row.facts,
                        std::int64_t{row.has_work}});
}

void set_payment_check(Tx& tx, PaymentId id, std::optional<Time> at) {
    static constexpr Sql statement{"commerce.set_payment_check",
                                   "UPDATE payments SET check_at = $2 WHERE id = $1"};
    tx.exec(statement, {id.db(), time_or_null(at)});
}

bool set_posting(Tx& tx, PaymentId id, PostingId posting, Time now) {
    static constexpr Sql statement{"commerce.set_posting",
                                   "UPDATE payments SET posting_id = $2, completed_at = $3, check_at = NULL"
                                   " WHERE id = $1 AND posting_id IS NULL"};
    return tx.exec(statement, {id.db(), posting.db(), to_micros(now)}) == 1;
}

bool set_bonus_posting(Tx& tx, PaymentId id, PostingId posting) {
    static constexpr Sql statement{"commerce.set_bonus_posting",
                                   "UPDATE payments SET bonus_posting_id = $2"
                                   " WHERE id = $1 AND bonus_posting_id IS NULL"};
    return tx.exec(statement, {id.db(), posting.db()}) == 1;
}

bool set_refund_posted(Tx& tx, PaymentId id, std::int64_t from, std::int64_t to) {
    static constexpr Sql statement{"commerce.set_refund_posted",
                                   "UPDATE payments SET refund_posted_cents = $3"
                                   " WHERE id = $1 AND refund_posted_cents = $2"};
    return tx.exec(statement, {id.db(), from, to}) == 1;
}

bool set_bonus_taken(Tx& tx, PaymentId id, Nanos from, Nanos to) {
    static constexpr Sql statement{"commerce.set_bonus_taken",
                                   "UPDATE payments SET bonus_taken = $3 WHERE id = $1 AND bonus_taken = $2"};
    return tx.exec(statement, {id.db(), from.value, to.value}) == 1;
}

void clear_work(Tx& tx, PaymentId id, std::int64_t facts) {
    static constexpr Sql statement{"commerce.clear_work",
                                   "UPDATE payments SET has_work = 0 WHERE id = $1 AND facts = $2"};
    tx.exec(statement, {id.db(), facts});
}

std::vector<PaymentId> payments_with_work(Tx& tx, std::int64_t limit) {
    static constexpr Sql statement{"commerce.payments_with_work",
                                   "SELECT id FROM payments WHERE has_work = 1 ORDER BY id LIMIT $1"};
    std::vector<PaymentId> ids;
    tx.query(statement, {limit}, [&](const Row& row) { ids.push_back(PaymentId::from_db(row.i64(0))); });
    return ids;
}

std::vector<ToCheck> payments_to_check(Tx& tx, Time now, std::int64_t limit) {
    static constexpr Sql statement{
        "commerce.payments_to_check",
        "SELECT id, created_at FROM payments WHERE check_at <= $1 ORDER BY check_at LIMIT $2"};
    std::vector<ToCheck> rows;
    tx.query(statement, {to_micros(now), limit}, [&](const Row& row) {
        rows.push_back({PaymentId::from_db(row.i64(0)), from_micros(row.i64(1))});
    });
    return rows;
}

std::vector<Dispute> disputes(Tx& tx, PaymentId payment) {
    static constexpr Sql statement{
        "commerce.disputes",
        "SELECT id, cents, is_withdrawn, is_returned, is_lost, withdrawn_posting_id,"
        " returned_posting_id FROM payment_disputes WHERE payment_id = $1 ORDER BY id"};
    std::vector<Dispute> rows;
    tx.query(statement, {payment.db()}, [&](const Row& row) {
        rows.push_back({std::string(row.text(0)), payment, row.i64(1), row.i64(2) != 0, row.i64(3) != 0,
                        row.i64(4) != 0, posting_or_none(row, 5), posting_or_none(row, 6)});
    });
    return rows;
}

void note_dispute(Tx& tx, const Dispute& dispute, Time now) {
    static constexpr Sql insert{"commerce.insert_dispute",
                                "INSERT INTO payment_disputes (id, payment_id, cents, created_at)"
                                " VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING"};
    // Flags only ever rise: what was heard late does not undo what is known.
    static constexpr Sql raise{"commerce.raise_dispute",
                               "UPDATE payment_disputes SET"
                               " is_withdrawn = CASE WHEN is_withdrawn = 1 THEN 1 ELSE $2 END,"
                               " is_returned = CASE WHEN is_returned = 1 THEN 1 ELSE $3 END,"
                               " is_lost = CASE WHEN is_lost = 1 THEN 1 ELSE $4 END WHERE id = $1"};
    tx.exec(insert, {dispute.id, dispute.payment.db(), dispute.cents, to_micros(now)});
    tx.exec(raise, {dispute.id, std::int64_t{dispute.is_withdrawn}, std::int64_t{dispute.is_returned},
                    std::int64_t{dispute.is_lost}});
}

bool set_dispute_posting(Tx& tx, std::string_view id, bool is_return, PostingId posting) {
    static constexpr Sql taken{"commerce.dispute_taken",
                               "UPDATE payment_disputes SET withdrawn_posting_id = $2"
                               " WHERE id = $1 AND withdrawn_posting_id IS NULL"};
    static constexpr Sql given{"commerce.dispute_given",
                               "UPDATE payment_disputes SET returned_posting_id = $2"
                               " WHERE id = $1 AND returned_posting_id IS NULL"};
    return tx.exec(is_return ? given : taken, {id, posting.db()}) == 1;
}

namespace {

#define NEBULA_CARD_COLUMNS \
    "id, account_id, kind, brand, last4, exp_month, exp_year, fingerprint, is_default, status, created_at"

Card card_row(const Row& row) {
    Card c;
    c.id = row.text(0);
    c.account = AccountId::from_db(row.i64(1));
    c.kind = row.text(2);
    c.brand = row.text(3);
    c.last4 = row.text(4);
    c.exp_month = row.i64(5);
    c.exp_year = row.i64(6);
    c.fingerprint = row.text(7);
    c.is_default = row.i64(8) != 0;
    c.status = row.text(9);
    c.created_at = from_micros(row.i64(10));
    return c;
}

std::optional<Card> one_card(Tx& tx, const Sql& statement, std::string_view name) {
    std::optional<Card> found;
    tx.one(statement, {name}, [&](const Row& row) { found = card_row(row); });
    return found;
}

}  // namespace

std::vector<Card> cards(Tx& tx, AccountId account) {
    static constexpr Sql statement{"commerce.cards",
                                   "SELECT " NEBULA_CARD_COLUMNS
                                   " FROM payment_methods WHERE account_id = $1 AND"
                                   " status = 'attached' ORDER BY is_default DESC, created_at, id"};
    std::vector<Card> rows;
    tx.query(statement, {account.db()}, [&](const Row& row) { rows.push_back(card_row(row)); });
    return rows;
}

std::optional<Card> card(Tx& tx, std::string_view id) {
    static constexpr Sql statement{"commerce.card",
                                   "SELECT " NEBULA_CARD_COLUMNS " FROM payment_methods WHERE id = $1"};
    return one_card(tx, statement, id);
}

std::optional<Card> card_by_fingerprint(Tx& tx, std::string_view fingerprint) {
    static constexpr Sql statement{"commerce.card_by_fingerprint",
                                   "SELECT " NEBULA_CARD_COLUMNS
                                   " FROM payment_methods WHERE fingerprint = $1 AND status = 'attached'"};
    return one_card(tx, statement, fingerprint);
}

void put_card(Tx& tx, const Card& card) {
    static constexpr Sql statement{
        "commerce.put_card",
        "INSERT INTO payment_methods (id, account_id, kind, brand, last4, exp_month, exp_year, fingerprint, "
        "is_default,"
        " status, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO "
        "UPDATE SET"
        " kind = excluded.kind, brand = excluded.brand, last4 = excluded.last4, exp_month = "
        "excluded.exp_month,"
        " exp_year = excluded.exp_year, fingerprint = excluded.fingerprint, is_default = excluded.is_default,"
        " status = excluded.status"};
    tx.exec(statement,
            {card.id, card.account.db(), card.kind, card.brand, card.last4, card.exp_month, card.exp_year,
             card.fingerprint, std::int64_t{card.is_default}, card.status, to_micros(card.created_at)});
}

void set_default_card(Tx& tx, AccountId account, std::string_view id) {
    static constexpr Sql clear{
        "commerce.clear_default_card",
        "UPDATE payment_methods SET is_default = 0 WHERE account_id = $1 AND is_default = 1"};
    static constexpr Sql set{"commerce.set_default_card",
                             "UPDATE payment_methods SET is_default = 1"
                             " WHERE account_id = $1 AND id = $2 AND status = 'attached'"};
    tx.exec(clear, {account.db()});
    if (!id.empty()) tx.exec(set, {account.db(), id});
}

bool has_card(Tx& tx, AccountId account) {
    static constexpr Sql statement{
        "commerce.has_card",
        "SELECT 1 FROM payment_methods WHERE account_id = $1 AND status = 'attached' LIMIT 1"};
    return tx.one(statement, {account.db()}, [](const Row&) {});
}

bool insert_event(Tx& tx, std::string_view id, std::string_view type, Time now) {
    static constexpr Sql statement{"commerce.insert_event",
                                   "INSERT INTO stripe_events (id, type, outcome, received_at)"
                                   " VALUES ($1, $2, 'applied', $3) ON CONFLICT (id) DO NOTHING"};
    return tx.exec(statement, {id, type, to_micros(now)}) == 1;
}

void set_event_outcome(Tx& tx, std::string_view id, std::string_view outcome) {
    static constexpr Sql statement{"commerce.set_event_outcome",
                                   "UPDATE stripe_events SET outcome = $2 WHERE id = $1"};
    tx.exec(statement, {id, outcome});
}

void keep_event(Tx& tx, std::string_view id, std::string_view subject, std::string_view body) {
    static constexpr Sql statement{
        "commerce.keep_event",
        "UPDATE stripe_events SET outcome = 'unknown', subject = $2, body = $3 WHERE id = $1"};
    tx.exec(statement, {id, subject, body});
}

std::vector<KeptEvent> kept_events(Tx& tx, std::string_view subject) {
    static constexpr Sql statement{
        "commerce.kept_events",
        "SELECT id, body FROM stripe_events WHERE subject = $1 AND outcome = 'unknown'"
        " AND subject <> '' ORDER BY received_at, id"};
    std::vector<KeptEvent> found;
    tx.query(statement, {subject},
             [&](const Row& row) { found.push_back({std::string(row.text(0)), std::string(row.text(1))}); });
    return found;
}

void forget_events(Tx& tx, Time before) {
    static constexpr Sql statement{"commerce.forget_events",
                                   "DELETE FROM stripe_events WHERE received_at < $1"};
    tx.exec(statement, {to_micros(before)});
}

}  // namespace nebula::billing::commerce::sql
