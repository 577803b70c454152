#include "billing/commerce/tables.hpp"

#include "billing/commerce/tables_detail.hpp"

namespace nebula::billing::commerce::sql {

using store::Param;
using store::Row;
using store::Sql;

std::optional<Owner> owner(Tx& tx, AccountId account) {
    static constexpr Sql statement{"commerce.owner",
                                   "SELECT u.email, u.name FROM accounts a JOIN users u ON u.id = a.owner_id"
                                   " WHERE a.id = $1"};
    std::optional<Owner> found;
    tx.one(statement, {account.db()},
           [&](const Row& row) { found = Owner{std::string(row.text(0)), std::string(row.text(1))}; });
    return found;
}

std::optional<std::string> account_name(Tx& tx, AccountId account) {
    static constexpr Sql statement{"commerce.account_name", "SELECT name FROM accounts WHERE id = $1"};
    std::optional<std::string> found;
    tx.one(statement, {account.db()}, [&](const Row& row) { found = std::string(row.text(0)); });
    return found;
}

std::optional<Commerce::Suspension> suspension(Tx& tx, AccountId account) {
    static constexpr Sql statement{"commerce.suspension",
                                   "SELECT reason, since FROM account_suspensions WHERE account_id = $1"};
    std::optional<Commerce::Suspension> found;
    tx.one(statement, {account.db()}, [&](const Row& row) {
        found = Commerce::Suspension{std::string(row.text(0)), from_micros(row.i64(1))};
    });
    return found;
}

Commerce::Suspension suspend(Tx& tx, AccountId account, std::string_view reason, Time now) {
    static constexpr Sql statement{
        "commerce.suspend",
        "INSERT INTO account_suspensions (account_id, reason, since) VALUES ($1, $2, $3)"
        " ON CONFLICT (account_id) DO UPDATE SET reason = $2"};
    tx.exec(statement, {account.db(), reason, to_micros(now)});
    return suspension(tx, account).value();
}

bool resume(Tx& tx, AccountId account) {
    static constexpr Sql statement{"commerce.resume",
                                   "DELETE FROM account_suspensions WHERE account_id = $1"};
    return tx.exec(statement, {account.db()}) == 1;
}

namespace {

void make_profile(Tx& tx, AccountId account) {
    static constexpr Sql statement{"commerce.make_profile",
                                   "INSERT INTO billing_profiles (account_id) VALUES ($1)"
                                   " ON CONFLICT (account_id) DO NOTHING"};
    tx.exec(statement, {account.db()});
}

std::vector<AccountId> account_ids(Tx& tx, const Sql& statement, std::initializer_list<Param> params) {
    std::vector<AccountId> ids;
    tx.query(statement, params, [&](const Row& row) { ids.push_back(AccountId::from_db(row.i64(0))); });
    return ids;
}

}  // namespace

Profile profile(Tx& tx, AccountId account) {
    static constexpr Sql statement{"commerce.profile",
                                   "SELECT name, address, tax_number, country, stripe_customer"
                                   " FROM billing_profiles WHERE account_id = $1"};
    Profile found;
    tx.one(statement, {account.db()}, [&](const Row& row) {
        found = {std::string(row.text(0)), std::string(row.text(1)), std::string(row.text(2)),
                 std::string(row.text(3)), row.is_null(4) ? std::string() : std::string(row.text(4))};
    });
    return found;
}

void save_profile(Tx& tx, AccountId account, const Profile& profile) {
    static constexpr Sql statement{
        "commerce.save_profile",
        "UPDATE billing_profiles SET name = $2, address = $3, tax_number = $4, country = $5"
        " WHERE account_id = $1"};
    make_profile(tx, account);
    tx.exec(statement, {account.db(), profile.name, profile.address, profile.tax_number, profile.country});
}

std::string keep_customer(Tx& tx, AccountId account, std::string_view customer) {
    static constexpr Sql statement{"commerce.keep_customer",
                                   "UPDATE billing_profiles SET stripe_customer = $2"
                                   " WHERE account_id = $1 AND stripe_customer IS NULL"};
    make_profile(tx, account);
    tx.exec(statement, {account.db(), customer});
    return profile(tx, account).stripe_customer;
}

std::optional<AccountId> account_of_customer(Tx& tx, std::string_view customer) {
    static constexpr Sql statement{"commerce.account_of_customer",
                                   "SELECT account_id FROM billing_profiles WHERE stripe_customer = $1"};
    std::optional<AccountId> found;
    tx.one(statement, {customer}, [&](const Row& row) { found = AccountId::from_db(row.i64(0)); });
    return found;
}

AutoPay auto_pay(Tx& tx, AccountId account) {
    static constexpr Sql statement{
        "commerce.auto_pay",
        "SELECT auto_enabled, auto_threshold, auto_amount, auto_method, auto_attempt_at,"
        " auto_failures FROM billing_profiles WHERE account_id = $1"};
    AutoPay found;
    tx.one(statement, {account.db()}, [&](const Row& row) {
        found = {row.i64(0) != 0,          Nanos{row.i64(1)}, Nanos{row.i64(2)},
                 std::string(row.text(3)), std::nullopt,      row.i64(5)};
        if (row.i64(4) > 0) found.attempt_at = from_micros(row.i64(4));
    });
    return found;
}

void save_auto_pay(Tx& tx, AccountId account, const AutoPay& settings) {
    static constexpr Sql statement{
        "commerce.save_auto_pay",
        "UPDATE billing_profiles SET auto_enabled = $2, auto_threshold = $3,"
        " auto_amount = $4, auto_method = $5, auto_failures = 0 WHERE account_id = $1"};
    make_profile(tx, account);
    tx.exec(statement, {account.db(), std::int64_t{settings.enabled}, settings.threshold.value,
                        settings.amount.value, settings.method});
}

std::vector<AccountId> auto_pay_due(Tx& tx, Time tried_before, std::int64_t limit) {
    static constexpr Sql statement{
        "commerce.auto_pay_due",
        "SELECT p.account_id FROM billing_profiles p WHERE p.auto_enabled = 1 AND p.auto_attempt_at <= $1"
        " AND (SELECT CAST(COALESCE(SUM(l.balance), 0) AS BIGINT) FROM ledger_accounts l"
        "  WHERE l.account_id = p.account_id"
        "  AND (l.kind = 'customer_credits' OR l.kind = 'customer_bonus' OR l.kind = 'customer_debt'))"
        " < p.auto_threshold ORDER BY p.auto_attempt_at LIMIT $2"};
    return account_ids(tx, statement, {to_micros(tried_before), limit});
}

bool claim_auto_pay(Tx& tx, AccountId account, Time now, Time tried_before) {
    static constexpr Sql statement{"commerce.claim_auto_pay",
                                   "UPDATE billing_profiles SET auto_attempt_at = $2"
                                   " WHERE account_id = $1 AND auto_enabled = 1 AND auto_attempt_at <= $3"};
    return tx.exec(statement, {account.db(), to_micros(now), to_micros(tried_before)}) == 1;
}

bool note_auto_pay_failure(Tx& tx, AccountId account, std::int64_t failures_max) {
    static constexpr Sql count{
        "commerce.auto_pay_failed",
        "UPDATE billing_profiles SET auto_failures = auto_failures + 1 WHERE account_id = $1"};
    static constexpr Sql off{"commerce.auto_pay_off",
                             "UPDATE billing_profiles SET auto_enabled = 0"
                             " WHERE account_id = $1 AND auto_enabled = 1 AND auto_failures >= $2"};
    tx.exec(count, {account.db()});
    return tx.exec(off, {account.db(), failures_max}) == 1;
}

void note_auto_pay_success(Tx& tx, AccountId account) {
    static constexpr Sql statement{"commerce.auto_pay_succeeded",
                                   "UPDATE billing_profiles SET auto_failures = 0 WHERE account_id = $1"};
    tx.exec(statement, {account.db()});
}

void forget_auto_pay_method(Tx& tx, AccountId account, std::string_view method, std::string_view instead) {
    static constexpr Sql statement{"commerce.forget_auto_pay_method",
                                   "UPDATE billing_profiles SET auto_method = $3"
                                   " WHERE account_id = $1 AND auto_method = $2"};
    tx.exec(statement, {account.db(), method, instead});
}

std::vector<AccountId> newly_low(Tx& tx, Nanos threshold, std::int64_t limit) {
    static constexpr Sql statement{
        "commerce.newly_low",
        "SELECT l.account_id FROM ledger_accounts l"
        " LEFT JOIN billing_profiles p ON p.account_id = l.account_id"
        " WHERE (l.kind = 'customer_credits' OR l.kind = 'customer_bonus' OR l.kind = 'customer_debt')"
        " AND l.account_id IS NOT NULL AND (p.low_notified IS NULL OR p.low_notified = 0)"
        " GROUP BY l.account_id HAVING SUM(l.balance) < $1 ORDER BY l.account_id LIMIT $2"};
    return account_ids(tx, statement, {threshold.value, limit});
}

bool claim_low_notice(Tx& tx, AccountId account) {
    static constexpr Sql statement{"commerce.claim_low_notice",
                                   "UPDATE billing_profiles SET low_notified = 1"
                                   " WHERE account_id = $1 AND low_notified = 0"};
    make_profile(tx, account);
    return tx.exec(statement, {account.db()}) == 1;
}

void reset_low_notices(Tx& tx, Nanos threshold) {
    static constexpr Sql statement{"commerce.reset_low_notices",
                                   "UPDATE billing_profiles SET low_notified = 0 WHERE low_notified = 1"
                                   " AND (SELECT COALESCE(SUM(l.balance), 0) FROM ledger_accounts l"
                                   "  WHERE l.account_id = billing_profiles.account_id"
                                   "  AND (l.kind = 'customer_credits' OR l.kind = 'customer_bonus' OR "
                                   "l.kind = 'customer_debt')) >= $1"};
    tx.exec(statement, {threshold.value});
}

Subscription subscription(Tx& tx, AccountId account) {
    static constexpr Sql statement{
        "commerce.subscription",
        "SELECT plan, status, anchor_at, period_start, period_end, next_plan,"
        " cancel_at_period_end, price, bonus, bonus_due, version FROM subscriptions"
        " WHERE account_id = $1"};
    Subscription found;
    tx.one(statement, {account.db()}, [&](const Row& row) {
        found.plan = row.text(0);
        found.is_active = row.text(1) == "active";
        found.anchor = from_micros(row.i64(2));
        found.period_start = from_micros(row.i64(3));
        found.period_end = from_micros(row.i64(4));
        found.next_plan = row.text(5);
        found.cancel_at_period_end = row.i64(6) != 0;
        found.price = Nanos{row.i64(7)};
        found.bonus = Nanos{row.i64(8)};
        found.bonus_due = Nanos{row.i64(9)};
        found.version = row.i64(10);
    });
    return found;
}

bool save_subscription(Tx& tx, AccountId account, const Subscription& row, std::int64_t expected_version) {
    static constexpr Sql insert{
        "commerce.insert_subscription",
        "INSERT INTO subscriptions (account_id, plan, status, anchor_at, period_start,"
        " period_end, next_plan, cancel_at_period_end, price, bonus, bonus_due, version)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
        " ON CONFLICT (account_id) DO NOTHING"};
    static constexpr Sql update{
        "commerce.update_subscription",
        "UPDATE subscriptions SET plan = $2, status = $3, anchor_at = $4, period_start = $5,"
        " period_end = $6, next_plan = $7, cancel_at_period_end = $8, price = $9, bonus = $10,"
        " bonus_due = $11, version = $12 WHERE account_id = $1 AND version = $13"};
    std::vector<store::Param> values = {account.db(),
                                        row.plan,
                                        std::string_view(row.is_active ? "active" : "ended"),
                                        to_micros(row.anchor),
                                        to_micros(row.period_start),
                                        to_micros(row.period_end),
                                        row.next_plan,
                                        std::int64_t{row.cancel_at_period_end},
                                        row.price.value,
                                        row.bonus.value,
                                        row.bonus_due.value,
                                        expected_version + 1};
    if (expected_version == 0) return tx.exec(insert, values) == 1;
    values.push_back(expected_version);
    return tx.exec(update, values) == 1;
}

void bonus_posted(Tx& tx, AccountId account, Time period_start) {
    static constexpr Sql statement{
        "commerce.plan_bonus_posted",
        "UPDATE subscriptions SET bonus_due = 0 WHERE account_id = $1 AND period_start = $2"};
    tx.exec(statement, {account.db(), to_micros(period_start)});
}

std::vector<AccountId> subscriptions_due(Tx& tx, Time now, std::int64_t limit) {
    static constexpr Sql statement{
        "commerce.subscriptions_due",
        "SELECT account_id FROM subscriptions WHERE status = 'active' AND period_end <= $1"
        " ORDER BY period_end LIMIT $2"};
    return account_ids(tx, statement, {to_micros(now), limit});
}

std::vector<AccountId> bonuses_due(Tx& tx, std::int64_t limit) {
    static constexpr Sql statement{"commerce.bonuses_due",
                                   "SELECT account_id FROM subscriptions WHERE bonus_due > 0 LIMIT $1"};
    return account_ids(tx, statement, {limit});
}

namespace {

constexpr const char* code_columns = "code, amount, uses, uses_max, expires_at, bonus_days, note, created_at";

CodeRow code_row(const Row& row) {
    return {std::string(row.text(0)),
            Nanos{row.i64(1)},
            row.i64(2),
            row.i64(3),
            optional_time(row, 4),
            row.i64(5),
            std::string(row.text(6)),
            from_micros(row.i64(7))};
}

}  // namespace

void insert_code(Tx& tx, const CodeRow& row) {
    static constexpr Sql statement{
        "commerce.insert_code",
        "INSERT INTO promotion_codes (code, amount, uses_max, expires_at, bonus_days, note,"
        " created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)"};
    tx.exec(statement, {row.code, row.amount.value, row.uses_max, time_or_null(row.expires_at),
                        row.bonus_days, row.note, to_micros(row.created_at)});
}

std::optional<CodeRow> code(Tx& tx, std::string_view code) {
    static const std::string text =
        std::string("SELECT ") + code_columns + " FROM promotion_codes WHERE code = $1";
    const Sql statement{"commerce.code", text.c_str()};
    std::optional<CodeRow> found;
    tx.one(statement, {code}, [&](const Row& row) { found = code_row(row); });
    return found;
}

std::vector<CodeRow> codes(Tx& tx, std::int64_t limit) {
    static const std::string text = std::string("SELECT ") + code_columns +
                                    " FROM promotion_codes ORDER BY created_at DESC, code LIMIT $1";
    const Sql statement{"commerce.codes", text.c_str()};
    std::vector<CodeRow> rows;
    tx.query(statement, {limit}, [&](const Row& row) { rows.push_back(code_row(row)); });
    return rows;
}

bool use_code(Tx& tx, std::string_view code, Time now) {
    static constexpr Sql statement{
        "commerce.use_code",
        "UPDATE promotion_codes SET uses = uses + 1 WHERE code = $1 AND uses < uses_max"
        " AND (expires_at IS NULL OR expires_at > $2)"};
    return tx.exec(statement, {code, to_micros(now)}) == 1;
}

bool insert_redemption(Tx& tx, std::string_view code, AccountId account, UserId user, Time now) {
    static constexpr Sql statement{"commerce.insert_redemption",
                                   "INSERT INTO promotion_redemptions (code, account_id, user_id, created_at)"
                                   " VALUES ($1, $2, $3, $4) ON CONFLICT (code, account_id) DO NOTHING"};
    return tx.exec(statement, {code, account.db(), user.db(), to_micros(now)}) == 1;
}

bool is_redeemed(Tx& tx, std::string_view code, AccountId account) {
    static constexpr Sql statement{"commerce.is_redeemed",
                                   "SELECT 1 FROM promotion_redemptions WHERE code = $1 AND account_id = $2"};
    return tx.one(statement, {code, account.db()}, [](const Row&) {});
}

Paid paid(Tx& tx, AccountId account, const std::vector<Time>& months) {
    // What was given back counts in the month of the payment. Exact in nano-dollars but for the tax share of
    // a partial refund, which a tier may round.
    static constexpr Sql statement{
        "commerce.paid",
        "SELECT CAST(COALESCE(SUM(net - net / cents * refunded_cents), 0) AS BIGINT) FROM payments"
        " WHERE account_id = $1 AND posting_id IS NOT NULL AND status <> 'disputed'"
        " AND completed_at >= $2 AND completed_at < $3"};
    auto between = [&](std::int64_t from, std::int64_t to) {
        std::int64_t sum = 0;
        tx.one(statement, {account.db(), from, to}, [&](const Row& row) { sum = row.i64(0); });
        return Nanos{sum};
    };
    constexpr std::int64_t ever = std::numeric_limits<std::int64_t>::max();
    Paid found{between(0, ever), {}};
    for (std::size_t i = 0; i < months.size(); ++i) {
        std::int64_t to = i + 1 < months.size() ? to_micros(months[i + 1]) : ever;
        found.best_month = std::max(found.best_month, between(to_micros(months[i]), to));
    }
    return found;
}

Nanos spent(Tx& tx, AccountId account) {
    static constexpr Sql statement{"commerce.spent",
                                   "SELECT CAST(COALESCE(SUM(balance), 0) AS BIGINT) FROM ledger_accounts"
                                   " WHERE account_id = $1 AND kind LIKE 'revenue%'"};
    std::int64_t sum = 0;
    tx.one(statement, {account.db()}, [&](const Row& row) { sum = row.i64(0); });
    return Nanos{sum};
}

}  // namespace nebula::billing::commerce::sql
