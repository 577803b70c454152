// Who may spend what: holds. Budgets of the key first, then the plan's quota, then credits; given back the
// other way round. Whoever waits for one holds only what comes before it in this order, so nobody waits in a
// circle.

#include <algorithm>
#include <optional>

#include "async/deadline.hpp"
#include "async/io_thread.hpp"
#include "base/check.hpp"
#include "billing/admission/impl.hpp"

namespace nebula::billing {
namespace {

// How long a request waits for quota that other nodes have leased before credits pay.
constexpr std::chrono::milliseconds quota_wait{150};

void expire_waiter(void* context) {
    auto* waiter = static_cast<PurseWaiter*>(context);
    waiter->purse.expire(*waiter);
}

Error behind() {
    Error busy{Code::overloaded, "the server is behind with recording usage; try again"};
    busy.retry_after_ms = 1000;
    return busy;
}

Error out_of_touch() {
    Error busy{Code::overloaded, "this server has lost touch with its database; try again"};
    busy.retry_after_ms = 1000;
    return busy;
}

std::unexpected<Error> suspended() {
    return fail(Code::payment_required, "this account is suspended; settle what is owed or ask the operator",
                "account");
}

bool has_budget(const HoldRequest& request) {
    return request.budget_of != nullptr && request.budget_of->budget.is_any();
}

std::int64_t tokens(std::int64_t count) { return std::max<std::int64_t>(0, count); }

}  // namespace

void HoldParts::lower_budgets(std::int64_t to) {
    for (PursePart& part : budgets) {
        if (part.amount <= to) continue;
        part.purse->shrink(part.amount - to);
        part.amount = to;
    }
}

Hold::Hold() = default;
Hold::Hold(Hold&& other) noexcept
    : state_(std::exchange(other.state_, nullptr)),
      amount_(std::exchange(other.amount_, {})),
      parts_(std::move(other.parts_)) {}

Hold& Hold::operator=(Hold&& other) noexcept {
    if (this != &other) {
        release();
        state_ = std::exchange(other.state_, nullptr);
        amount_ = std::exchange(other.amount_, {});
        parts_ = std::move(other.parts_);
    }
    return *this;
}

Hold::~Hold() { release(); }

AccountId Hold::account() const { return state_ != nullptr ? state_->id : AccountId{}; }

std::int64_t Hold::quota_input() const { return parts_ ? parts_->quota_input.amount : 0; }
std::int64_t Hold::quota_output() const { return parts_ ? parts_->quota_output.amount : 0; }

Nanos Hold::spendable() const {
    Nanos least = amount_;
    if (parts_)
        for (const PursePart& part : parts_->budgets) least = std::min(least, Nanos{part.amount});
    return least;
}

void Hold::release() {
    if (AccountState* state = std::exchange(state_, nullptr))
        state->credits.release(std::exchange(amount_, {}).value);
    parts_.reset();
}

std::optional<Hold> Billing::try_admit(const HoldRequest& request) {
    Impl& impl = *impl_;
    AccountState* state = impl.states.find(request.account);
    if (state == nullptr || impl.committer.is_full() || request.worst_case < Nanos{}) return std::nullopt;
    if (!impl.is_open()) return std::nullopt;
    bool has_terms = impl.has_terms.load(std::memory_order_relaxed);
    bool needs_parts = has_budget(request) || (has_terms && request.uses_quota && state->has_quota());
    Time now = has_terms || needs_parts ? impl.clock.now() : Time{};
    if (has_terms && (!state->has_terms(now) || state->is_suspended())) return std::nullopt;
    Nanos amount = request.worst_case;
    std::unique_ptr<HoldParts> parts;
    if (needs_parts) {
        if (!impl.try_parts(*state, request, now, amount, parts)) return std::nullopt;
    } else if (!state->credits.try_take(amount.value)) {
        return std::nullopt;
    }
    std::optional<Hold> hold(std::in_place);
    hold->state_ = state;
    hold->amount_ = amount;
    hold->parts_ = std::move(parts);
    return hold;
}

std::vector<std::shared_ptr<Purse>> Billing::Impl::find_purses(const std::vector<Allowance>& wanted) {
    std::vector<std::shared_ptr<Purse>> purses;
    for (const Allowance& one : wanted) {
        auto purse = allowances.find(one.id);
        if (!purse) return {};
        purse->set_limit(one.limit, one.version);
        purses.push_back(std::move(purse));
    }
    return purses;
}

// All at once or nothing: quota that covers everything, budgets and credits that have the worst case.
bool Billing::Impl::try_parts(AccountState& state, const HoldRequest& request, Time now, Nanos& amount,
                              std::unique_ptr<HoldParts>& parts) {
    auto taken = std::make_unique<HoldParts>();
    Nanos worst = request.worst_case;
    auto terms = request.uses_quota && state.has_quota() ? state.terms() : nullptr;
    auto quotas = terms ? quotas_of(state.id, *terms, now) : std::vector<Allowance>();
    if (!quotas.empty()) {
        auto purses = find_purses(quotas);
        if (purses.empty()) return false;
        std::int64_t input = tokens(request.most.input), output = tokens(request.most.output);
        if (!purses[0]->try_take(input)) return false;
        taken->quota_input = {purses[0], input};
        if (!purses[1]->try_take(output)) return false;
        taken->quota_output = {purses[1], output};
        taken->may_overrun = terms->may_overrun;
        worst = terms->may_overrun ? charge_of(request.prices, {}) : Nanos{};
    }
    if (has_budget(request) && worst > Nanos{}) {
        auto wanted = budgets_of(*request.budget_of, now);
        auto purses = find_purses(wanted);
        if (purses.size() != wanted.size()) return false;
        for (auto& purse : purses) {
            if (!purse->try_take(worst.value)) return false;
            taken->budgets.push_back({purse, worst.value});
        }
    }
    if (!state.credits.try_take(worst.value)) return false;
    amount = worst;
    parts = std::move(taken);
    return true;
}

Async<Result<Hold>> Billing::admit(HoldRequest request, Ticks deadline) {
    Impl& impl = *impl_;
    if (impl.is_stopping) co_return fail(stopping());
    if (impl.committer.is_full()) co_return fail(behind());
    if (!impl.is_open()) co_return fail(out_of_touch());
    CHECK(request.worst_case >= Nanos{}, "a price is never negative");
    auto state = co_await impl.load(request.account);
    if (!state) co_return fail(std::move(state.error()));
    if (impl.has_terms) {
        auto terms = co_await impl.load_terms(**state);
        if (!terms) co_return fail(std::move(terms.error()));
        if ((*terms)->is_suspended) co_return suspended();
    }
    Hold hold;
    bool uses_quota = request.uses_quota && (*state)->has_quota();
    if (!uses_quota && !has_budget(request)) {
        auto taken =
            co_await impl.take((*state)->credits, request.worst_case.value, request.least.value, deadline);
        if (!taken) co_return fail(std::move(taken.error()));
        hold.amount_ = Nanos{*taken};
    } else {
        auto parts = std::make_unique<HoldParts>();
        auto taken = co_await impl.take_parts(**state, request, deadline, *parts);
        if (!taken) co_return fail(std::move(taken.error()));
        hold.amount_ = *taken;
        hold.parts_ = std::move(parts);
    }
    hold.state_ = *state;
    co_return hold;
}

Async<Result<std::int64_t>> Billing::Impl::await(PurseWaiter& waiter) {
    if (!waiter.purse.take_or_wait(waiter, settings.admission_waiters_max)) {
        // stop() answers those it sees waiting; after it there is nobody else to do so.
        if (is_stopping) waiter.purse.fail_waiters(stopping());
        std::optional<Deadline> timer;
        if (IoThread* thread = IoThread::current()) {
            timer.emplace(thread->deadlines(), &expire_waiter, &waiter);
            timer->arm(waiter.expires_at);
        }
        waiter.answer = co_await waiter.done;
    }
    co_return std::move(waiter.answer);
}

Async<Result<std::int64_t>> Billing::Impl::take(Purse& purse, std::int64_t most, std::int64_t least,
                                                Ticks deadline) {
    PurseWaiter waiter{purse, most, least};
    waiter.expires_at = std::min(deadline, clock.ticks() + settings.admission_wait);
    auto taken = co_await await(waiter);
    co_return taken;
}

Async<Result<std::int64_t>> Billing::Impl::take_what_is_there(Purse& purse, std::int64_t most) {
    if (most == 0) co_return 0;
    if (!slicer) co_return purse.take_up_to(most, false);
    PurseWaiter waiter{purse, most, 0};
    waiter.expires_at = clock.ticks() + quota_wait;
    waiter.waits_for_holds = false;
    auto taken = co_await await(waiter);
    if (!taken && taken.error().code == Code::payment_required) co_return 0;
    co_return taken;
}

Async<Result<std::vector<std::shared_ptr<Purse>>>> Billing::Impl::load_purses(std::vector<Allowance> wanted) {
    auto known = find_purses(wanted);
    if (known.size() == wanted.size()) co_return known;
    auto look = [wanted](store::Tx& tx) -> Result<std::vector<std::int64_t>> {
        std::vector<std::int64_t> used;
        for (const Allowance& one : wanted) used.push_back(load_used(tx, one));
        return used;
    };
    auto used = co_await db.in_tx(std::move(look));
    if (!used) co_return fail(std::move(used.error()));
    // Whoever comes second keeps the first one's purse: some of it may be held since this was read.
    known.clear();
    for (std::size_t i = 0; i < wanted.size(); ++i)
        known.push_back(allowances.find_or_add(wanted[i], (*used)[i], *shared, clock.now()));
    co_return known;
}

Async<Result<Nanos>> Billing::Impl::take_parts(AccountState& state, HoldRequest request, Ticks deadline,
                                               HoldParts& parts) {
    Time now = clock.now();
    auto terms = request.uses_quota && state.has_quota() ? state.terms() : nullptr;
    auto quotas = terms ? quotas_of(state.id, *terms, now) : std::vector<Allowance>();
    if (!quotas.empty()) {
        auto purses = co_await load_purses(quotas);
        if (!purses) co_return fail(std::move(purses.error()));
        parts.quota_input.purse = (*purses)[0];
        parts.quota_output.purse = (*purses)[1];
        parts.may_overrun = terms->may_overrun;
    }
    // Where nothing can come from the credits, no budget is touched.
    Nanos worst = request.worst_case;
    if (has_budget(request) && parts.may_overrun) {
        auto purses = co_await load_purses(budgets_of(*request.budget_of, now));
        if (!purses) co_return fail(std::move(purses.error()));
        Nanos amount;
        std::unique_ptr<HoldParts> all;
        if (!quotas.empty() && try_parts(state, request, now, amount, all)) {
            std::swap(parts.budgets, all->budgets);
            std::swap(parts.quota_input, all->quota_input);
            std::swap(parts.quota_output, all->quota_output);
            co_return amount;
        }
        for (auto& purse : *purses) {
            auto taken = co_await take(*purse, worst.value, std::min(request.least, worst).value, deadline);
            if (!taken) co_return fail(std::move(taken.error()));
            parts.budgets.push_back({purse, *taken});
            if (*taken == worst.value) continue;
            worst = Nanos{*taken};
            parts.lower_budgets(worst.value);
        }
    }
    if (!quotas.empty()) {
        auto taken = co_await take_quota(state, request, worst, deadline, parts);
        if (taken) parts.lower_budgets(taken->value);
        co_return taken;
    }
    auto taken = co_await take(state.credits, worst.value, std::min(request.least, worst).value, deadline);
    if (!taken) co_return fail(std::move(taken.error()));
    parts.lower_budgets(*taken);
    co_return Nanos{*taken};
}

// Everything that is asked for, or what there is once nobody else holds any: in turn.
Async<Result<void>> Billing::Impl::wait_for_quota(HoldRequest request, Ticks deadline, HoldParts& parts) {
    bool must = !parts.may_overrun;
    auto wait = [&](PursePart& part, std::int64_t most, std::int64_t least) {
        return take(*part.purse, most, must ? std::min(most, least) : 0, deadline);
    };
    auto input = co_await wait(parts.quota_input, tokens(request.most.input), tokens(request.fewest.input));
    if (!input && (must || input.error().code != Code::payment_required))
        co_return fail(std::move(input.error()));
    parts.quota_input.amount = input ? *input : 0;
    auto output =
        co_await wait(parts.quota_output, tokens(request.most.output), tokens(request.fewest.output));
    if (!output && (must || output.error().code != Code::payment_required))
        co_return fail(std::move(output.error()));
    parts.quota_output.amount = output ? *output : 0;
    co_return Result<void>();
}

Async<Result<Nanos>> Billing::Impl::take_quota(AccountState& state, HoldRequest request, Nanos worst,
                                               Ticks deadline, HoldParts& parts) {
    if (!parts.may_overrun) {
        auto waited = co_await wait_for_quota(request, deadline, parts);
        if (!waited) co_return fail(std::move(waited.error()));
        state.credits.take_up_to(0, true);  // the hold as such
        co_return Nanos{};
    }
    auto price = [&](const TokenUsage& usage) {
        return std::min(worst, charge_of(request.prices, uncovered(usage, parts.quota_input.amount,
                                                                   parts.quota_output.amount)));
    };
    auto pay = [&] {
        Nanos most = price(request.most);
        return take(state.credits, most.value, std::min(most, price(request.fewest)).value, deadline);
    };
    auto input = co_await take_what_is_there(*parts.quota_input.purse, tokens(request.most.input));
    if (!input) co_return fail(std::move(input.error()));
    parts.quota_input.amount = *input;
    auto output = co_await take_what_is_there(*parts.quota_output.purse, tokens(request.most.output));
    if (!output) co_return fail(std::move(output.error()));
    parts.quota_output.amount = *output;
    auto paid = co_await pay();
    bool is_covered = *input >= request.most.input && *output >= request.most.output;
    if (!paid && paid.error().code == Code::payment_required && !is_covered) {
        // The credits do not pay for the rest, but quota that others hold may come back. Credits are never
        // held while waiting for it; neither is quota, or two such requests would keep it from each other.
        parts.release_quota();
        auto waited = co_await wait_for_quota(request, deadline, parts);
        if (!waited) co_return fail(std::move(waited.error()));
        auto again = co_await pay();
        if (again) co_return Nanos{*again};
        co_return fail(std::move(again.error()));
    }
    if (!paid) co_return fail(std::move(paid.error()));
    co_return Nanos{*paid};
}

}  // namespace nebula::billing
