#include "billing/billing.hpp"

#include <algorithm>
#include <optional>

#include "async/deadline.hpp"
#include "async/io_thread.hpp"
#include "base/check.hpp"
#include "base/log.hpp"
#include "billing/account_state.hpp"
#include "billing/committer.hpp"
#include "billing/store.hpp"
#include "billing/verify.hpp"

namespace nebula::billing {
/// Budgets of a key and quota of a plan that a hold has taken as well.
struct HoldParts {};

namespace {

// Far below 2^63, so that sums of a few balances cannot overflow.
constexpr Nanos grant_max{1'000'000'000 * Nanos::per_credit};
constexpr Nanos balance_max{4'000'000'000 * Nanos::per_credit};
constexpr std::size_t key_bytes_max = 200;
constexpr std::size_t note_bytes_max = 500;
constexpr std::int64_t usage_rows_max = 10'000;
constexpr const char* grant_again = "another grant with this key was first";

Error stopping() { return {Code::cancelled, "the server is stopping"}; }

Result<void> check_grant(const Grant& grant) {
    if (grant.amount == Nanos{}) return fail(Code::invalid_request, "the amount must not be zero", "amount");
    if (grant.amount > grant_max || grant.amount < Nanos{-grant_max.value})
        return fail(Code::invalid_request, "the amount must be at most 1000000000 credits", "amount");
    if (grant.key.size() > key_bytes_max)
        return fail(Code::invalid_request, "the idempotency key must be at most 200 bytes", "key");
    if (grant.note.size() > note_bytes_max)
        return fail(Code::invalid_request, "the note must be at most 500 bytes", "note");
    auto has_nul = [](const std::string& text) { return text.find('\0') != std::string::npos; };
    if (has_nul(grant.key)) return fail(Code::invalid_request, "the idempotency key must be text", "key");
    if (has_nul(grant.note)) return fail(Code::invalid_request, "the note must be text", "note");
    return {};
}

std::unexpected<Error> used_key() {
    return fail(Code::conflict, "this idempotency key was used for another grant", "key");
}

std::unexpected<Error> not_so_much() {
    return fail(Code::invalid_request, "the available balance is smaller than what is taken back", "amount");
}

void expire_waiter(void* context) {
    auto* waiter = static_cast<Waiter*>(context);
    waiter->state.expire(*waiter);
}

}  // namespace

void BillingSettings::describe(settings::Visitor& v) {
    v.field(
        {.name = "durability",
         .help =
             "strict: the last byte of a response is sent after the commit that holds its charge. relaxed: a "
             "crash may lose the charges of the last moment.",
         .one_of = {"strict", "relaxed"}},
        durability);
    v.field(
        {.name = "queue_max",
         .help = "Usage records waiting to be committed; above this, new requests are refused as overloaded.",
         .min = 1,
         .max = 10'000'000},
        queue_max);
    v.field({.name = "batch_max", .help = "Usage records in one transaction.", .min = 1, .max = 100'000},
            batch_max);
    v.field(
        {.name = "admission_waiters_max",
         .help =
             "Requests that may wait for money held by others; above this they are refused as overloaded.",
         .max = 1'000'000},
        admission_waiters_max);
    v.field({.name = "admission_wait_ms",
             .help = "Milliseconds a request waits at most for money that is held by requests in progress.",
             .max = 3'600'000},
            admission_wait);
    v.field(
        {.name = "commit_retry_ms",
         .help =
             "Milliseconds for which a failing commit is tried again before its requests are failed and not "
             "charged.",
         .max = 3'600'000},
        commit_retry);
}

Nanos charge_of(const Prices& prices, const TokenUsage& usage) {
    std::int64_t input = std::max<std::int64_t>(0, usage.input);
    std::int64_t cached = std::clamp<std::int64_t>(usage.cached, 0, input);
    std::int64_t output = std::max<std::int64_t>(0, usage.output);
    MicroNanos sum = price(input - cached, prices.input_per_m) + price(cached, prices.cached_input_per_m) +
                     price(output, prices.output_per_m);
    return std::max(Nanos{}, round_up(sum) + std::max(Nanos{}, prices.request));
}

TokenUsage uncovered(const TokenUsage& usage, std::int64_t quota_input, std::int64_t quota_output) {
    std::int64_t input = std::max<std::int64_t>(0, usage.input - quota_input);
    return {input, std::min(usage.cached, input), std::max<std::int64_t>(0, usage.output - quota_output)};
}

struct Billing::Impl {
    Impl(const BillingSettings& given, store::Db& database, const Clock& source, metrics::Registry& metrics);

    /// Reads the account's balance when this process has not yet.
    Async<Result<AccountState*>> load(AccountId account);
    /// For a grant whose transaction ended in an error: whether it happened all the same.
    Async<bool> is_committed_after_all(PostingId posting, bool& is_known);

    const BillingSettings settings;
    const bool is_strict;
    store::Db& db;
    const Clock& clock;
    std::shared_ptr<Shared> shared;
    StateMap states;
    Committer committer;
    std::atomic<bool> is_stopping{false};
};

Billing::Impl::Impl(const BillingSettings& given, store::Db& database, const Clock& source,
                    metrics::Registry& metrics)
    : settings(given),
      is_strict(given.durability != "relaxed"),
      db(database),
      clock(source),
      shared(std::make_shared<Shared>()),
      committer(given, database, source, metrics, *shared) {
    shared->holds_taken = &metrics.counter("nebula_billing_holds_total", "Holds taken.");
    shared->holds_ended = &metrics.counter("nebula_billing_holds_ended_total", "Holds settled or released.");
    metrics.gauge_callback("nebula_billing_holds", "Holds of requests in progress.",
                           [counts = shared] { return counts->holds(); });
    metrics.gauge_callback("nebula_billing_waiters", "Requests waiting for money held by others.",
                           [counts = shared] { return counts->waiters.load(); });
    metrics.gauge("nebula_billing_waiters_max", "Above this, requests that would wait are refused.")
        .set(given.admission_waiters_max);
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

void Hold::release() {
    if (AccountState* state = std::exchange(state_, nullptr)) state->release(std::exchange(amount_, {}));
}

Billing::Billing(const BillingSettings& settings, store::Db& db, const Clock& clock,
                 metrics::Registry& metrics, store::Node*, store::Notices*)
    : impl_(std::make_unique<Impl>(settings, db, clock, metrics)) {}

Billing::~Billing() { stop(); }

void Billing::start() { impl_->committer.start(); }

void Billing::stop() {
    impl_->is_stopping = true;
    impl_->committer.stop();
    for (AccountState* state : impl_->states.all()) state->fail_waiters(stopping());
}

std::size_t Billing::queued() const { return impl_->committer.queued(); }

std::optional<Hold> Billing::try_admit(const HoldRequest& request) {
    AccountState* state = impl_->states.find(request.account);
    if (state == nullptr || impl_->committer.is_full() || request.worst_case < Nanos{}) return std::nullopt;
    if (!state->try_take(request)) return std::nullopt;
    std::optional<Hold> hold(std::in_place);
    hold->state_ = state;
    hold->amount_ = request.worst_case;
    return hold;
}

Async<Result<AccountState*>> Billing::Impl::load(AccountId account) {
    if (AccountState* known = states.find(account)) co_return known;
    auto look = [account](store::Tx& tx) -> Result<LedgerIds> {
        auto found = load_account(tx, account);
        if (!found) return fail(Code::not_found, "account not found", "account");
        return *found;
    };
    auto found = co_await db.read(std::move(look));
    if (!found) co_return fail(std::move(found.error()));
    // Whoever comes second keeps the first one's state: money may have moved in it since this was read.
    AccountState* state =
        states.find_or_add(account, found->balance, found->credits, found->revenue, *shared);
    if (state == nullptr) {
        LOG_ERROR("too many accounts in memory", {"max", StateMap::states_max});
        co_return fail(Code::overloaded, "the server serves too many accounts");
    }
    co_return state;
}

Async<Result<Hold>> Billing::admit(HoldRequest request, Ticks deadline) {
    Impl& impl = *impl_;
    if (impl.is_stopping) co_return fail(stopping());
    if (impl.committer.is_full()) {
        Error busy{Code::overloaded, "the server is behind with recording usage; try again"};
        busy.retry_after_ms = 1000;
        co_return fail(std::move(busy));
    }
    CHECK(request.worst_case >= Nanos{}, "a price is never negative");
    auto state = co_await impl.load(request.account);
    if (!state) co_return fail(std::move(state.error()));

    Waiter waiter{**state, request};
    if (!(*state)->take_or_wait(waiter, impl.settings.admission_waiters_max)) {
        // stop() answers those it sees waiting; after it there is nobody else to do so.
        if (impl.is_stopping) (*state)->fail_waiters(stopping());
        std::optional<Deadline> timer;
        if (IoThread* thread = IoThread::current()) {
            timer.emplace(thread->deadlines(), &expire_waiter, &waiter);
            timer->arm(std::min(deadline, thread->clock().ticks() + impl.settings.admission_wait));
        }
        waiter.answer = co_await waiter.done;
    }
    if (!waiter.answer) co_return fail(std::move(waiter.answer.error()));
    Hold hold;
    hold.state_ = *state;
    hold.amount_ = *waiter.answer;
    co_return hold;
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
        entry.state = state;
        entry.settled = state->settle(hold.amount_, charge_of(entry.record.prices, entry.record.usage));
        if (had_hold) impl.shared->holds_ended->add();
    };
    if (!impl.is_strict) {
        auto entry = std::make_unique<Entry>(std::move(record));
        charge(*entry);
        Settled settled = entry->settled;
        if (impl.committer.enqueue(entry.get())) {
            static_cast<void>(entry.release());  // the committer's now
            co_return settled;
        }
        state->give_back(settled.charge);
        co_return fail(Code::internal, "the server has stopped; the request was not charged");
    }
    Entry entry(std::move(record));
    charge(entry);
    entry.is_awaited = true;
    if (!impl.committer.enqueue(&entry)) {
        state->give_back(entry.settled.charge);
        co_return fail(Code::internal, "the server has stopped; the request was not charged");
    }
    auto settled = co_await entry.done;
    co_return settled;
}

Async<bool> Billing::Impl::is_committed_after_all(PostingId posting, bool& is_known) {
    auto look = [posting](store::Tx& tx) -> Result<bool> { return posting_exists(tx, posting); };
    auto found = co_await db.in_tx(std::move(look));
    is_known = found.has_value();
    co_return found.has_value() && *found;
}

Async<Result<Balance>> Billing::grant(AccountId account, Nanos amount, std::string key, std::string note) {
    Impl& impl = *impl_;
    Grant grant{PostingId::next(impl.clock), account, amount, std::move(key), std::move(note)};
    if (auto valid = check_grant(grant); !valid) co_return fail(std::move(valid.error()));

    // An answered key is answered before anything that depends on today's balance.
    auto look = [&grant](store::Tx& tx) -> Result<Earlier> { return earlier_grant(tx, grant); };
    Earlier earlier = Earlier::none;
    if (!grant.key.empty()) {
        auto looked = co_await impl.db.in_tx(look);
        if (!looked) co_return fail(std::move(looked.error()));
        earlier = *looked;
    }
    if (earlier == Earlier::other) co_return used_key();
    auto loaded = co_await impl.load(account);
    if (!loaded) co_return fail(std::move(loaded.error()));
    AccountState* state = *loaded;
    if (earlier == Earlier::same) co_return state->balance();

    // Taken from memory first: what is taken back cannot be spent meanwhile.
    bool is_back = amount < Nanos{};
    if (is_back && !state->take_away(Nanos{-amount.value})) co_return not_so_much();
    LedgerIds ledger;
    auto work = [&](store::Tx& tx) -> Result<bool> {
        ledger = ensure_ledger(tx, account, impl.clock);
        if (earlier = earlier_grant(tx, grant); earlier != Earlier::none)
            return fail(Code::conflict, grant_again);
        if (ledger.balance > balance_max - Nanos{std::max<std::int64_t>(0, amount.value)})
            return fail(Code::invalid_request, "the balance would exceed 4000000000 credits", "amount");
        try {
            insert_grant(tx, ledger, grant, impl.clock.now());
        } catch (const store::UniqueViolation&) {
            earlier =
                Earlier::same;  // or other: looked at once more below, in a transaction that is not lost
            return fail(Code::conflict, grant_again);
        }
        return true;
    };
    auto done = co_await impl.db.in_tx(work);
    bool is_committed = done.has_value(), is_known = true;
    if (!done && done.error().code == Code::internal)
        is_committed = co_await impl.is_committed_after_all(grant.posting, is_known);
    if (is_committed) {
        state->set_ledger(ledger.credits, ledger.revenue);
        if (!is_back) state->give_back(amount);
        LOG_INFO("credits granted", {"account", account.text()}, {"nanos", amount.value},
                 {"posting", grant.posting.text()});
        co_return state->balance();
    }
    // In doubt, memory keeps the smaller balance: never more than the ledger has.
    if (is_back && is_known) state->give_back(Nanos{-amount.value});
    if (!is_known) LOG_ERROR("outcome of a grant is unknown", {"posting", grant.posting.text()});
    if (earlier == Earlier::none) co_return fail(std::move(done.error()));
    auto looked = co_await impl.db.in_tx(look);
    if (!looked) co_return fail(std::move(looked.error()));
    if (*looked != Earlier::same) co_return used_key();
    co_return state->balance();
}

Async<Result<Balance>> Billing::balance(AccountId account) {
    auto state = co_await impl_->load(account);
    if (!state) co_return fail(std::move(state.error()));
    co_return (*state)->balance();
}

Async<Result<std::vector<UsageRecord>>> Billing::usage(AccountId account, std::int64_t limit) {
    auto known = co_await impl_->load(account);
    if (!known) co_return fail(std::move(known.error()));
    std::int64_t rows = std::clamp<std::int64_t>(limit, 1, usage_rows_max);
    auto work = [account, rows](store::Tx& tx) -> Result<std::vector<UsageRecord>> {
        return list_usage(tx, account, rows);
    };
    auto records = co_await impl_->db.read(std::move(work));
    co_return records;
}

Async<Result<VerifyReport>> Billing::verify() {
    auto work = [](store::Tx& tx) -> Result<VerifyReport> { return verify_books(tx); };
    auto report = co_await impl_->db.read(std::move(work));
    co_return report;
}

}  // namespace nebula::billing
