#include "billing/admission/purse.hpp"

#include <algorithm>
#include <utility>

#include "base/check.hpp"

namespace nebula::billing {
namespace {

constexpr std::int64_t largest = std::numeric_limits<std::int64_t>::max();

const char* budget_word(PurseKind kind) {
    switch (kind) {
        case PurseKind::key_total:
            return "total";
        case PurseKind::key_day:
            return "daily";
        case PurseKind::key_week:
            return "weekly";
        case PurseKind::key_month:
            return "monthly";
        default:
            return "";
    }
}

bool is_quota(PurseKind kind) { return kind == PurseKind::quota_input || kind == PurseKind::quota_output; }

}  // namespace

const char* purse_kind_name(PurseKind kind) {
    switch (kind) {
        case PurseKind::credits:
            return "credits";
        case PurseKind::key_total:
            return "key_total";
        case PurseKind::key_day:
            return "key_day";
        case PurseKind::key_week:
            return "key_week";
        case PurseKind::key_month:
            return "key_month";
        case PurseKind::quota_input:
            return "quota_input";
        case PurseKind::quota_output:
            return "quota_output";
    }
    return "credits";
}

std::unexpected<Error> Purse::short_of() const {
    if (id.kind == PurseKind::credits)
        return fail(Code::payment_required, "the balance does not cover this request; add credits");
    if (is_quota(id.kind))
        return fail(Code::payment_required, "the plan's quota does not cover this request", "plan");
    return fail(
        Code::payment_required,
        std::string("the ") + budget_word(id.kind) + " budget of this API key does not cover this request",
        "key");
}

std::unexpected<Error> Purse::held_by_others() const {
    constexpr const char* try_again = " is held by requests in progress; try again when they have finished";
    if (id.kind == PurseKind::credits)
        return fail(Code::payment_required, std::string("the balance") + try_again + ", or add credits");
    if (is_quota(id.kind))
        return fail(Code::payment_required, std::string("the plan's quota") + try_again, "plan");
    return fail(Code::payment_required,
                std::string("the ") + budget_word(id.kind) + " budget of this API key" + try_again, "key");
}

std::shared_ptr<Purse> Purse::self() {
    if (auto owned = weak_from_this().lock()) return owned;
    return {std::shared_ptr<void>(), this};
}

void Purse::take(std::int64_t amount) {
    available_ -= amount;
    held_ += amount;
    ++activity_;
    if (id.kind == PurseKind::credits) shared.holds_taken->add();
}

Purse::Verdict Purse::judge(const PurseWaiter& waiter, bool is_all, std::int64_t& amount) const {
    std::int64_t there = std::max<std::int64_t>(0, available_);
    amount = std::min(waiter.most, there);
    if (amount == waiter.most) return Verdict::granted;
    // Somebody's hold may still come back, here or elsewhere.
    if (parked_ > 0 || (held_ > 0 && waiter.waits_for_holds)) return Verdict::wait;
    if (shared.refiller != nullptr && !is_all) return Verdict::wait;
    return there < waiter.least ? Verdict::refused : Verdict::granted;
}

bool Purse::try_take(std::int64_t most) {
    std::lock_guard lock(mutex_);
    // Nothing is what even those may take who come last.
    if (most != 0 && (first_ != nullptr || available_ < most)) return false;
    take(most);
    return true;
}

std::int64_t Purse::take_up_to(std::int64_t most, bool overtakes) {
    std::lock_guard lock(mutex_);
    if (first_ != nullptr && !overtakes) return 0;
    std::int64_t amount = std::clamp<std::int64_t>(available_, 0, most);
    take(amount);
    return amount;
}

bool Purse::take_or_wait(PurseWaiter& waiter, std::int64_t waiters_max) {
    {
        std::lock_guard lock(mutex_);
        std::int64_t amount = 0;
        bool is_last = first_ != nullptr && waiter.most != 0;
        Verdict verdict = is_last ? Verdict::wait : judge(waiter, false, amount);
        if (verdict == Verdict::refused) {
            waiter.answer = short_of();
            return true;
        }
        if (verdict == Verdict::granted) {
            take(amount);
            waiter.answer = amount;
            return true;
        }
        if (shared.waiters.fetch_add(1) >= waiters_max) {
            shared.waiters.fetch_sub(1);
            Error busy{Code::overloaded, "too many requests wait for the balance; try again"};
            busy.retry_after_ms = 1000;
            waiter.answer = fail(std::move(busy));
            return true;
        }
        link(waiter);
    }
    if (shared.refiller != nullptr) shared.refiller->attend(*this);
    return false;
}

void Purse::link(PurseWaiter& waiter) {
    waiter.previous = last_;
    waiter.next = nullptr;
    (last_ != nullptr ? last_->next : first_) = &waiter;
    last_ = &waiter;
    waiter.is_linked = true;
}

void Purse::unlink(PurseWaiter& waiter) {
    (waiter.previous != nullptr ? waiter.previous->next : first_) = waiter.next;
    (waiter.next != nullptr ? waiter.next->previous : last_) = waiter.previous;
    waiter.next = waiter.previous = nullptr;
    waiter.is_linked = false;
    shared.waiters.fetch_sub(1);
}

PurseWaiter* Purse::serve(bool is_all) {
    PurseWaiter* served = nullptr;
    PurseWaiter** end = &served;
    while (first_ != nullptr) {
        PurseWaiter& head = *first_;
        std::int64_t amount = 0;
        Verdict verdict = judge(head, is_all, amount);
        if (verdict == Verdict::wait) break;
        unlink(head);
        if (verdict == Verdict::granted) {
            take(amount);
            head.answer = amount;
        } else {
            head.answer = short_of();
        }
        *end = &head;
        end = &head.next;
    }
    return served;
}

void Purse::resolve_all(PurseWaiter* list) {
    while (list != nullptr) {
        PurseWaiter* next = list->next;  // the waiter may be gone once it is resolved
        list->resolve();
        list = next;
    }
}

void Purse::after(PurseWaiter* served, bool is_to_attend) {
    // First: who is served may let go of the purse.
    if (is_to_attend) shared.refiller->attend(*this);
    resolve_all(served);
}

void Purse::expire(PurseWaiter& waiter) {
    PurseWaiter* served = nullptr;
    {
        std::lock_guard lock(mutex_);
        if (!waiter.is_linked) return;  // its answer is on the way
        std::int64_t amount = std::clamp<std::int64_t>(available_, 0, waiter.most);
        if (shared.refiller != nullptr && (amount == 0 || amount < waiter.least)) {
            waiter.is_late = true;  // the pool may have something
            served = nullptr;
        } else {
            unlink(waiter);
            if (amount > 0 && amount >= waiter.least) {
                take(amount);
                waiter.answer = amount;
            } else {
                waiter.answer = held_by_others();
            }
            served = serve();
            waiter.next = served;
            served = &waiter;
        }
    }
    after(served, shared.refiller != nullptr);
}

void Purse::fail_waiters(const Error& error) {
    PurseWaiter* list = nullptr;
    {
        std::lock_guard lock(mutex_);
        while (last_ != nullptr) {
            PurseWaiter& waiter = *last_;
            unlink(waiter);
            waiter.answer = fail(error);
            waiter.next = list;
            list = &waiter;
        }
    }
    resolve_all(list);
}

void Purse::release(std::int64_t hold) {
    if (id.kind == PurseKind::credits) shared.holds_ended->add();
    replace(hold, 0);
}

void Purse::shrink(std::int64_t by) {
    if (by > 0) replace(by, 0);
}

void Purse::replace(std::int64_t hold, std::int64_t change) {
    PurseWaiter* served = nullptr;
    bool is_to_attend = false;
    {
        std::lock_guard lock(mutex_);
        CHECK_FATAL(held_ >= hold, "a hold ends once");
        held_ -= hold;
        available_ += hold + change;
        if (first_ != nullptr) served = serve();
        is_to_attend = needs_refiller();
    }
    after(served, is_to_attend);
}

std::int64_t Purse::extend(std::int64_t hold, std::int64_t to) {
    std::lock_guard lock(mutex_);
    std::int64_t more = std::clamp<std::int64_t>(available_, 0, std::max<std::int64_t>(0, to - hold));
    available_ -= more;
    held_ += more;
    return hold + more;
}

std::int64_t Purse::settle(std::int64_t hold, std::int64_t price) {
    PurseWaiter* served = nullptr;
    bool is_to_attend = false;
    std::int64_t charge = 0;
    {
        std::lock_guard lock(mutex_);
        CHECK_FATAL(held_ >= hold, "a hold ends once");
        charge = std::min(price, hold + std::max<std::int64_t>(0, available_));
        held_ -= hold;
        available_ += hold - charge;
        if (first_ != nullptr) served = serve();
        is_to_attend = needs_refiller();
    }
    after(served, is_to_attend);
    return charge;
}

void Purse::set_limit(std::int64_t limit, std::int64_t version) {
    PurseWaiter* served = nullptr;
    bool is_to_attend = false;
    {
        std::lock_guard lock(mutex_);
        if (limit == limit_ || version < version_) return;
        version_ = version;
        std::int64_t change = limit - limit_;
        limit_ = limit;
        if (shared.refiller == nullptr) {
            available_ += change;
        } else if (change < 0) {
            is_scarce_ = true;  // slices were cut from the larger limit
        }
        if (first_ != nullptr) served = serve();
        is_to_attend = needs_refiller();
    }
    after(served, is_to_attend);
}

std::int64_t Purse::limit() const {
    std::lock_guard lock(mutex_);
    return limit_;
}

std::int64_t Purse::available() const {
    std::lock_guard lock(mutex_);
    return available_ + parked_;
}

std::int64_t Purse::held() const {
    std::lock_guard lock(mutex_);
    return held_;
}

bool Purse::has_waiters() const {
    std::lock_guard lock(mutex_);
    return first_ != nullptr;
}

Purse::View Purse::begin(bool parks) {
    std::lock_guard lock(mutex_);
    View view;
    view.has_waiters = first_ != nullptr;
    if (parks || is_scarce_ || view.has_waiters) {
        view.parked = std::max<std::int64_t>(0, available_);
        available_ -= view.parked;
        parked_ += view.parked;
    }
    view.held = held_;
    view.limit = limit_;
    if (first_ != nullptr) {
        view.head_most = first_->most;
        view.head_least = first_->least;
    }
    for (const PurseWaiter* waiter = first_; waiter != nullptr; waiter = waiter->next) {
        view.wanted = view.wanted > largest - waiter->most ? largest : view.wanted + waiter->most;
        view.is_late = view.is_late || waiter->is_late;
    }
    return view;
}

void Purse::end(std::int64_t parked, std::int64_t change, bool is_all) {
    PurseWaiter* served = nullptr;
    {
        std::lock_guard lock(mutex_);
        parked_ -= parked;
        available_ += parked + change;
        if (first_ != nullptr) served = serve(is_all);
    }
    resolve_all(served);
}

void Purse::end_late() {
    PurseWaiter* served = nullptr;
    {
        std::lock_guard lock(mutex_);
        PurseWaiter** end = &served;
        for (PurseWaiter *waiter = first_, *next = nullptr; waiter != nullptr; waiter = next) {
            next = waiter->next;
            if (!waiter->is_late) continue;
            unlink(*waiter);
            std::int64_t amount = std::clamp<std::int64_t>(available_, 0, waiter->most);
            if (amount > 0 && amount >= waiter->least) {
                take(amount);
                waiter->answer = amount;
            } else {
                waiter->answer = held_by_others();
            }
            *end = waiter;
            end = &waiter->next;
        }
        *end = serve();
    }
    resolve_all(served);
}

void Purse::mark_late(Ticks now) {
    std::lock_guard lock(mutex_);
    for (PurseWaiter* waiter = first_; waiter != nullptr; waiter = waiter->next)
        if (now >= waiter->expires_at) waiter->is_late = true;
}

void Purse::set_scarce(bool is_scarce) {
    std::lock_guard lock(mutex_);
    is_scarce_ = is_scarce;
}

bool Purse::is_scarce() const {
    std::lock_guard lock(mutex_);
    return is_scarce_;
}

std::uint64_t Purse::activity() const {
    std::lock_guard lock(mutex_);
    return activity_;
}

}  // namespace nebula::billing
