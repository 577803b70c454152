// Accounts that an operator stops and lets go on.
#include <boost/json/serialize.hpp>

#include "accounts/audit.hpp"
#include "base/text.hpp"
#include "billing/commerce/shop.hpp"

namespace nebula::billing::commerce {
namespace {

constexpr std::size_t reason_max = 500;

accounts::Caller person_or_nobody(const accounts::Caller* by) {
    return by == nullptr ? accounts::Caller() : *by;
}

}  // namespace

Async<Result<Commerce::Suspension>> Shop::suspend(AccountId account, std::string reason,
                                                  const accounts::Caller* by) {
    accounts::Caller who = person_or_nobody(by);
    reason = std::string(trim(reason));
    if (reason.empty() || reason.size() > reason_max || reason.contains('\0'))
        co_return fail(Code::invalid_request, "'reason' must have 1 to 500 bytes", "reason");
    auto work = [this, account, who, reason](Tx& tx) -> Result<Suspension> {
        auto name = sql::account_name(tx, account);
        if (!name) return fail(Code::not_found, "there is no such account", "account");
        Suspension made = sql::suspend(tx, account, reason, clock_.now());
        json::object details{{"reason", reason}};
        accounts::write_audit(
            tx, clock_, who,
            {account, "Suspend", "Account", account.text(), *name, json::serialize(details)});
        billing_.terms_changed(tx, account);
        return made;
    };
    co_return co_await db_.in_tx(std::move(work));
}

Async<Result<void>> Shop::resume(AccountId account, const accounts::Caller* by) {
    accounts::Caller who = person_or_nobody(by);
    auto work = [this, account, who](Tx& tx) -> Result<void> {
        if (!sql::resume(tx, account))
            return fail(Code::not_found, "this account is not suspended", "account");
        std::string name = sql::account_name(tx, account).value_or("");
        accounts::write_audit(tx, clock_, who, {account, "Resume", "Account", account.text(), name, {}});
        billing_.terms_changed(tx, account);
        return {};
    };
    co_return co_await db_.in_tx(std::move(work));
}

Async<Result<std::optional<Commerce::Suspension>>> Shop::suspension(AccountId account) {
    auto read = [account](Tx& tx) -> Result<std::optional<Suspension>> {
        return sql::suspension(tx, account);
    };
    co_return co_await db_.read(std::move(read));
}

}  // namespace nebula::billing::commerce
