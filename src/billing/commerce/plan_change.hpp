#pragma once
// What happens when an account takes a plan: decided without I/O.
//
// A period is a month from the day of subscribing and its full price is paid at its start. To a plan of the
// same or a higher price: at once, with a new period from now on; the unused part of what was paid, rounded
// down to the nano-dollar, counts against the new price (so the fee is rounded up). Bonus credits likewise.
// To a cheaper one: when the period ends.

#include "billing/commerce.hpp"
#include "billing/commerce/tables.hpp"

namespace nebula::billing::commerce {

struct PlanChange {
    enum class Kind {
        now,    // `fee` is due
        later,  // at the end of the period
        keep,   // the plan as before; a change or cancellation that was ordered is taken back
        same    // nothing to change
    };
    Kind kind = Kind::same;
    Nanos fee;
    Subscription row;  // as it is to be stored; but for `same`
};
PlanChange change_plan(const Subscription& current, const PlanSettings& plan, Time now);

/// The row for the period of `plan` that `now` is in, after the period before has ended.
Subscription next_period(const Subscription& current, const PlanSettings& plan, Time now);
/// No plan from now on.
Subscription ended(const Subscription& current);

}  // namespace nebula::billing::commerce
