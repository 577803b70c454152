#include "ratelimit/days.hpp"

#include <algorithm>

namespace nebula::ratelimit {
namespace {

constexpr std::int64_t day_us = 86'400'000'000;
constexpr std::int64_t block_max = 64;

constexpr store::Sql sql_add{
    "rate_days.add",
    "INSERT INTO rate_days (subject_kind, subject_id, day, taken)"
    " VALUES ($1, $2, $3, 0) ON CONFLICT (subject_kind, subject_id, day) DO NOTHING"};
constexpr store::Sql sql_lock{
    "rate_days.lock", "SELECT taken FROM rate_days WHERE subject_kind = $1 AND subject_id = $2 AND day = $3",
    "SELECT taken FROM rate_days WHERE subject_kind = $1 AND subject_id = $2 AND day = $3 FOR UPDATE"};
constexpr store::Sql sql_take{
    "rate_days.take",
    "UPDATE rate_days SET taken = taken + $4 WHERE subject_kind = $1 AND subject_id = $2 AND day = $3"};
constexpr store::Sql sql_forget{"rate_days.forget", "DELETE FROM rate_days WHERE day < $1"};

void push_key(std::vector<store::Param>& params, const DayWant& want) {
    params.emplace_back(static_cast<std::int64_t>(want.subject.kind));
    params.emplace_back(static_cast<std::int64_t>(want.subject.id));
    params.emplace_back(want.day);
}

}  // namespace

std::int64_t day_of(Time now) {
    return std::chrono::floor<std::chrono::days>(now).time_since_epoch().count();
}

std::int64_t enter_day(Day& day, Time now, std::int64_t now_ms) {
    std::int64_t today = day_of(now);
    std::int64_t left_ms = ((today + 1) * day_us - to_micros(now) + 999) / 1000;
    if (day.day == today) return left_ms;
    day = Day{.day = today};
    day.until_second = (now_ms + left_ms + 999) / 1000;
    return left_ms;
}

void take_blocks(store::Tx& tx, std::span<DayWant> wants, std::int64_t nodes) {
    if (wants.empty()) return;
    std::vector<store::Param> keys;
    for (const DayWant& want : wants) push_key(keys, want);
    tx.exec_many(sql_add, 3, keys);
    std::vector<store::Param> taken;
    for (DayWant& want : wants) {
        tx.one(sql_lock,
               {static_cast<std::int64_t>(want.subject.kind), static_cast<std::int64_t>(want.subject.id),
                want.day},
               [&](const store::Row& row) { want.taken = row.i64(0); });
        std::int64_t remaining = std::max<std::int64_t>(0, want.limit - want.taken);
        std::int64_t block = std::clamp<std::int64_t>(remaining / (8 * nodes), 1, block_max);
        want.granted = std::min(remaining, std::max(block, want.waiting - want.left));
        if (want.granted == 0) continue;
        want.taken += want.granted;
        push_key(taken, want);
        taken.emplace_back(want.granted);
    }
    tx.exec_many(sql_take, 4, taken);
}

void give_back_blocks(store::Tx& tx, std::span<const DayWant> unused) {
    std::vector<store::Param> params;
    for (const DayWant& want : unused) {
        push_key(params, want);
        params.emplace_back(-want.left);
    }
    tx.exec_many(sql_take, 4, params);
}

void forget_days_before(store::Tx& tx, std::int64_t day) { tx.exec(sql_forget, {day}); }

}  // namespace nebula::ratelimit
