#include "billing/account_state.hpp"

namespace nebula::billing {

std::shared_ptr<const Terms> AccountState::terms() const {
    std::lock_guard lock(mutex_);
    return terms_;
}

void AccountState::set_terms(std::shared_ptr<const Terms> terms, std::uint64_t seen) {
    std::lock_guard lock(mutex_);
    is_suspended_ = terms->is_suspended;
    has_quota_ = terms->quota_input > 0 || terms->quota_output > 0;
    // What was read before somebody changed it is good for this request, not for the next.
    terms_until_ = seen == forgotten_.load() ? to_micros(terms->good_until) : 0;
    terms_ = std::move(terms);
}

void AccountState::forget_terms() {
    std::lock_guard lock(mutex_);
    ++forgotten_;
    terms_until_ = 0;
}

StateMap::StateMap() {
    tables_.push_back(std::make_unique<Table>(1024));
    table_ = tables_.back().get();
}

AccountState* StateMap::find(AccountId id) const {
    const Table* table = table_.load(std::memory_order_acquire);
    for (std::size_t i = std::hash<AccountId>()(id) >> 20;; ++i) {
        AccountState* state = table->slots[i & table->mask].load(std::memory_order_acquire);
        if (state == nullptr || state->id == id) return state;
    }
}

void StateMap::place(Table& table, AccountState* state) {
    std::size_t i = std::hash<AccountId>()(state->id) >> 20;
    while (table.slots[i & table.mask].load(std::memory_order_relaxed) != nullptr) ++i;
    table.slots[i & table.mask].store(state, std::memory_order_release);
}

AccountState* StateMap::find_or_add(AccountId id, Nanos balance, Shared& shared) {
    std::lock_guard lock(mutex_);
    if (AccountState* found = find(id)) return found;
    if (states_.size() >= states_max) return nullptr;
    if ((states_.size() + 1) * 2 > tables_.back()->mask + 1) {
        auto larger = std::make_unique<Table>((tables_.back()->mask + 1) * 2);
        for (auto& state : states_) place(*larger, state.get());
        tables_.push_back(std::move(larger));
        table_.store(tables_.back().get(), std::memory_order_release);
    }
    auto state = std::make_unique<AccountState>(id, shared);
    state->credits.give_back(balance.value);
    states_.push_back(std::move(state));
    place(*tables_.back(), states_.back().get());
    return states_.back().get();
}

std::vector<AccountState*> StateMap::all() const {
    std::lock_guard lock(mutex_);
    std::vector<AccountState*> all;
    all.reserve(states_.size());
    for (const auto& state : states_) all.push_back(state.get());
    return all;
}

}  // namespace nebula::billing
