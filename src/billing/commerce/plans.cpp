// Subscribing, cancelling, renewing.
#include "accounts/audit.hpp"
#include "base/log.hpp"
#include "billing/commerce/amounts.hpp"
#include "billing/commerce/shop.hpp"

namespace nebula::billing::commerce {
namespace {

Error changed_meanwhile() {
    return {Code::conflict, "the subscription was changed at the same time; look at it and try again",
            "plan"};
}

std::string fee_key(AccountId account, const Subscription& row) {
    return "plan:" + account.text() + ":" + row.plan + ":" + std::to_string(to_micros(row.period_start));
}

}  // namespace

Async<Result<Subscription>> Shop::read_subscription(AccountId account) {
    auto read = [account](Tx& tx) -> Result<Subscription> { return sql::subscription(tx, account); };
    co_return co_await db_.read(std::move(read));
}

Async<Result<PlanView>> Shop::plan_view(AccountId account) {
    auto row = co_await read_subscription(account);
    if (!row) co_return fail(std::move(row.error()));
    PlanView view;
    view.row = std::move(*row);
    view.plan = view.row.is_active ? goods_.plan(view.row.plan) : nullptr;
    if (view.plan == nullptr) co_return view;
    Period period = goods_.quota_by_calendar ? calendar_month(clock_.now())
                                             : Period{view.row.period_start, view.row.period_end};
    view.quota_start = period.start;
    view.quota_end = period.end;
    auto used = co_await billing_.quota_used(account);
    if (!used) co_return fail(std::move(used.error()));
    view.used = *used;
    co_return view;
}

Shop::Work Shop::storing(AccountId account, Subscription row, std::optional<accounts::Caller> caller,
                         std::string action) {
    return [this, account, row = std::move(row), caller = std::move(caller),
            action = std::move(action)](Tx& tx) -> Result<void> {
        if (!sql::save_subscription(tx, account, row, row.version)) return fail(changed_meanwhile());
        if (caller)
            accounts::write_audit(tx, clock_, *caller, {account, action, "Plan", row.plan, row.plan, {}});
        billing_.terms_changed(tx, account);
        return {};
    };
}

Async<Result<void>> Shop::store_change(Work also) {
    auto work = [also = std::move(also)](Tx& tx) -> Result<bool> {
        auto done = also(tx);
        if (!done) return fail(std::move(done.error()));
        return true;
    };
    auto done = co_await db_.in_tx(std::move(work));
    if (!done) co_return fail(std::move(done.error()));
    co_return Result<void>();
}

Async<Result<void>> Shop::charge_plan(AccountId account, Nanos fee, Subscription row, Work also) {
    if (fee.value == 0) co_return co_await store_change(std::move(also));
    Movement movement;
    movement.account = account;
    movement.kind = MovementKind::plan_fee;
    movement.amount = fee;
    movement.key = fee_key(account, row);
    movement.note =
        "plan " + row.plan + ", " + day_text(row.period_start) + " to " + day_text(row.period_end);
    movement.reference = row.plan;
    auto moved = co_await billing_.move(std::move(movement), std::move(also));
    if (!moved) co_return fail(std::move(moved.error()));
    // Somebody else paid for this very period and stored the row with it.
    if (moved->is_replay) co_return fail(changed_meanwhile());
    co_return Result<void>();
}

Async<Result<void>> Shop::subscribe(AccountId account, std::string plan_id, const accounts::Caller* caller,
                                    bool by_operator) {
    std::optional<accounts::Caller> by;
    if (caller != nullptr) by = *caller;
    const PlanSettings* plan = goods_.plan(plan_id);
    if (plan == nullptr) co_return fail(Code::not_found, "there is no such plan", "plan");
    if (plan->contact_only && !by_operator)
        co_return fail(Code::forbidden, "the plan '" + plan->name + "' is by agreement; contact us", "plan");
    auto current = co_await read_subscription(account);
    if (!current) co_return fail(std::move(current.error()));
    PlanChange change = change_plan(*current, *plan, clock_.now());
    if (change.kind == PlanChange::Kind::same)
        co_return fail(Code::conflict, "the account has the plan '" + plan->name + "' already", "plan");
    Work also = storing(account, change.row, std::move(by), current->is_active ? "Update" : "Create");
    auto charged = co_await charge_plan(account, change.fee, change.row, std::move(also));
    if (!charged) {
        if (charged.error().code == Code::payment_required)
            charged.error().message = "the plan '" + plan->name + "' costs " + change.fee.text() +
                                      " credits now, which the balance does not cover; add credits";
        co_return fail(std::move(charged.error()));
    }
    if (change.kind == PlanChange::Kind::now) co_await post_bonus(account);
    co_return Result<void>();
}

Async<Result<void>> Shop::cancel(AccountId account, const accounts::Caller* caller) {
    std::optional<accounts::Caller> by;
    if (caller != nullptr) by = *caller;
    auto current = co_await read_subscription(account);
    if (!current) co_return fail(std::move(current.error()));
    if (!current->is_active) co_return fail(Code::not_found, "the account has no plan", "plan");
    if (current->cancel_at_period_end) co_return Result<void>();
    Subscription row = *current;
    // Nothing was paid for a plan without a price: it ends now.
    if (row.price.value == 0) {
        row = ended(row);
    } else {
        row.cancel_at_period_end = true;
        row.next_plan.clear();
    }
    Work also = storing(account, std::move(row), std::move(by), "Delete");
    co_return co_await store_change(std::move(also));
}

// The fee is posted; the bonus is a movement of its own. What a crash leaves is found by run_due().
Async<void> Shop::post_bonus(AccountId account) {
    auto row = co_await read_subscription(account);
    if (!row || row->bonus_due.value <= 0) co_return;
    Movement movement;
    movement.account = account;
    movement.kind = MovementKind::bonus;
    movement.amount = row->bonus_due;
    movement.key =
        "plan-bonus:" + account.text() + ":" + row->plan + ":" + std::to_string(to_micros(row->period_start));
    movement.note = "bonus of plan " + row->plan;
    movement.reference = row->plan;
    movement.expires_at = goods_.bonus_expiry(row->period_start, 0);
    auto clear = [account, start = row->period_start](Tx& tx) -> Result<void> {
        sql::bonus_posted(tx, account, start);
        return {};
    };
    auto moved = co_await billing_.move(std::move(movement), clear);
    if (!moved) {
        LOG_ERROR("plan bonus not posted", {"account", account.text()}, {"message", moved.error().message});
        co_return;
    }
    if (!moved->is_replay) co_return;
    auto again = [clear](Tx& tx) -> Result<bool> { return clear(tx).has_value(); };
    auto cleared = co_await db_.in_tx(std::move(again));
    if (!cleared) LOG_WARN("plan bonus not noted", {"account", account.text()});
}

Async<void> Shop::renew(AccountId account) {
    auto current = co_await read_subscription(account);
    Time now = clock_.now();
    if (!current || !current->is_active || current->period_end > now) co_return;
    if (current->cancel_at_period_end) {
        Work also = storing(account, ended(*current), std::nullopt, {});
        auto done = co_await store_change(std::move(also));
        if (done) {
            std::string text = "Your plan " + current->plan + " has ended as you asked.\n";
            co_await mail(account, "Your plan has ended", std::move(text));
        }
        co_return;
    }
    const PlanSettings* plan = goods_.plan(current->next_plan.empty() ? current->plan : current->next_plan);
    if (plan == nullptr) {
        co_await lapse(account, std::move(*current), "it is not offered any more");
        co_return;
    }
    Subscription row = next_period(*current, *plan, now);
    Work also = storing(account, row, std::nullopt, {});
    auto charged = co_await charge_plan(account, plan->price, row, std::move(also));
    if (charged) {
        counters_.renewals.add();
        co_await post_bonus(account);
    } else if (charged.error().code == Code::payment_required) {
        co_await lapse(account, std::move(*current),
                       "the balance does not cover " + plan->price.text() + " credits");
    } else if (charged.error().code != Code::conflict) {  // conflict: another node was first
        LOG_WARN("plan not renewed", {"account", account.text()}, {"message", charged.error().message});
    }
}

Async<void> Shop::lapse(AccountId account, Subscription current, std::string reason) {
    const PlanSettings* instead = goods_.free_plan();
    Subscription row = instead == nullptr ? ended(current) : next_period(current, *instead, clock_.now());
    Work also = storing(account, std::move(row), std::nullopt, {});
    auto done = co_await store_change(std::move(also));
    if (!done) co_return;
    counters_.lapsed.add();
    LOG_INFO("plan lapsed", {"account", account.text()}, {"plan", current.plan});
    std::string text = "Your plan " + current.plan + " was not renewed: " + reason + ".\n" +
                       (instead == nullptr ? "The account has no plan now.\n"
                                           : "The account is on the plan " + instead->name + " now.\n") +
                       "Add credits and subscribe again at " + goods_.public_url + "\n";
    co_await mail(account, "Your plan was not renewed", std::move(text));
}

Async<void> Shop::run_plans() {
    constexpr std::int64_t at_once = 200;
    Time now = clock_.now();
    auto read = [now](Tx& tx) -> Result<std::pair<std::vector<AccountId>, std::vector<AccountId>>> {
        return std::pair(sql::subscriptions_due(tx, now, at_once), sql::bonuses_due(tx, at_once));
    };
    auto due = co_await db_.read(std::move(read));
    if (!due) co_return;
    for (AccountId account : due->first) co_await renew(account);
    for (AccountId account : due->second) co_await post_bonus(account);
}

}  // namespace nebula::billing::commerce
