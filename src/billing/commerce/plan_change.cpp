#include "billing/commerce/plan_change.hpp"

#include <algorithm>

#include "billing/commerce/amounts.hpp"

namespace nebula::billing::commerce {
namespace {

Subscription fresh(const Subscription& before, const PlanSettings& plan, Time anchor, Period period) {
    Subscription row;
    row.plan = plan.id;
    row.is_active = true;
    row.anchor = anchor;
    row.period_start = period.start;
    row.period_end = period.end;
    row.price = plan.price;
    row.bonus = plan.bonus;
    row.bonus_due = plan.bonus;
    row.version = before.version;
    return row;
}

}  // namespace

PlanChange change_plan(const Subscription& current, const PlanSettings& plan, Time now) {
    PlanChange change;
    bool is_running = current.is_active && now < current.period_end;
    if (is_running && current.plan == plan.id) {
        bool is_ordered = current.cancel_at_period_end || !current.next_plan.empty();
        change.kind = is_ordered ? PlanChange::Kind::keep : PlanChange::Kind::same;
        change.row = current;
        change.row.cancel_at_period_end = false;
        change.row.next_plan.clear();
        return change;
    }
    if (is_running && plan.price < current.price) {
        change.kind = PlanChange::Kind::later;
        change.row = current;
        change.row.cancel_at_period_end = false;
        change.row.next_plan = plan.id;
        return change;
    }
    change.kind = PlanChange::Kind::now;
    change.row = fresh(current, plan, now, {now, add_months(now, 1)});
    change.fee = plan.price;
    if (is_running) {
        Period paid{current.period_start, current.period_end};
        change.fee -= unused_part(current.price, paid, now);
        Nanos unused_bonus = unused_part(current.bonus, paid, now);
        change.row.bonus_due = std::max(Nanos{}, plan.bonus - unused_bonus);
    }
    return change;
}

Subscription next_period(const Subscription& current, const PlanSettings& plan, Time now) {
    return fresh(current, plan, current.anchor, anniversary_period(current.anchor, now));
}

Subscription ended(const Subscription& current) {
    Subscription row = current;
    row.is_active = false;
    row.next_plan.clear();
    row.cancel_at_period_end = false;
    return row;
}

}  // namespace nebula::billing::commerce
