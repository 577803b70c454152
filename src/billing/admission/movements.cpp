// Money that moves otherwise than by metered use.

#include <algorithm>

#include "base/log.hpp"
#include "billing/admission/impl.hpp"
#include "billing/store.hpp"

namespace nebula::billing {
namespace {

using ledger::Earlier;

// How long a movement waits for money that nodes have leased, or requests hold on other nodes.
constexpr std::chrono::seconds collect_wait{2};
constexpr std::int64_t expiries_at_once = 500;
constexpr const char* used_before = "another movement with this key was first";

std::unexpected<Error> used_key(const Movement& movement) {
    const char* what = movement.kind == MovementKind::grant
                           ? "this idempotency key was used for another grant"
                           : "this idempotency key was used for another movement";
    return fail(Code::conflict, what, "key");
}

std::unexpected<Error> not_enough(const Movement& movement) {
    if (movement.kind == MovementKind::grant)
        return fail(Code::invalid_request, "the available balance is smaller than what is taken back",
                    "amount");
    return fail(Code::payment_required, "the balance does not cover this; add credits");
}

/// Takes what there is; the rest becomes debt.
bool makes_debt(const Movement& movement) {
    return movement.kind == MovementKind::refund || movement.kind == MovementKind::dispute ||
           movement.kind == MovementKind::correction;
}

}  // namespace

// What is taken leaves memory first, so that it cannot be spent meanwhile. It stays a hold until it is known
// what became of it: who is short waits for it, as for any other.
Async<Result<std::int64_t>> Billing::Impl::set_aside(AccountState& state, const Movement& movement) {
    if (!ledger::takes(movement)) co_return 0;
    std::int64_t wanted = movement.amount < Nanos{} ? -movement.amount.value : movement.amount.value;
    std::int64_t aside = 0;
    if (slicer) {
        auto taken = co_await take(state.credits, wanted, 0, clock.ticks() + collect_wait);
        if (!taken && taken.error().code != Code::payment_required) co_return fail(std::move(taken.error()));
        // The hold as such, even when it is of nothing.
        aside = taken ? *taken : state.credits.take_up_to(0, true);
    } else {
        aside = state.credits.take_up_to(wanted, true);
    }
    if (aside < wanted && !makes_debt(movement)) {
        state.credits.release(aside);
        co_return not_enough(movement);
    }
    co_return aside;
}

Result<Moved> Billing::Impl::post(store::Tx& tx, const Movement& movement, PostingId id, std::int64_t aside,
                                  const std::function<Result<void>(store::Tx&)>& also, Earlier& earlier) {
    if (node != nullptr && !node->confirm(tx))
        return fail(Code::overloaded, "this server has lost touch with its database; try again");
    if (earlier = ledger::earlier(tx, movement, nullptr); earlier != Earlier::none)
        return fail(Code::conflict, used_before);
    if (also) {
        if (auto done = also(tx); !done) return fail(std::move(done.error()));
    }
    auto funds = ledger::lock_funds(tx, movement.account, clock);
    if (!funds) return fail(Code::not_found, "account not found", "account");
    // Once more, now that nobody else moves this account's money.
    if (earlier = ledger::earlier(tx, movement, nullptr); earlier != Earlier::none)
        return fail(Code::conflict, used_before);
    Nanos takeable{aside};
    if (slicer) {
        if (aside > 0) {
            // From the slice into the pool, from which it is taken.
            ledger::change_sliced(tx, *funds, Nanos{-aside});
            take_from_slice(tx, {PurseKind::credits, movement.account.db(), 0}, aside, node->id());
        }
        takeable = std::max(Nanos{}, funds->pool());
    }
    Result<Moved> moved;
    try {
        moved = ledger::post(tx, *funds, movement, id, takeable, clock.now());
    } catch (const store::UniqueViolation&) {
        earlier = Earlier::same;  // or other: looked at once more, in a transaction that is not lost
        return fail(Code::conflict, used_before);
    }
    if (moved && notices != nullptr) {
        notices->publish(tx, "funds", movement.account.text());
        // What nodes have leased of money that is owed now comes back, so that it is not spent.
        if (slicer && funds->debt > Nanos{} && funds->sliced > Nanos{})
            notices->publish(tx, "recall", purse_text({PurseKind::credits, movement.account.db(), 0}));
    }
    return moved;
}

Async<bool> Billing::Impl::is_committed_after_all(PostingId posting, bool& is_known) {
    auto look = [posting](store::Tx& tx) -> Result<bool> { return posting_exists(tx, posting); };
    auto found = co_await db.in_tx(std::move(look));
    is_known = found.has_value();
    co_return found.has_value() && *found;
}

Async<Result<Moved>> Billing::move(Movement movement, std::function<Result<void>(store::Tx&)> also) {
    Impl& impl = *impl_;
    if (auto valid = ledger::check(movement); !valid) co_return fail(std::move(valid.error()));

    // An answered key is answered before anything that depends on today's balance.
    Moved before;
    auto look = [&movement, &before](store::Tx& tx) -> Result<Earlier> {
        return ledger::earlier(tx, movement, &before);
    };
    Earlier earlier = Earlier::none;
    if (!movement.key.empty()) {
        auto looked = co_await impl.db.in_tx(look);
        if (!looked) co_return fail(std::move(looked.error()));
        earlier = *looked;
    }
    if (earlier == Earlier::other) co_return used_key(movement);
    auto loaded = co_await impl.load(movement.account);
    if (!loaded) co_return fail(std::move(loaded.error()));
    AccountState& state = **loaded;
    auto show_memory = [&](Moved& moved) {
        if (impl.slicer) return;
        moved.balance.available = Nanos{state.credits.available()};
        moved.balance.held = Nanos{state.credits.held()};
    };
    if (earlier == Earlier::same) {
        show_memory(before);
        co_return before;
    }

    bool is_taking = ledger::takes(movement);
    auto aside = co_await impl.set_aside(state, movement);
    if (!aside) co_return fail(std::move(aside.error()));
    auto end_hold = [&](std::int64_t change) {
        state.credits.replace(*aside, change);
        if (is_taking) impl.shared->holds_ended->add();
    };
    PostingId id = movement.id ? movement.id : PostingId::next(impl.clock);
    Result<Moved> posted = fail(Code::internal, "not tried");
    auto work = [&](store::Tx& tx) -> Result<bool> {
        posted = impl.post(tx, movement, id, *aside, also, earlier);
        if (!posted) return fail(posted.error());
        return true;
    };
    auto done = co_await impl.db.in_tx(work);
    bool is_committed = done.has_value(), is_known = true;
    if (!done && done.error().code == Code::internal && posted)
        is_committed = co_await impl.is_committed_after_all(id, is_known);
    if (is_committed) {
        // With slices, what was set aside is not this node's any more; what is new belongs to the pool.
        Nanos change = posted->amount - posted->debt;
        end_hold(impl.slicer ? -*aside : change.value);
        LOG_INFO("money moved", {"account", movement.account.text()}, {"kind", movement_name(movement.kind)},
                 {"nanos", movement.amount.value}, {"posting", id.text()});
        show_memory(*posted);
        co_return std::move(*posted);
    }
    // In doubt, memory keeps the smaller balance: never more than the ledger has.
    end_hold(is_known ? 0 : -*aside);
    if (!is_known) LOG_ERROR("outcome of a movement is unknown", {"posting", id.text()});
    if (earlier == Earlier::none) co_return fail(std::move(done.error()));
    auto looked = co_await impl.db.in_tx(look);
    if (!looked) co_return fail(std::move(looked.error()));
    if (*looked != Earlier::same) co_return used_key(movement);
    show_memory(before);
    co_return before;
}

Async<Result<Balance>> Billing::grant(AccountId account, Nanos amount, std::string key, std::string note) {
    Movement movement;
    movement.account = account;
    movement.amount = amount;
    movement.key = std::move(key);
    movement.note = std::move(note);
    auto moved = co_await move(std::move(movement));
    if (!moved) co_return fail(std::move(moved.error()));
    co_return moved->balance;
}

Result<Nanos> Billing::Impl::expire_bonus(AccountId account) {
    // The state, for what this process has in memory: made here when nobody needed it yet.
    auto loaded = sync_wait(load(account));
    if (!loaded) return fail(std::move(loaded.error()));
    Purse& credits = (*loaded)->credits;
    std::int64_t aside = slicer ? 0 : credits.take_up_to(std::numeric_limits<std::int64_t>::max(), true);
    PostingId id = PostingId::next(clock);
    Nanos expired;
    bool is_written = false, is_committed = false, is_known = true;
    auto work = [&](store::Tx& tx) -> Result<bool> {
        is_written = false;
        auto funds = ledger::lock_funds(tx, account, clock);
        if (!funds) return fail(Code::not_found, "account not found", "account");
        Nanos takeable = slicer ? std::max(Nanos{}, funds->pool()) : Nanos{aside};
        expired = ledger::expire_bonus(tx, *funds, id, takeable, clock.now());
        if (expired > Nanos{} && notices != nullptr) notices->publish(tx, "funds", account.text());
        is_written = true;
        return true;
    };
    Error problem;
    try {
        auto done = db.in_tx_blocking(work);
        is_committed = done.has_value();
        if (!done) problem = std::move(done.error());
    } catch (const std::exception& e) {
        problem = {Code::internal, "bonus credits could not be expired", "", e.what()};
        if (is_written && expired > Nanos{}) is_committed = sync_wait(is_committed_after_all(id, is_known));
    }
    if (!slicer) {
        bool is_gone = is_committed || !is_known;
        credits.replace(aside, is_gone ? -expired.value : 0);
        shared->holds_ended->add();
    }
    if (!is_committed) return fail(std::move(problem));
    return expired;
}

Result<std::int64_t> Billing::expire_bonuses() {
    Impl& impl = *impl_;
    Time now = impl.clock.now();
    auto look = [now](store::Tx& tx) -> Result<std::vector<AccountId>> {
        return ledger::accounts_with_expired_bonus(tx, now, expiries_at_once);
    };
    std::vector<AccountId> accounts;
    try {
        auto found = impl.db.in_tx_blocking(look);
        if (!found) return fail(std::move(found.error()));
        accounts = std::move(*found);
    } catch (const store::DbError& e) {
        return fail(Code::internal, "bonus credits could not be expired", "", e.what());
    }
    std::int64_t count = 0;
    for (AccountId account : accounts) {
        auto expired = impl.expire_bonus(account);
        if (!expired) return fail(std::move(expired.error()));
        if (*expired > Nanos{}) ++count;
    }
    return count;
}

}  // namespace nebula::billing
