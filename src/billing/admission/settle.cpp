// What a request used becomes a charge: in memory at once, in the database with the committer's next batch.

#include <algorithm>

#include "base/check.hpp"
#include "billing/admission/impl.hpp"

namespace nebula::billing {
namespace {

std::unexpected<Error> stopped() {
    Error error{Code::overloaded, "the server has stopped; the request was not charged"};
    error.retry_after_ms = unrecorded_retry_ms;
    return fail(std::move(error));
}

/// Replaces held tokens by used ones; what is left of the part is what the quota pays for.
std::int64_t use(PursePart& part, std::int64_t tokens) {
    if (!part.purse) return 0;
    std::int64_t held = std::exchange(part.amount, 0);
    return part.purse->settle(held, std::max<std::int64_t>(0, tokens));
}

/// Prices of what a record has none of say nothing, and would be stored and sealed with every record.
void record_only_used(UsageRecord& record) {
    if (record.usage.cache_write <= 0) record.prices.cache_write_per_m = {};
    if (record.usage.reasoning <= 0) record.prices.reasoning_per_m = {};
    if (record.usage.units <= 0) {
        record.prices.unit = {};
        record.unit.clear();
    }
    CHECK(is_unit(record.unit), "a record counts one of the known units");
}

void give_back(Entry& entry) {
    if (entry.settled.charge > Nanos{}) entry.state->credits.give_back(entry.settled.charge.value);
    for (const PursePart& part : entry.parts) part.purse->give_back(part.amount);
}

}  // namespace

void Billing::Impl::charge(AccountState& state, Nanos held, HoldParts* parts, Entry& entry) {
    UsageRecord& record = entry.record;
    Settled& settled = entry.settled;
    entry.state = &state;
    record_only_used(record);
    if (parts == nullptr) {
        Nanos price = charge_of(record.prices, record.usage);
        settled.charge = Nanos{state.credits.settle(held.value, price.value)};
        settled.written_off = price - settled.charge;
        settled.remaining = remaining(state);
        return;
    }
    settled.quota_input = use(parts->quota_input, record.usage.input);
    settled.quota_output = use(parts->quota_output, record.usage.output);
    record.quota_input = settled.quota_input;
    record.quota_output = settled.quota_output;
    Nanos price =
        charge_of(record.prices, uncovered(record.usage, settled.quota_input, settled.quota_output));
    // No budget pays more than it has: what one of them lacks is written off.
    std::int64_t most = parts->may_overrun ? price.value : 0;
    for (PursePart& budget : parts->budgets) {
        budget.amount = budget.purse->extend(budget.amount, most);
        most = std::min(most, budget.amount);
    }
    settled.charge = Nanos{state.credits.settle(held.value, most)};
    settled.written_off = price - settled.charge;
    settled.remaining = remaining(state);
    auto keep = [&entry](const std::shared_ptr<Purse>& purse, std::int64_t amount) {
        if (amount > 0) entry.parts.push_back({purse, amount});
    };
    for (PursePart& budget : parts->budgets)
        keep(budget.purse, budget.purse->settle(std::exchange(budget.amount, 0), settled.charge.value));
    keep(parts->quota_input.purse, settled.quota_input);
    keep(parts->quota_output.purse, settled.quota_output);
}

Nanos Billing::Impl::remaining(const AccountState& state) const {
    std::int64_t elsewhere = slicer ? std::max<std::int64_t>(0, state.credits.pool_seen) : 0;
    return Nanos{state.credits.available() + elsewhere};
}

Async<Result<Settled>> Billing::settle(Hold hold, UsageRecord record) {
    Impl& impl = *impl_;
    AccountState* state = hold.state_;
    if (state == nullptr) {
        auto loaded = co_await impl.load(record.account);
        if (!loaded) co_return fail(std::move(loaded.error()));
        state = *loaded;
    }
    CHECK(state->id == record.account && record.id, "a record is settled against its own account's hold");

    auto charge = [&](Entry& entry) {
        bool had_hold = static_cast<bool>(hold);
        hold.state_ = nullptr;  // from here on the charge stands for it
        impl.charge(*state, hold.amount_, hold.parts_.get(), entry);
        if (had_hold) impl.shared->holds_ended->add();
    };
    if (!impl.is_strict) {
        auto entry = std::make_unique<Entry>(std::move(record));
        charge(*entry);
        Settled settled = entry->settled;
        Entry* given = entry.release();
        if (impl.committer.enqueue(given)) co_return settled;  // it is the committer's now
        entry.reset(given);
        give_back(*entry);
        co_return stopped();
    }
    Entry entry(std::move(record));
    charge(entry);
    entry.is_awaited = true;
    if (!impl.committer.enqueue(&entry)) {
        give_back(entry);
        co_return stopped();
    }
    auto settled = co_await entry.done;
    co_return settled;
}

}  // namespace nebula::billing
