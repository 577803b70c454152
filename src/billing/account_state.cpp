#include "billing/account_state.hpp"

#include <algorithm>

#include "base/check.hpp"

namespace nebula::billing {
namespace {

std::unexpected<Error> short_of_money() {
    return fail(Code::payment_required, "the balance does not cover this request; add credits");
}

std::unexpected<Error> held_by_others() {
    return fail(
        Code::payment_required,
        "the balance is held by requests in progress; try again when they have finished, or add credits");
}

}  // namespace

AccountState::Verdict AccountState::judge(const HoldRequest& request, Nanos& amount) const {
    if (available_ >= request.worst_case) {
        amount = request.worst_case;
        return Verdict::granted;
    }
    // Somebody's hold may still come back as money.
    if (held_ > Nanos{}) return Verdict::wait;
    if (available_ < request.least) return Verdict::refused;
    amount = available_;
    return Verdict::granted;
}

bool AccountState::try_take(const HoldRequest& request) {
    {
        std::lock_guard lock(mutex_);
        if (first_ != nullptr || available_ < request.worst_case) return false;
        available_ -= request.worst_case;
        held_ += request.worst_case;
    }
    shared.holds_taken->add();
    return true;
}

bool AccountState::take_or_wait(Waiter& waiter, std::int64_t waiters_max) {
    std::lock_guard lock(mutex_);
    Nanos amount;
    Verdict verdict = first_ != nullptr ? Verdict::wait : judge(waiter.request, amount);
    if (verdict == Verdict::wait) {
        if (shared.waiters.fetch_add(1) < waiters_max) {
            link(waiter);
            return false;
        }
        shared.waiters.fetch_sub(1);
        Error busy{Code::overloaded, "too many requests wait for the balance; try again"};
        busy.retry_after_ms = 1000;
        waiter.answer = fail(std::move(busy));
        return true;
    }
    if (verdict == Verdict::refused) {
        waiter.answer = short_of_money();
        return true;
    }
    available_ -= amount;
    held_ += amount;
    shared.holds_taken->add();
    waiter.answer = amount;
    return true;
}

void AccountState::link(Waiter& waiter) {
    waiter.previous = last_;
    waiter.next = nullptr;
    (last_ != nullptr ? last_->next : first_) = &waiter;
    last_ = &waiter;
    waiter.is_linked = true;
}

void AccountState::unlink(Waiter& waiter) {
    (waiter.previous != nullptr ? waiter.previous->next : first_) = waiter.next;
    (waiter.next != nullptr ? waiter.next->previous : last_) = waiter.previous;
    waiter.next = waiter.previous = nullptr;
    waiter.is_linked = false;
    shared.waiters.fetch_sub(1);
}

Waiter* AccountState::serve() {
    Waiter* served = nullptr;
    Waiter** end = &served;
    while (first_ != nullptr) {
        Waiter& head = *first_;
        Nanos amount;
        Verdict verdict = judge(head.request, amount);
        if (verdict == Verdict::wait) break;
        unlink(head);
        if (verdict == Verdict::granted) {
            available_ -= amount;
            held_ += amount;
            shared.holds_taken->add();
            head.answer = amount;
        } else {
            head.answer = short_of_money();
        }
        *end = &head;
        end = &head.next;
    }
    return served;
}

void AccountState::resolve_all(Waiter* list) {
    while (list != nullptr) {
        Waiter* next = list->next;  // the waiter may be gone once it is resolved
        list->resolve();
        list = next;
    }
}

void AccountState::expire(Waiter& waiter) {
    Waiter* served = nullptr;
    {
        std::lock_guard lock(mutex_);
        if (!waiter.is_linked) return;  // its answer is on the way
        unlink(waiter);
        Nanos amount = std::min(available_, waiter.request.worst_case);
        if (amount > Nanos{} && amount >= waiter.request.least) {
            available_ -= amount;
            held_ += amount;
            shared.holds_taken->add();
            waiter.answer = amount;
        } else {
            waiter.answer = held_by_others();
        }
        served = serve();
    }
    waiter.resolve();
    resolve_all(served);
}

void AccountState::fail_waiters(const Error& error) {
    Waiter* list = nullptr;
    {
        std::lock_guard lock(mutex_);
        while (last_ != nullptr) {
            Waiter& waiter = *last_;
            unlink(waiter);
            waiter.answer = fail(error);
            waiter.next = list;
            list = &waiter;
        }
    }
    resolve_all(list);
}

void AccountState::release(Nanos hold) {
    Waiter* served = nullptr;
    {
        std::lock_guard lock(mutex_);
        CHECK_FATAL(held_ >= hold, "a hold ends once");
        held_ -= hold;
        available_ += hold;
        if (first_ != nullptr) served = serve();
    }
    shared.holds_ended->add();
    resolve_all(served);
}

Settled AccountState::settle(Nanos hold, Nanos price) {
    Settled settled;
    Waiter* served = nullptr;
    {
        std::lock_guard lock(mutex_);
        CHECK_FATAL(held_ >= hold, "a hold ends once");
        settled.charge = std::min(price, hold + available_);
        settled.written_off = price - settled.charge;
        held_ -= hold;
        available_ += hold - settled.charge;
        if (first_ != nullptr) served = serve();
    }
    resolve_all(served);
    return settled;
}

void AccountState::give_back(Nanos amount) {
    Waiter* served = nullptr;
    {
        std::lock_guard lock(mutex_);
        available_ += amount;
        if (first_ != nullptr) served = serve();
    }
    resolve_all(served);
}

bool AccountState::take_away(Nanos amount) {
    std::lock_guard lock(mutex_);
    if (available_ < amount) return false;
    available_ -= amount;
    return true;
}

Balance AccountState::balance() const {
    std::lock_guard lock(mutex_);
    return {available_, held_};
}

void AccountState::set_ledger(std::int64_t credits, std::int64_t revenue) {
    std::lock_guard lock(mutex_);
    if (credits_ledger != 0) return;
    credits_ledger = credits;
    revenue_ledger = revenue;
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

AccountState* StateMap::find_or_add(AccountId id, Nanos balance, std::int64_t credits_ledger,
                                    std::int64_t revenue_ledger, Shared& shared) {
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
    state->set_ledger(credits_ledger, revenue_ledger);
    state->give_back(balance);
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
