#include "billing/ledger/ledger.hpp"

#include <algorithm>
#include <map>

#include "base/check.hpp"
#include "billing/ledger/chain.hpp"
#include "billing/ledger/lots.hpp"

namespace nebula::billing {

const char* movement_name(MovementKind kind) {
    switch (kind) {
        case MovementKind::grant:
            return "grant";
        case MovementKind::payment:
            return "payment";
        case MovementKind::bonus:
            return "bonus";
        case MovementKind::promotion:
            return "promotion";
        case MovementKind::plan_fee:
            return "plan_fee";
        case MovementKind::charge:
            return "charge";
        case MovementKind::refund:
            return "refund";
        case MovementKind::dispute:
            return "dispute";
        case MovementKind::dispute_won:
            return "dispute_won";
        case MovementKind::correction:
            return "correction";
    }
    return "grant";
}

}  // namespace nebula::billing

namespace nebula::billing::ledger {
namespace {

using store::Param;
using store::Row;
using store::Sql;
using store::Tx;

constexpr Sql sql_lock{"billing.lock_chain",
                       "SELECT length, hash, sliced FROM ledger_chains WHERE account_id = $1",
                       "SELECT length, hash, sliced FROM ledger_chains WHERE account_id = $1 FOR UPDATE"};
constexpr Sql sql_read{"billing.read_chain",
                       "SELECT COALESCE(c.length, 0), c.hash, COALESCE(c.sliced, 0) FROM accounts a"
                       " LEFT JOIN ledger_chains c ON c.account_id = a.id WHERE a.id = $1"};
constexpr Sql sql_account{"billing.account_exists", "SELECT 1 FROM accounts WHERE id = $1"};
constexpr Sql sql_add_chain{"billing.add_chain",
                            "INSERT INTO ledger_chains (account_id, hash) VALUES ($1, $2)"
                            " ON CONFLICT (account_id) DO NOTHING"};
constexpr Sql sql_update_chain{"billing.update_chain",
                               "UPDATE ledger_chains SET length = $2, hash = $3 WHERE account_id = $1"};
constexpr Sql sql_slice{"billing.change_sliced",
                        "UPDATE ledger_chains SET sliced = $2 WHERE account_id = $1"};
constexpr Sql sql_balances{"billing.account_balances",
                           "SELECT kind, balance FROM ledger_accounts WHERE account_id = $1"
                           " AND kind IN ('customer_credits', 'customer_bonus', 'customer_debt')"};
constexpr Sql sql_ledger_ids{"billing.ledger_ids",
                             "SELECT kind, id FROM ledger_accounts WHERE account_id = $1"};
constexpr Sql sql_add_ledger{"billing.add_ledger",
                             "INSERT INTO ledger_accounts (id, account_id, kind) VALUES ($1, $2, $3)"
                             " ON CONFLICT (account_id, kind) DO NOTHING"};
constexpr Sql sql_by_key{"billing.movement_by_key",
                         "SELECT id, account_id, kind, amount, tax, note, reference, product, credited, owed"
                         " FROM movements WHERE idempotency_key = $1"};
constexpr Sql sql_insert_movement{
    "billing.insert_movement",
    "INSERT INTO movements (id, account_id, kind, idempotency_key, amount, tax, credited, owed, note, "
    "reference,"
    " product, expires_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"};

constexpr std::size_t key_bytes_max = 200;
constexpr std::size_t note_bytes_max = 500;

Param text(std::string_view value) { return value; }

std::unexpected<Error> bad(const char* what, const char* param) {
    return fail(Code::invalid_request, what, param);
}

bool may_be_negative(MovementKind kind) {
    return kind == MovementKind::grant || kind == MovementKind::correction;
}

/// The account on the other side of the customer's.
const char* other_side(const Movement& movement) {
    switch (movement.kind) {
        case MovementKind::grant:
            return "grants";
        case MovementKind::payment:
            return "payments";
        case MovementKind::bonus:
        case MovementKind::promotion:
            return "promotions";
        case MovementKind::plan_fee:
            return "revenue_plans";
        case MovementKind::charge:
        case MovementKind::correction:
            return revenue_of(movement.product);
        case MovementKind::refund:
        case MovementKind::dispute:
        case MovementKind::dispute_won:
            return "refunds";
    }
    return "grants";
}

void read_balances(Tx& tx, Funds& funds) {
    tx.query(sql_balances, {funds.account.db()}, [&](const Row& row) {
        Nanos balance{row.i64(1)};
        if (row.text(0) == "customer_credits") funds.paid = balance;
        if (row.text(0) == "customer_bonus") funds.bonus = balance;
        if (row.text(0) == "customer_debt") funds.debt = Nanos{} - balance;
    });
}

void add_ledger(Tx& tx, AccountId account, const char* kind, const Clock& clock) {
    tx.exec(sql_add_ledger, {PostingId::next(clock).db(), account.db(), text(kind)});
}

/// Ids come from the counter of this process whatever the clock says; time only makes them sort.
class FixedClock final : public Clock {
   public:
    explicit FixedClock(Time now) : now_(now) {}
    Time now() const override { return now_; }
    Ticks ticks() const override { return {}; }

   private:
    Time now_;
};

/// The postings of one movement in the making.
class Poster {
   public:
    Poster(Tx& tx, Funds& funds, MovementRow row) : tx_(tx), funds_(funds), row_(std::move(row)) {
        tx.query(sql_ledger_ids, {funds.account.db()},
                 [&](const Row& found) { ids_[std::string(found.text(0))] = found.i64(1); });
    }

    void add(const char* from, const char* to, Nanos amount) {
        if (amount > Nanos{}) parts_.push_back({from, to, amount});
    }

    /// Writes the movement and its postings; `kind` is a literal.
    void write(const char* kind) {
        CHECK(!parts_.empty(), "a movement moves something");
        FixedClock clock(row_.created_at);
        Sha256 movement = movement_digest(row_);
        Param key = row_.key.empty() ? Param(nullptr) : text(row_.key);
        Param expires = row_.expires_at == 0 ? Param(nullptr) : Param(row_.expires_at);
        tx_.exec(sql_insert_movement,
                 {row_.id.db(), row_.account.db(), text(row_.kind), key, row_.amount.value, row_.tax.value,
                  row_.credited.value, row_.owed.value, text(row_.note), text(row_.reference),
                  text(row_.product), expires, to_micros(row_.created_at)});
        ChainEnd end{funds_.length, funds_.hash};
        std::vector<Posting> postings;
        for (const Part& part : parts_) {
            Posting posting;
            posting.id = postings.empty() ? row_.id : PostingId::next(clock);
            posting.account = row_.account;
            posting.debit = ledger_id(part.from, clock);
            posting.credit = ledger_id(part.to, clock);
            posting.amount = part.amount;
            posting.kind = kind;
            posting.movement = row_.id;
            posting.created_at = row_.created_at;
            posting.records_digest = digest_of_digests(bytes_of(movement));
            seal(end, posting);
            postings.push_back(posting);
        }
        std::vector<Param> values;
        insert_postings(tx_, postings, values);
        tx_.exec(sql_update_chain, {funds_.account.db(), end.length, store::Blob{bytes_of(end.hash)}});
        funds_.length = end.length;
        funds_.hash = end.hash;
    }

   private:
    struct Part {
        const char* from;
        const char* to;
        Nanos amount;
    };

    std::int64_t ledger_id(const char* kind, const Clock& clock) {
        auto found = ids_.find(kind);
        if (found != ids_.end()) return found->second;
        auto id = PostingId::next(clock).db();  // nobody else makes one: the chain row is locked
        tx_.exec(sql_add_ledger, {id, funds_.account.db(), text(kind)});
        return ids_[kind] = id;
    }

    Tx& tx_;
    Funds& funds_;
    MovementRow row_;
    std::vector<Part> parts_;
    std::map<std::string, std::int64_t, std::less<>> ids_;
};

MovementRow row_of(const Movement& movement, PostingId id, Time now) {
    MovementRow row;
    row.id = id;
    row.account = movement.account;
    row.kind = movement_name(movement.kind);
    row.key = movement.key;
    row.amount = movement.amount;
    row.tax = movement.tax;
    row.note = movement.note;
    row.reference = movement.reference;
    row.product = movement.product;
    row.expires_at = movement.expires_at ? to_micros(*movement.expires_at) : 0;
    row.created_at = now;
    return row;
}

Moved moved_of(const MovementRow& row, const Funds& funds) {
    return {row.id, row.credited, row.owed, false, balance_of(funds)};
}

Result<Moved> give(Tx& tx, Funds& funds, const Movement& movement, PostingId id, Time now) {
    if (funds.paid + funds.bonus > balance_max - movement.amount)
        return bad("the balance would exceed 4000000000 credits", "amount");
    bool is_bonus = movement.kind == MovementKind::bonus || movement.kind == MovementKind::promotion;
    Nanos to_debt = std::min(movement.amount, funds.debt);
    Nanos rest = movement.amount - to_debt;
    MovementRow row = row_of(movement, id, now);
    row.credited = rest;
    row.owed = Nanos{} - to_debt;
    if (is_bonus && rest > Nanos{}) add_lot(tx, funds, id, rest, movement.expires_at);

    Poster poster(tx, funds, row);
    const char* from = other_side(movement);
    poster.add(from, is_bonus ? "customer_bonus" : "customer_credits", rest);
    poster.add(from, "customer_debt", to_debt);
    // check() lets only payments and won disputes have tax here.
    poster.add(from, "tax", movement.tax);
    poster.write(movement_name(movement.kind));
    (is_bonus ? funds.bonus : funds.paid) += rest;
    funds.debt -= to_debt;
    return moved_of(row, funds);
}

Result<Moved> take(Tx& tx, Funds& funds, const Movement& movement, PostingId id, Nanos takeable, Time now) {
    Nanos wanted = movement.amount < Nanos{} ? Nanos{} - movement.amount : movement.amount;
    Nanos there = std::clamp(takeable, Nanos{}, funds.paid + funds.bonus);
    Nanos taken = std::min(wanted, there);
    Nanos owed = wanted - taken;
    if (owed > Nanos{}) {
        if (movement.kind == MovementKind::grant)
            return bad("the available balance is smaller than what is taken back", "amount");
        if (movement.kind == MovementKind::plan_fee || movement.kind == MovementKind::charge)
            return fail(Code::payment_required, "the balance does not cover this; add credits");
        if (funds.debt > balance_max - owed) return bad("the debt would exceed 4000000000 credits", "amount");
    }
    Nanos from_bonus = std::min(funds.bonus, taken);
    MovementRow row = row_of(movement, id, now);
    row.credited = Nanos{} - taken;
    row.owed = owed;

    Poster poster(tx, funds, row);
    const char* to = other_side(movement);
    poster.add("customer_bonus", to, from_bonus);
    poster.add("customer_credits", to, taken - from_bonus);
    poster.add("customer_debt", to, owed);
    if (movement.kind == MovementKind::refund || movement.kind == MovementKind::dispute)
        poster.add("tax", to, movement.tax);
    poster.write(movement_name(movement.kind));
    funds.bonus -= from_bonus;
    funds.paid -= taken - from_bonus;
    funds.debt += owed;
    return moved_of(row, funds);
}

}  // namespace

bool takes(const Movement& movement) {
    switch (movement.kind) {
        case MovementKind::plan_fee:
        case MovementKind::charge:
        case MovementKind::refund:
        case MovementKind::dispute:
            return true;
        case MovementKind::grant:
        case MovementKind::correction:
            return movement.amount < Nanos{};
        case MovementKind::payment:
        case MovementKind::bonus:
        case MovementKind::promotion:
        case MovementKind::dispute_won:
            return false;
    }
    return false;
}

Result<void> check(const Movement& movement) {
    if (movement.amount == Nanos{}) return bad("the amount must not be zero", "amount");
    if (movement.amount < Nanos{} && !may_be_negative(movement.kind))
        return bad("the amount must be positive", "amount");
    if (movement.amount > movement_max || movement.amount < Nanos{-movement_max.value})
        return bad("the amount must be at most 1000000000 credits", "amount");
    bool has_tax = movement.kind == MovementKind::payment || movement.kind == MovementKind::refund ||
                   movement.kind == MovementKind::dispute || movement.kind == MovementKind::dispute_won;
    if (movement.tax < Nanos{} || movement.tax > movement_max || (movement.tax > Nanos{} && !has_tax))
        return bad("the tax must be at most 1000000000 credits, of a payment or refund only", "tax");
    if (movement.key.empty() && movement.kind != MovementKind::grant)
        return bad("an idempotency key is required", "key");
    if (movement.key.size() > key_bytes_max)
        return bad("the idempotency key must be at most 200 bytes", "key");
    if (movement.note.size() > note_bytes_max) return bad("the note must be at most 500 bytes", "note");
    if (movement.reference.size() > key_bytes_max)
        return bad("the reference must be at most 200 bytes", "reference");
    if (movement.product.size() > key_bytes_max)
        return bad("the product must be at most 200 bytes", "product");
    auto has_nul = [](const std::string& value) { return value.find('\0') != std::string::npos; };
    if (has_nul(movement.key)) return bad("the idempotency key must be text", "key");
    if (has_nul(movement.note)) return bad("the note must be text", "note");
    if (has_nul(movement.reference)) return bad("the reference must be text", "reference");
    if (has_nul(movement.product)) return bad("the product must be text", "product");
    return {};
}

Balance balance_of(const Funds& funds) {
    return {funds.pool(), funds.sliced, funds.paid, funds.bonus, funds.debt};
}

std::optional<Funds> lock_funds(Tx& tx, AccountId account, const Clock& clock) {
    Funds funds;
    funds.account = account;
    auto lock = [&] {
        return tx.one(sql_lock, {account.db()}, [&](const Row& row) {
            funds.length = row.i64(0);
            funds.hash = hash_from(row.blob(1));
            funds.sliced = Nanos{row.i64(2)};
        });
    };
    if (!lock()) {
        if (!tx.one(sql_account, {account.db()}, [](const Row&) {})) return std::nullopt;
        for (const char* kind : {"customer_credits", "customer_bonus", "customer_debt", "revenue"})
            add_ledger(tx, account, kind, clock);
        Sha256 start;
        tx.exec(sql_add_chain, {account.db(), store::Blob{bytes_of(start)}});
        if (!lock()) throw store::DbError("the account's chain disappeared");
    }
    read_balances(tx, funds);
    return funds;
}

std::optional<Funds> read_funds(Tx& tx, AccountId account) {
    Funds funds;
    funds.account = account;
    bool is_there = tx.one(sql_read, {account.db()}, [&](const Row& row) {
        funds.length = row.i64(0);
        funds.hash = hash_from(row.blob(1));
        funds.sliced = Nanos{row.i64(2)};
    });
    if (!is_there) return std::nullopt;
    read_balances(tx, funds);
    return funds;
}

void change_sliced(Tx& tx, Funds& funds, Nanos delta) {
    if (delta == Nanos{}) return;
    CHECK(funds.sliced + delta >= Nanos{}, "what is given back was leased");
    CHECK(delta < Nanos{} || delta <= funds.pool(), "only what is there can be leased");
    funds.sliced += delta;
    tx.exec(sql_slice, {funds.account.db(), funds.sliced.value});
}

Earlier earlier(Tx& tx, const Movement& movement, Moved* moved) {
    if (movement.key.empty()) return Earlier::none;
    Earlier found = Earlier::none;
    Moved before;
    tx.one(sql_by_key, {text(movement.key)}, [&](const Row& row) {
        bool is_same = row.i64(1) == movement.account.db() && row.text(2) == movement_name(movement.kind) &&
                       row.i64(3) == movement.amount.value && row.i64(4) == movement.tax.value &&
                       row.text(5) == movement.note && row.text(6) == movement.reference &&
                       row.text(7) == movement.product;
        found = is_same ? Earlier::same : Earlier::other;
        before = {PostingId::from_db(row.i64(0)), Nanos{row.i64(8)}, Nanos{row.i64(9)}, true, {}};
    });
    if (found == Earlier::same && moved != nullptr) {
        *moved = before;
        if (auto funds = read_funds(tx, movement.account)) moved->balance = balance_of(*funds);
    }
    return found;
}

Result<Moved> post(Tx& tx, Funds& funds, const Movement& movement, PostingId id, Nanos takeable, Time now) {
    CHECK(funds.account == movement.account, "money moves under its own account's lock");
    if (auto valid = check(movement); !valid) return fail(std::move(valid.error()));
    return takes(movement) ? take(tx, funds, movement, id, takeable, now)
                           : give(tx, funds, movement, id, now);
}

void post_expiry(Tx& tx, Funds& funds, Nanos amount, PostingId id, Time now) {
    MovementRow row;
    row.id = id;
    row.account = funds.account;
    row.kind = "expiry";
    row.amount = row.credited = Nanos{} - amount;
    row.created_at = now;
    Poster poster(tx, funds, row);
    poster.add("customer_bonus", "promotions", amount);
    poster.write("expiry");
    funds.bonus -= amount;
}

}  // namespace nebula::billing::ledger
