#include "billing/admission/slices.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/check.hpp"
#include "base/log.hpp"
#include "billing/admission/allowances.hpp"

namespace nebula::billing {
namespace {

using store::Param;
using store::Row;
using store::Sql;
using store::Tx;

constexpr Sql sql_add_allowance{"billing.add_allowance",
                                "INSERT INTO allowances (owner, kind, period_start) VALUES ($1, $2, $3)"
                                " ON CONFLICT (owner, kind, period_start) DO NOTHING"};
constexpr Sql sql_lock_allowance{"billing.lock_allowance",
                                 "SELECT used, sliced FROM allowances"
                                 " WHERE owner = $1 AND kind = $2 AND period_start = $3",
                                 "SELECT used, sliced FROM allowances"
                                 " WHERE owner = $1 AND kind = $2 AND period_start = $3 FOR UPDATE"};
constexpr Sql sql_slice_allowance{"billing.slice_allowance",
                                  "UPDATE allowances SET sliced = sliced + $4"
                                  " WHERE owner = $1 AND kind = $2 AND period_start = $3"};
constexpr Sql sql_slice_chain{"billing.slice_chain",
                              "UPDATE ledger_chains SET sliced = sliced + $2 WHERE account_id = $1"};
constexpr Sql sql_mine{"billing.own_slice",
                       "SELECT amount FROM slices WHERE owner = $1 AND kind = $2 AND period_start = $3"
                       " AND node_id = $4"};
constexpr Sql sql_move{"billing.move_slice",
                       "INSERT INTO slices (owner, kind, period_start, node_id, amount, change)"
                       " VALUES ($1, $2, $3, $4, $5, $6)"
                       " ON CONFLICT (owner, kind, period_start, node_id)"
                       " DO UPDATE SET amount = slices.amount + excluded.amount, change = excluded.change"};
// A negative amount cannot be inserted, not even into a row that is there: the CHECK comes first.
constexpr Sql sql_give{"billing.give_slice",
                       "UPDATE slices SET amount = amount + $5, change = $6"
                       " WHERE owner = $1 AND kind = $2 AND period_start = $3 AND node_id = $4"};
constexpr Sql sql_change{"billing.slice_change",
                         "SELECT 1 FROM slices WHERE owner = $1 AND kind = $2 AND period_start = $3"
                         " AND node_id = $4 AND change = $5"};
constexpr Sql sql_purge{"billing.purge_slices", "DELETE FROM slices WHERE node_id = $1 AND amount = 0"};
constexpr Sql sql_of_node{"billing.slices_of_node",
                          "SELECT kind, owner, period_start, amount FROM slices WHERE node_id = $1"};
constexpr Sql sql_delete{"billing.delete_slices", "DELETE FROM slices WHERE node_id = $1"};
constexpr Sql sql_charge{"billing.charge_slice",
                         "UPDATE slices SET amount = amount - $5"
                         " WHERE owner = $1 AND kind = $2 AND period_start = $3 AND node_id = $4"
                         " AND amount >= $5"};

constexpr std::array kinds = {PurseKind::credits,     PurseKind::key_total, PurseKind::key_day,
                              PurseKind::key_week,    PurseKind::key_month, PurseKind::quota_input,
                              PurseKind::quota_output};

std::optional<PurseKind> parse_kind(std::string_view text) {
    for (PurseKind kind : kinds)
        if (text == purse_kind_name(kind)) return kind;
    return std::nullopt;
}

std::string_view kind_text(const PurseId& id) { return purse_kind_name(id.kind); }

void change_pool(Tx& tx, const PurseId& id, std::int64_t sliced) {
    if (id.kind == PurseKind::credits)
        tx.exec(sql_slice_chain, {id.owner, sliced});
    else
        tx.exec(sql_slice_allowance, {id.owner, kind_text(id), id.period_start, sliced});
}

// The slice is not what memory believes: should never be, as long as the node holds its lease.
void charge_carefully(Tx& tx, const PursePart& part, std::int64_t node, const Clock& clock) {
    const PurseId& id = part.purse->id;
    if (tx.exec(sql_charge, {id.owner, kind_text(id), id.period_start, node, part.amount}) == 1) return;
    LOG_ERROR("a slice is smaller than what was charged to it", {"purse", purse_text(id)},
              {"charge", part.amount});
    // The charge is written already, as one of something leased: that was not so.
    SliceRows rows = lock_slices(tx, id, part.purse->limit(), node, clock);
    if (rows.pool < part.amount) throw SliceLost("the slice of " + purse_text(id) + " is lost");
    change_pool(tx, id, part.amount);
}

}  // namespace

std::string purse_text(const PurseId& id) {
    return std::string(purse_kind_name(id.kind)) + " " + std::to_string(id.owner) + " " +
           std::to_string(id.period_start);
}

std::optional<PurseId> parse_purse(std::string_view text) {
    auto word = [&text] {
        auto end = std::min(text.find(' '), text.size());
        auto found = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        return found;
    };
    auto number = [&word](std::int64_t& value) {
        auto digits = word();
        auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
        return error == std::errc() && end == digits.data() + digits.size();
    };
    auto kind = parse_kind(word());
    PurseId id;
    if (!kind || !number(id.owner) || !number(id.period_start)) return std::nullopt;
    id.kind = *kind;
    return id;
}

SliceRows lock_slices(Tx& tx, const PurseId& id, std::int64_t limit, std::int64_t node, const Clock& clock) {
    SliceRows rows;
    std::int64_t sliced = 0;
    if (id.kind == PurseKind::credits) {
        rows.funds = ledger::lock_funds(tx, AccountId::from_db(id.owner), clock);
        if (!rows.funds) return rows;
        rows.pool = rows.funds->pool().value;
        sliced = rows.funds->sliced.value;
    } else {
        tx.exec(sql_add_allowance, {id.owner, kind_text(id), id.period_start});
        tx.one(sql_lock_allowance, {id.owner, kind_text(id), id.period_start}, [&](const Row& row) {
            sliced = row.i64(1);
            rows.pool = limit - row.i64(0) - sliced;
        });
    }
    tx.one(sql_mine, {id.owner, kind_text(id), id.period_start, node},
           [&](const Row& row) { rows.mine = row.i64(0); });
    rows.others = sliced - rows.mine;
    return rows;
}

void move_slice(Tx& tx, const PurseId& id, SliceRows& rows, std::int64_t delta, std::int64_t node,
                std::int64_t change) {
    if (rows.funds)
        ledger::change_sliced(tx, *rows.funds, Nanos{delta});
    else
        change_pool(tx, id, delta);
    const Sql& sql = delta < 0 ? sql_give : sql_move;
    std::int64_t moved = tx.exec(sql, {id.owner, kind_text(id), id.period_start, node, delta, change});
    if (moved != 1) throw store::DbError("a node's slice disappeared");
    rows.pool -= delta;
    rows.mine += delta;
}

void take_from_slice(Tx& tx, const PurseId& id, std::int64_t amount, std::int64_t node) {
    if (tx.exec(sql_charge, {id.owner, kind_text(id), id.period_start, node, amount}) != 1)
        throw SliceLost("the slice of " + purse_text(id) + " is lost");
}

bool has_change(Tx& tx, const PurseId& id, std::int64_t node, std::int64_t change) {
    return tx.one(sql_change, {id.owner, kind_text(id), id.period_start, node, change}, [](const Row&) {});
}

void purge_slices(Tx& tx, std::int64_t node) { tx.exec(sql_purge, {node}); }

void publish_free(Tx& tx, store::Notices& notices, const PurseId& id) {
    if (id.kind == PurseKind::credits)
        notices.publish(tx, "funds", AccountId::from_db(id.owner).text());
    else
        notices.publish(tx, "allowance", purse_text(id));
}

void return_slices(Tx& tx, std::int64_t node, store::Notices* notices) {
    struct Slice {
        PurseId id;
        std::int64_t amount;
    };
    std::vector<Slice> slices;
    tx.query(sql_of_node, {node}, [&](const Row& row) {
        auto kind = parse_kind(row.text(0));
        if (!kind) throw store::DbError("slices.kind has an unknown value");
        slices.push_back({{*kind, row.i64(1), row.i64(2)}, row.i64(3)});
    });
    std::ranges::sort(slices, {}, &Slice::id);
    for (const Slice& slice : slices) {
        if (slice.amount == 0) continue;
        change_pool(tx, slice.id, -slice.amount);
        if (notices != nullptr) publish_free(tx, *notices, slice.id);
    }
    tx.exec(sql_delete, {node});
}

void charge_slices(Tx& tx, std::span<const PursePart> charges, std::int64_t node, bool is_careful,
                   const Clock& clock, std::vector<Param>& values) {
    if (is_careful) {
        for (const PursePart& part : charges) charge_carefully(tx, part, node, clock);
        return;
    }
    values.clear();
    for (const PursePart& part : charges) {
        const PurseId& id = part.purse->id;
        values.insert(values.end(), {Param(id.owner), Param(kind_text(id)), Param(id.period_start),
                                     Param(node), Param(part.amount)});
    }
    if (values.empty()) return;
    std::int64_t changed = tx.exec_many(sql_charge, 5, values);
    if (changed != static_cast<std::int64_t>(charges.size())) throw SliceLost("a slice is lost");
}

}  // namespace nebula::billing
