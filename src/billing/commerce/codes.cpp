// Promotion codes.
#include <algorithm>
#include <boost/json/serialize.hpp>

#include "accounts/audit.hpp"
#include "base/crypto.hpp"
#include "base/text.hpp"
#include "billing/commerce/shop.hpp"

namespace nebula::billing::commerce {
namespace {

constexpr int wrong_codes_max = 10;
constexpr std::chrono::hours wrong_codes_window{1};
constexpr std::size_t wrong_codes_accounts_max = 10'000;
constexpr std::size_t generated_length = 12;  // 71 bits

std::string normal(std::string_view code) {
    std::string text(trim(code));
    std::ranges::transform(text, text.begin(),
                           [](char c) { return c >= 'a' && c <= 'z' ? char(c - 'a' + 'A') : c; });
    return text;
}

bool is_code(std::string_view text) {
    return text.size() >= 3 && text.size() <= 64 && std::ranges::all_of(text, [](char c) {
               return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
           });
}

// Easy to read aloud, and long enough that nobody guesses it.
std::string generated_code() {
    constexpr std::string_view letters = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    unsigned char bytes[generated_length];
    random_bytes(bytes);
    std::string text;
    for (std::size_t i = 0; i < generated_length; ++i) {
        if (i > 0 && i % 4 == 0) text += '-';
        text += letters[bytes[i] % letters.size()];
    }
    return text;
}

std::unexpected<Error> no_code() {
    return fail(Code::not_found, "this promotion code is not valid", "promo_code");
}
std::unexpected<Error> redeemed() {
    return fail(Code::conflict, "this promotion code was redeemed already", "promo_code");
}

}  // namespace

bool Shop::may_try_code(AccountId account) {
    std::lock_guard lock(wrong_codes_mutex_);
    auto found = wrong_codes_.find(account);
    if (found == wrong_codes_.end()) return true;
    if (clock_.ticks() - found->second.since >= wrong_codes_window) {
        wrong_codes_.erase(found);
        return true;
    }
    return found->second.count < wrong_codes_max;
}

void Shop::note_wrong_code(AccountId account) {
    std::lock_guard lock(wrong_codes_mutex_);
    if (wrong_codes_.size() >= wrong_codes_accounts_max) wrong_codes_.clear();
    Wrong& wrong = wrong_codes_.try_emplace(account, Wrong{clock_.ticks()}).first->second;
    ++wrong.count;
}

Async<Result<Moved>> Shop::redeem(AccountId account, std::string code, const accounts::Caller* caller) {
    std::optional<accounts::Caller> by;
    if (caller != nullptr) by = *caller;
    code = normal(code);
    if (!may_try_code(account))
        co_return fail(Error{
            Code::rate_limited, "too many wrong promotion codes; try again later", "promo_code", {}, 60'000});
    std::optional<CodeRow> row;
    if (is_code(code)) {
        auto read = [code, account](Tx& tx) -> Result<std::pair<std::optional<CodeRow>, bool>> {
            return std::pair(sql::code(tx, code), sql::is_redeemed(tx, code, account));
        };
        auto found = co_await db_.read(std::move(read));
        if (!found) co_return fail(std::move(found.error()));
        if (found->second) co_return redeemed();
        row = std::move(found->first);
    }
    Time now = clock_.now();
    if (!row || (row->expires_at && *row->expires_at <= now) || row->uses >= row->uses_max) {
        note_wrong_code(account);
        co_return no_code();
    }
    Movement movement;
    movement.account = account;
    movement.kind = MovementKind::promotion;
    movement.amount = row->amount;
    movement.key = "promo:" + code + ":" + account.text();
    movement.note = "promotion code " + code;
    movement.reference = code;
    movement.expires_at = goods_.bonus_expiry(now, row->bonus_days);
    // Decided here, under the code's row, whatever was read above.
    auto also = [this, code, account, by, now](Tx& tx) -> Result<void> {
        if (!sql::use_code(tx, code, now)) return no_code();
        UserId user = by ? by->user : UserId{};
        if (!sql::insert_redemption(tx, code, account, user, now)) return redeemed();
        if (by) accounts::write_audit(tx, clock_, *by, {account, "Redeem", "Promotion Code", {}, code, {}});
        return {};
    };
    auto moved = co_await billing_.move(std::move(movement), also);
    if (!moved) co_return fail(std::move(moved.error()));
    if (moved->is_replay) co_return redeemed();
    counters_.redemptions.add();
    co_return moved;
}

Async<Result<Commerce::NewCode>> Shop::create_code(NewCode code, const accounts::Caller* by) {
    std::optional<accounts::Caller> who;
    if (by != nullptr) who = *by;
    code.code = code.code.empty() ? generated_code() : normal(code.code);
    if (!is_code(code.code))
        co_return fail(Code::invalid_request, "'code' must be 3 to 64 of A-Z, 0-9, '-' and '_'", "code");
    if (code.amount.value <= 0 || code.amount.value > 1'000'000 * Nanos::per_credit)
        co_return fail(Code::invalid_request, "'amount' must be more than 0 and at most 1000000", "amount");
    if (code.uses_max < 1) co_return fail(Code::invalid_request, "'uses_max' must be at least 1", "uses_max");
    if (code.bonus_days < 0 || code.bonus_days > 36'500)
        co_return fail(Code::invalid_request, "'bonus_days' must be from 0 to 36500", "bonus_days");
    if (code.note.size() > 500) co_return fail(Code::invalid_request, "'note' is too long", "note");
    CodeRow row{code.code,       code.amount,     0,         code.uses_max,
                code.expires_at, code.bonus_days, code.note, clock_.now()};
    auto insert = [this, row, who](Tx& tx) -> Result<bool> {
        try {
            sql::insert_code(tx, row);
        } catch (const store::UniqueViolation&) {
            return fail(Code::conflict, "this code exists already", "code");
        }
        if (who) {
            json::object details{{"amount", row.amount.text()}, {"uses_max", row.uses_max}};
            accounts::write_audit(
                tx, clock_, *who,
                {who->account, "Create", "Promotion Code", {}, row.code, json::serialize(details)});
        }
        return true;
    };
    auto inserted = co_await db_.in_tx(std::move(insert));
    if (!inserted) co_return fail(std::move(inserted.error()));
    co_return code;
}

Async<Result<std::vector<CodeRow>>> Shop::list_codes() {
    auto read = [](Tx& tx) -> Result<std::vector<CodeRow>> { return sql::codes(tx, 1'000); };
    co_return co_await db_.read(std::move(read));
}

}  // namespace nebula::billing::commerce
