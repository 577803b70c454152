// What an account's plan and tier give it: read when needed, kept until good_until or a notice.

#include "billing/admission/impl.hpp"

namespace nebula::billing {
namespace {

constexpr std::chrono::minutes terms_time{1};

// Without a loader there are no plans: everybody pays as they go.
std::shared_ptr<const Terms> no_terms() {
    static const auto none = [] {
        Terms terms;
        terms.good_until = terms.period_end = Time::max();
        return std::make_shared<const Terms>(std::move(terms));
    }();
    return none;
}

}  // namespace

void Billing::set_terms_loader(LoadTerms load) {
    impl_->terms_loader = std::move(load);
    impl_->has_terms = static_cast<bool>(impl_->terms_loader);
}

std::shared_ptr<const Terms> Billing::terms(AccountId account) const {
    if (!impl_->has_terms) return no_terms();
    AccountState* state = impl_->states.find(account);
    if (state == nullptr || !state->has_terms(impl_->clock.now())) return nullptr;
    return state->terms();
}

Async<Result<std::shared_ptr<const Terms>>> Billing::load_terms(AccountId account) {
    auto state = co_await impl_->load(account);
    if (!state) co_return fail(std::move(state.error()));
    auto terms = co_await impl_->load_terms(**state);
    co_return terms;
}

Async<Result<std::shared_ptr<const Terms>>> Billing::Impl::load_terms(AccountState& state) {
    if (!has_terms) co_return no_terms();
    Time now = clock.now();
    if (state.has_terms(now)) {
        if (auto known = state.terms()) co_return known;
    }
    std::uint64_t seen = state.forgotten();
    AccountId account = state.id;
    auto look = [this, account, now](store::Tx& tx) -> Result<Terms> {
        return terms_loader(tx, account, now);
    };
    auto loaded = co_await db.read(std::move(look));
    if (!loaded) co_return fail(std::move(loaded.error()));
    loaded->good_until = std::min(loaded->good_until, now + terms_time);
    std::shared_ptr<const Terms> terms = std::make_shared<const Terms>(std::move(*loaded));
    state.set_terms(terms, seen);
    co_return terms;
}

void Billing::terms_changed(store::Tx& tx, AccountId account) {
    // Here as soon as it is committed, so that whoever made the change meets it; elsewhere by the notice.
    if (impl_->notices != nullptr) impl_->notices->publish(tx, "terms", account.text());
    tx.after_commit([impl = impl_.get(), account] {
        if (AccountState* state = impl->states.find(account)) state->forget_terms();
    });
}

}  // namespace nebula::billing
