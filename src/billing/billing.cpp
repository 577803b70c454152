#include "billing/billing.hpp"

#include <algorithm>
#include <array>

#include "base/log.hpp"
#include "billing/admission/impl.hpp"
#include "billing/ledger/receipt.hpp"
#include "billing/store.hpp"
#include "billing/verify.hpp"

namespace nebula::billing {
namespace {

constexpr std::int64_t usage_rows_max = 10'000;
constexpr std::int64_t units_max = 1'000'000'000'000;

/// What the price changes by for tokens that are not plain ones, and the units. `plain`: prompt tokens that
/// were not cached.
MicroNanos apart(const Prices& prices, const TokenUsage& usage, std::int64_t plain, std::int64_t output) {
    std::int64_t written = std::clamp<std::int64_t>(usage.cache_write, 0, plain);
    std::int64_t reasoning = std::clamp<std::int64_t>(usage.reasoning, 0, output);
    std::int64_t units = std::clamp<std::int64_t>(usage.units, 0, units_max);
    __int128 per_unit = static_cast<__int128>(units) * 1'000'000 * prices.unit.value;
    return price(written, prices.cache_write_per_m) + price(-written, prices.input_per_m) +
           price(reasoning, prices.reasoning_per_m) + price(-reasoning, prices.output_per_m) +
           MicroNanos{per_unit};
}

}  // namespace

Error stopping() { return {Code::cancelled, "the server is stopping"}; }

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
    if ((usage.cache_write | usage.reasoning | usage.units) != 0) [[unlikely]]
        sum = sum + apart(prices, usage, input - cached, output);
    return std::max(Nanos{}, round_up(sum + price(1'000'000, prices.request)));
}

TokenUsage uncovered(const TokenUsage& usage, std::int64_t quota_input, std::int64_t quota_output) {
    TokenUsage left = usage;
    left.input = std::max<std::int64_t>(0, usage.input - quota_input);
    left.cached = std::min(usage.cached, left.input);
    left.cache_write = std::min(usage.cache_write, left.input - std::max<std::int64_t>(0, left.cached));
    left.output = std::max<std::int64_t>(0, usage.output - quota_output);
    left.reasoning = std::min(usage.reasoning, left.output);
    return left;
}

Prices token_prices(Nanos input_per_m, Nanos output_per_m) {
    return {.input_per_m = input_per_m,
            .output_per_m = output_per_m,
            .cached_input_per_m = input_per_m,
            .cache_write_per_m = input_per_m,
            .reasoning_per_m = output_per_m};
}

Prices dearest(Prices prices) {
    prices.input_per_m = std::max({prices.input_per_m, prices.cached_input_per_m, prices.cache_write_per_m});
    prices.output_per_m = std::max(prices.output_per_m, prices.reasoning_per_m);
    return prices;
}

Prices share_of(Prices prices, std::int64_t ppm) {
    for (Nanos* one : {&prices.input_per_m, &prices.output_per_m, &prices.cached_input_per_m, &prices.request,
                       &prices.cache_write_per_m, &prices.reasoning_per_m, &prices.unit})
        *one = round_up(price(ppm, *one));
    return prices;
}

bool is_unit(std::string_view word) {
    constexpr std::array<std::string_view, 7> words = {"",         "image",   "second",   "character",
                                                       "document", "request", "tool_call"};
    return std::ranges::find(words, word) != words.end();
}

Billing::Impl::Impl(const BillingSettings& given, store::Db& database, const Clock& source,
                    metrics::Registry& metrics, store::Node* its_node, store::Notices* its_notices)
    : settings(given),
      is_strict(given.durability != "relaxed"),
      db(database),
      clock(source),
      node(its_node != nullptr && its_node->is_shared() ? its_node : nullptr),
      notices(its_notices),
      shared(std::make_shared<Shared>()),
      slicer(node != nullptr ? std::make_unique<Slicer>(database, source, metrics, *node, its_notices)
                             : nullptr),
      committer(given, database, source, metrics, *shared, node) {
    shared->refiller = slicer.get();
    shared->holds_taken = &metrics.counter("nebula_billing_holds_total", "Holds taken.");
    shared->holds_ended = &metrics.counter("nebula_billing_holds_ended_total", "Holds settled or released.");
    metrics.gauge_callback("nebula_billing_holds", "Holds of requests in progress.",
                           [counts = shared] { return counts->holds(); });
    metrics.gauge_callback("nebula_billing_waiters", "Requests waiting for money held by others.",
                           [counts = shared] { return counts->waiters.load(); });
    metrics.gauge("nebula_billing_waiters_max", "Above this, requests that would wait are refused.")
        .set(given.admission_waiters_max);
}

// What other nodes say. Every callback goes through the link, since Notices and Node outlive Billing.
void Billing::Impl::connect() {
    link->billing = this;
    auto tell = [](const std::shared_ptr<Link>& to, auto what) {
        std::lock_guard lock(to->mutex);
        if (to->billing != nullptr) what(*to->billing);
    };
    if (notices != nullptr) {
        notices->subscribe("terms", [tell, to = link](std::string_view account) {
            tell(to, [account](Impl& impl) {
                auto id = AccountId::parse(account);
                AccountState* state = id ? impl.states.find(*id) : nullptr;
                if (state != nullptr) state->forget_terms();
            });
        });
        notices->on_gap([tell, to = link] { tell(to, [](Impl& impl) { impl.forget_all(); }); });
    }
    if (node == nullptr) return;
    node->on_reclaim([tell, to = link, its = notices](store::Tx& tx, std::int64_t dead) {
        store::Notices* alive = nullptr;
        tell(to, [&](Impl&) { alive = its; });
        return_slices(tx, dead, alive);
    });
    if (notices == nullptr) return;
    notices->subscribe("recall", [tell, to = link](std::string_view text) {
        tell(to, [text](Impl& impl) {
            auto id = parse_purse(text);
            if (auto purse = id ? impl.find_purse(*id) : nullptr) impl.slicer->recall(purse);
        });
    });
    notices->subscribe("funds", [tell, to = link](std::string_view account) {
        tell(to, [account](Impl& impl) {
            auto id = AccountId::parse(account);
            AccountState* state = id ? impl.states.find(*id) : nullptr;
            if (state != nullptr) impl.slicer->look_again(state->credits);
        });
    });
    notices->subscribe("allowance", [tell, to = link](std::string_view text) {
        tell(to, [text](Impl& impl) {
            auto id = parse_purse(text);
            if (auto purse = id ? impl.find_purse(*id) : nullptr) impl.slicer->look_again(*purse);
        });
    });
}

void Billing::Impl::disconnect() {
    std::lock_guard lock(link->mutex);
    link->billing = nullptr;
}

std::shared_ptr<Purse> Billing::Impl::find_purse(const PurseId& id) {
    if (id.kind != PurseKind::credits) return allowances.find(id);
    AccountState* state = states.find(AccountId::from_db(id.owner));
    return state != nullptr ? state->credits.self() : nullptr;
}

void Billing::Impl::forget_all() {
    for (AccountState* state : states.all()) state->forget_terms();
}

Billing::Billing(const BillingSettings& settings, store::Db& db, const Clock& clock,
                 metrics::Registry& metrics, store::Node* node, store::Notices* notices)
    : impl_(std::make_unique<Impl>(settings, db, clock, metrics, node, notices)) {
    impl_->connect();
}

Billing::~Billing() {
    impl_->disconnect();
    stop();
}

void Billing::start() {
    impl_->committer.start();
    if (impl_->slicer) impl_->slicer->start();
}

void Billing::stop() {
    impl_->is_stopping = true;
    impl_->committer.stop();
    auto refuse = [this] {
        for (AccountState* state : impl_->states.all()) state->credits.fail_waiters(stopping());
        for (auto& purse : impl_->allowances.all()) purse->fail_waiters(stopping());
    };
    refuse();
    if (impl_->slicer) impl_->slicer->stop(true);
    refuse();
}

std::size_t Billing::queued() const { return impl_->committer.queued(); }

Async<Result<AccountState*>> Billing::Impl::load(AccountId account) {
    if (AccountState* known = states.find(account)) co_return known;
    auto look = [account](store::Tx& tx) -> Result<Nanos> {
        auto found = ledger::read_funds(tx, account);
        if (!found) return fail(Code::not_found, "account not found", "account");
        return found->pool();
    };
    auto found = co_await db.read(std::move(look));
    if (!found) co_return fail(std::move(found.error()));
    // Whoever comes second keeps the first one's state: money may have moved in it since this was read.
    // Where several processes share the database, a slice is all a node has, and it has none yet.
    AccountState* state = states.find_or_add(account, slicer ? Nanos{} : *found, *shared);
    if (state == nullptr) {
        LOG_ERROR("too many accounts in memory", {"max", StateMap::states_max});
        co_return fail(Code::overloaded, "the server serves too many accounts");
    }
    co_return state;
}

Async<Result<Balance>> Billing::Impl::balance_of(AccountState& state) {
    AccountId account = state.id;
    auto look = [account](store::Tx& tx) -> Result<Balance> {
        auto funds = ledger::read_funds(tx, account);
        if (!funds) return fail(Code::not_found, "account not found", "account");
        return ledger::balance_of(*funds);
    };
    if (slicer) {
        // In a writing transaction: a read may be sent to a standby that is behind.
        auto exact = co_await db.in_tx(std::move(look));
        if (exact) {
            // What other nodes have leased is still the customer's to spend; what this one holds is not.
            exact->held = Nanos{state.credits.held()};
            exact->available = exact->paid + exact->bonus - exact->debt - exact->held;
        }
        co_return exact;
    }
    auto found = co_await db.read(std::move(look));
    if (found) {
        found->available = Nanos{state.credits.available()};
        found->held = Nanos{state.credits.held()};
    }
    co_return found;
}

Async<Result<Balance>> Billing::balance(AccountId account) {
    auto state = co_await impl_->load(account);
    if (!state) co_return fail(std::move(state.error()));
    auto balance = co_await impl_->balance_of(**state);
    co_return balance;
}

Async<Result<Billing::KeySpending>> Billing::key_spending(AccountId account, KeyId key) {
    Time now = impl_->clock.now();
    auto look = [account, key, now](store::Tx& tx) -> Result<KeySpending> {
        return spending_of(tx, account, key, now);
    };
    auto spent = co_await impl_->db.read(std::move(look));
    co_return spent;
}

Async<Result<TokenUsage>> Billing::quota_used(AccountId account) {
    auto terms = co_await load_terms(account);
    if (!terms) co_return fail(std::move(terms.error()));
    auto quotas = quotas_of(account, **terms, impl_->clock.now());
    auto look = [quotas](store::Tx& tx) -> Result<TokenUsage> {
        if (quotas.empty()) return TokenUsage{};
        return TokenUsage{used_of(tx, quotas[0].id), 0, used_of(tx, quotas[1].id)};
    };
    auto used = co_await impl_->db.read(std::move(look));
    co_return used;
}

Async<Result<std::string>> Billing::receipt(AccountId account, RequestId request) {
    Impl& impl = *impl_;
    auto make = [&impl, account, request](store::Tx& tx) -> Result<std::string> {
        ledger::ensure_key(tx, impl.clock);
        return ledger::make_receipt(tx, account, request);
    };
    auto text = co_await impl.db.in_tx(std::move(make));
    co_return text;
}

Async<Result<std::string>> Billing::receipt_key() {
    Impl& impl = *impl_;
    auto look = [&impl](store::Tx& tx) -> Result<std::string> {
        ledger::ensure_key(tx, impl.clock);
        return ledger::public_key(tx);
    };
    auto key = co_await impl.db.in_tx(std::move(look));
    co_return key;
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
