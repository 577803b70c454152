#include <limits>

#include "billing/ledger/verify_parts.hpp"

namespace nebula::billing::ledger {
namespace {

using store::Sql;

constexpr std::int64_t none = std::numeric_limits<std::int64_t>::max();

#define POSTING_COLUMNS                                                                            \
    "SELECT id, COALESCE(account_id, 0), COALESCE(seq, 0), debit_account, credit_account, amount," \
    " kind, COALESCE(movement_id, 0), created_at, records_digest, record_digests, hash FROM postings"
constexpr Sql sql_chain{"billing.verify_chain", POSTING_COLUMNS
                        " WHERE (account_id, seq) > ($1, $2) AND seq IS NOT NULL"
                        " ORDER BY account_id, seq LIMIT $3"};
constexpr Sql sql_unchained{"billing.verify_unchained",
                            POSTING_COLUMNS " WHERE seq IS NULL AND id > $1 ORDER BY id LIMIT $2"};
#undef POSTING_COLUMNS
#define MOVEMENT_COLUMNS                                                                             \
    "SELECT id, account_id, kind, COALESCE(idempotency_key, ''), amount, tax, credited, owed, note," \
    " reference, product, COALESCE(expires_at, 0), created_at FROM movements"
constexpr Sql sql_movements{"billing.verify_movements",
                            MOVEMENT_COLUMNS " WHERE id IN (SELECT value FROM json_each($1))",
                            MOVEMENT_COLUMNS " WHERE id = ANY(CAST(CAST($1 AS TEXT) AS BIGINT[]))"};
#undef MOVEMENT_COLUMNS
constexpr Sql sql_unposted{"billing.verify_unposted",
                           "SELECT m.id FROM movements m LEFT JOIN postings p ON p.id = m.id"
                           " WHERE p.id IS NULL LIMIT 101"};

const LedgerRow* find(const LedgerRows& rows, std::int64_t id) {
    auto found = rows.find(id);
    return found == rows.end() ? nullptr : &found->second;
}

}  // namespace

ChainVerifier::ChainVerifier(store::Tx& tx, VerifyReport& report) : tx_(tx), report_(report) {
    verify_unchained();
    pages_.emplace([this](const Row* last, std::vector<Row>& page) { load(last, page); });
}

std::int64_t ChainVerifier::next_account() const {
    const Row* row = pages_->peek();
    return row == nullptr ? none : row->posting.account.db();
}

void ChainVerifier::load(const Row* last, std::vector<Row>& page) {
    auto read = [&page](const store::Row& row) {
        Row& made = page.emplace_back();
        Posting& p = made.posting;
        p.id = PostingId::from_db(row.i64(0));
        p.account = AccountId::from_db(row.i64(1));
        p.seq = row.i64(2);
        p.debit = row.i64(3);
        p.credit = row.i64(4);
        p.amount = Nanos{row.i64(5)};
        made.kind = row.text(6);
        p.movement = PostingId::from_db(row.i64(7));
        p.created_at = from_micros(row.i64(8));
        p.records_digest = hash_from(row.blob(9));
        made.record_digests = row.blob(10);
        p.hash = hash_from(row.blob(11));
    };
    constexpr std::int64_t least = std::numeric_limits<std::int64_t>::min();
    // Unchained rows come from the constructor, with their id as the only key.
    if (last != nullptr && last->posting.seq == 0)
        tx_.query(sql_unchained, {last->posting.id.db(), Pages<Row>::size}, read);
    else
        tx_.query(sql_chain,
                  {last == nullptr ? least : last->posting.account.db(),
                   last == nullptr ? least : last->posting.seq, Pages<Row>::size},
                  read);
    for (Row& row : page) row.posting.kind = row.kind;  // where it stays: the page is moved as a whole
    load_movements(page);
}

void ChainVerifier::load_movements(const std::vector<Row>& page) {
    std::vector<std::int64_t> ids;
    for (const Row& row : page)
        if (row.kind != "usage" && (ids.empty() || ids.back() != row.posting.movement.db()))
            ids.push_back(row.posting.movement.db());
    movements_.clear();
    if (ids.empty()) return;
    std::string list = id_list(tx_.engine(), ids);
    tx_.query(sql_movements, {std::string_view(list)}, [&](const store::Row& row) {
        MovementRow& m = movements_[row.i64(0)];
        m.id = PostingId::from_db(row.i64(0));
        m.account = AccountId::from_db(row.i64(1));
        m.kind = row.text(2);
        m.key = row.text(3);
        m.amount = Nanos{row.i64(4)};
        m.tax = Nanos{row.i64(5)};
        m.credited = Nanos{row.i64(6)};
        m.owed = Nanos{row.i64(7)};
        m.note = row.text(8);
        m.reference = row.text(9);
        m.product = row.text(10);
        m.expires_at = row.i64(11);
        m.created_at = from_micros(row.i64(12));
    });
}

void ChainVerifier::verify_unchained() {
    // Its movements have one posting each and were the customer's grants only: amounts are all there is to
    // compare.
    Row before;
    before.posting.id = PostingId::from_db(-1);
    Pages<Row> pages([&](const Row* last, std::vector<Row>& page) { load(last ? last : &before, page); });
    for (; pages.peek() != nullptr; pages.pop()) {
        const Row& row = *pages.peek();
        ++report_.postings;
        unchained_[row.posting.debit] -= row.posting.amount;
        unchained_[row.posting.credit] += row.posting.amount;
        if (row.kind == "usage") continue;
        auto movement = movements_.find(row.posting.movement.db());
        if (movement == movements_.end()) continue;
        Nanos amount = movement->second.amount;
        if (amount != row.posting.amount && amount != Nanos{} - row.posting.amount)
            add_problem(report_, "movement differs from its postings: " + row.posting.id.text());
    }
}

void ChainVerifier::add_sides(const Posting& posting, LedgerRows& rows) {
    auto debit = rows.find(posting.debit), credit = rows.find(posting.credit);
    if (debit == rows.end() || credit == rows.end()) {
        add_problem(report_,
                    "posting names a ledger account that is not its account's: " + posting.id.text());
        return;
    }
    debit->second.moved -= posting.amount;
    credit->second.moved += posting.amount;
    if (posting.kind != "usage") return;
    const std::string& from = debit->second.kind;
    bool is_charge = (from == "customer_credits" || from == "customer_bonus") &&
                     credit->second.kind.starts_with("revenue");
    if (!is_charge) add_problem(report_, "usage posting does not charge the customer: " + posting.id.text());
}

void ChainVerifier::add_to_group(const Row& row, const LedgerRows& rows) {
    const Posting& p = row.posting;
    if (row.kind == "usage" || group_.movement != p.movement) close_group();
    if (row.kind == "usage") return;
    if (!group_.movement) {
        group_.movement = p.movement;
        group_.digest = p.records_digest;
        auto found = movements_.find(p.movement.db());
        if (found != movements_.end()) open_movement_ = found->second;
        if (found == movements_.end() || found->second.account != p.account || found->second.kind != row.kind)
            add_problem(report_, "posting without its movement: " + p.id.text());
    }
    for (auto [id, amount] : {std::pair(p.credit, p.amount), std::pair(p.debit, Nanos{} - p.amount)}) {
        const LedgerRow* side = find(rows, id);
        if (side == nullptr) continue;
        if (side->kind == "customer_credits" || side->kind == "customer_bonus") group_.credited += amount;
        if (side->kind == "customer_debt") group_.owed -= amount;
        if (side->kind == "tax") group_.tax += amount < Nanos{} ? Nanos{} - amount : amount;
    }
}

void ChainVerifier::close_group() {
    if (group_.movement && open_movement_) {
        const MovementRow& m = *open_movement_;
        bool is_same = m.credited == group_.credited && m.owed == group_.owed && m.tax == group_.tax;
        bool is_asked =
            m.kind == "refund" || m.kind == "dispute" || m.kind == "plan_fee" || m.kind == "charge"
                ? m.owed - m.credited == m.amount
                : m.credited - m.owed == m.amount;
        if (!is_same || !is_asked)
            add_problem(report_, "movement differs from its postings: " + m.id.text());
        else if (digest_of_digests(bytes_of(movement_digest(m))) != group_.digest)
            add_problem(report_, "movement was changed after it was posted: " + m.id.text());
    }
    group_ = {};
    open_movement_.reset();
}

std::int64_t ChainVerifier::verify(std::int64_t account, LedgerRows& rows,
                                   const std::optional<ChainEnd>& end) {
    std::int64_t sealed = 0;
    ChainEnd at;
    for (; next_account() == account; pages_->pop()) {
        const Row& row = *pages_->peek();
        const Posting& p = row.posting;
        ++report_.postings;
        if (p.seq != at.length + 1)
            add_problem(report_, "chain of postings has a gap before: " + p.id.text());
        else if (posting_hash(at.hash, p) != p.hash)
            add_problem(report_, "posting was changed, or does not follow the one before: " + p.id.text());
        if (!row.record_digests.empty() && digest_of_digests(row.record_digests) != p.records_digest)
            add_problem(report_, "posting's list of records was changed: " + p.id.text());
        at = {p.seq, p.hash};
        add_sides(p, rows);
        add_to_group(row, rows);
        // The first posting of a charge has the list of its records; none: there is one.
        if (row.kind == "usage" && p.movement == p.id)
            sealed += row.record_digests.empty()
                          ? 1
                          : static_cast<std::int64_t>(row.record_digests.size() / sizeof(Sha256::bytes));
    }
    close_group();
    if (!end && at.length > 0)
        add_problem(report_, "chain of postings has no end: " + AccountId::from_db(account).text());
    if (end && (end->length != at.length || end->hash != at.hash))
        add_problem(report_, "chain of postings ends elsewhere: " + AccountId::from_db(account).text() +
                                 " has " + std::to_string(at.length) + ", expected " +
                                 std::to_string(end->length));
    for (auto& [id, row] : rows) {
        auto before = unchained_.find(id);
        if (before == unchained_.end()) continue;
        row.moved += before->second;
        unchained_.erase(before);
    }
    return sealed;
}

void ChainVerifier::finish() {
    for (const auto& [id, amount] : unchained_)
        add_problem(report_, "posting names a ledger account that does not exist: " + std::to_string(id));
    tx_.query(sql_unposted, {}, [&](const store::Row& row) {
        add_problem(report_, "movement without a posting: " + PostingId::from_db(row.i64(0)).text());
    });
}

}  // namespace nebula::billing::ledger
