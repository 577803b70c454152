// Customers' own keys for providers: who is asked with which key, in which order.
#include "gateway/chat.hpp"

namespace nebula::gateway {

// As OpenRouter documents it: of each model first the routes for which there is an own key, whatever the
// order of providers; then all with ours; then those with an own key that is a fallback. Without fallbacks,
// and where a key says so, ours is not asked where there is an own one: it would cost the whole price instead
// of the fee.
routing::Candidates Chat::with_own_keys(const Call& call, routing::Candidates order) const {
    if (services_.provider_keys == nullptr || services_.provider_keys->is_empty() || !call.key) return order;
    const routing::Preferences* wishes = call.request.routing.preferences.get();
    bool may_fall_back = wishes == nullptr || wishes->allow_fallbacks;
    routing::Candidates all;
    for (std::size_t from = 0; from < order.size();) {
        routing::Candidates ours, last;
        std::size_t to = from;
        for (; to < order.size() && order[to].model == order[from].model; ++to) {
            routing::Candidate one = order[to];
            catalog::OwnKeys own =
                services_.provider_keys->find(call.key->account, one.route->provider->name, one.model->id);
            if (own.first) all.push_back({one.model, one.route, own.first});
            if (!own.is_exclusive && (may_fall_back || !own.first)) ours.push_back(one);
            if (own.fallback && may_fall_back) last.push_back({one.model, one.route, own.fallback});
        }
        all.insert(all.end(), ours.begin(), ours.end());
        all.insert(all.end(), last.begin(), last.end());
        from = to;
    }
    return all;
}

}  // namespace nebula::gateway
