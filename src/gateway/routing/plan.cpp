#include "gateway/routing/plan.hpp"

#include <algorithm>
#include <cmath>

#include "base/text.hpp"

namespace nebula::gateway::routing {
namespace {

using catalog::Route;
using catalog::Strategy;

struct Ranked {
    Candidate candidate;
    Facts facts;
    double key = 0;  // the smallest first
    int tier = 0;    // before the key
};

// A step of splitmix64 for each draw, so that one random number serves all.
std::uint64_t next_random(std::uint64_t& random) {
    random += 0x9E3779B97F4A7C15ULL;
    std::uint64_t mixed = (random ^ random >> 30) * 0xBF58476D1CE4E5B9ULL;
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBULL;
    return mixed ^ mixed >> 31;
}

// In (0, 1].
double unit_of(std::uint64_t hash) { return (static_cast<double>(hash >> 11) + 1) / 9007199254740992.0; }

// Of prompts three times as long as answers, in nano-dollars per million.
double blended_price(const Route& route) {
    const billing::Prices& prices = route.prices;
    return (3 * static_cast<double>(prices.input_per_m.value) +
            static_cast<double>(prices.output_per_m.value)) /
               4 +
           static_cast<double>(prices.request.value);
}

// 1/price², where what is free counts as a hundredth of a cent per million.
double price_weight(const Route& route) {
    double price = std::max(blended_price(route), 1e5) / 1e9;
    return 1 / (price * price);
}

bool is_named(const Route& route, std::string_view name) {
    const catalog::Provider& provider = *route.provider;
    if (equals_ignore_case(name, provider.slug) || equals_ignore_case(name, provider.name)) return true;
    std::size_t slash = name.rfind('/');
    return slash != std::string_view::npos && !route.tag.empty() &&
           equals_ignore_case(name.substr(slash + 1), route.tag) &&
           equals_ignore_case(name.substr(0, slash), provider.slug);
}

bool names(const std::vector<std::string>& list, const Route& route) {
    return std::ranges::any_of(list, [&route](const std::string& name) { return is_named(route, name); });
}

bool has_parameters(const Route& route, const std::vector<std::string>& wanted) {
    const auto& known = route.provider->supported_parameters;
    return known.empty() || std::ranges::all_of(wanted, [&known](const std::string& name) {
               return std::ranges::find(known, name) != known.end();
           });
}

// By the size and quality that cost most: which of them it will be, the filter does not know.
Nanos dearest_image(const catalog::Model& model) {
    Nanos most = model.image_prices.empty() ? model.prices.unit : Nanos();
    for (const catalog::ImagePriceSettings& one : model.image_prices) most = std::max(most, one.price);
    return most;
}

bool is_affordable(const catalog::Model& model, const Route& route, const Preferences& wants) {
    const billing::Prices& prices = route.prices;
    if (wants.max_image && model.unit == "image" && dearest_image(model) > *wants.max_image) return false;
    bool is_sound = model.unit == "second" || model.unit == "character";
    if (wants.max_audio && is_sound && prices.unit > *wants.max_audio) return false;
    if (wants.max_input_per_m && prices.input_per_m > *wants.max_input_per_m) return false;
    if (wants.max_output_per_m && prices.output_per_m > *wants.max_output_per_m) return false;
    return !wants.max_request || prices.request <= *wants.max_request;
}

bool is_free(const Route& route) {
    const billing::Prices& prices = route.prices;
    return (prices.input_per_m.value | prices.output_per_m.value | prices.request.value) == 0;
}

bool is_private(const Route& route, const Preferences& wants) {
    return !(wants.deny_data_collection && route.provider->collects_data) &&
           !(wants.zdr && !route.provider->zdr);
}

// Weights to draw by, or 0 where the order is not drawn.
double weight_of(const Ranked& one, Strategy strategy) {
    if (strategy == Strategy::price) return price_weight(*one.candidate.route);
    if (strategy == Strategy::weighted || strategy == Strategy::least_busy)
        return static_cast<double>(one.candidate.route->weight);
    return 0;
}

double speed_key(const Facts& facts) {
    // What nobody has measured is tried: otherwise nobody ever will.
    return facts.milli_tps == 0 ? -1e18 : -static_cast<double>(facts.milli_tps);
}

class Planner {
   public:
    Planner(const Question& question, const FactSource& source) : question_(question), source_(source) {}

    Candidates run() {
        std::vector<Ranked> all;
        for (const auto& model : question_.models) {
            std::vector<Ranked> routes = allowed(*model);
            if (!sorts_across()) order(routes, *model);
            all.insert(all.end(), routes.begin(), routes.end());
        }
        if (sorts_across()) sort_by(all, wants()->sort);
        if (wants() != nullptr) limit(all);
        Candidates order;
        order.reserve(all.size());
        for (const Ranked& one : all) order.push_back(one.candidate);
        return order;
    }

   private:
    const Preferences* wants() const { return question_.preferences; }
    bool sorts_across() const {
        return wants() != nullptr && wants()->across_models && wants()->sort != Sort::none &&
               question_.models.size() > 1;
    }

    std::vector<Ranked> allowed(const catalog::Model& model) const {
        std::vector<Ranked> routes;
        routes.reserve(model.routes.size());
        for (const Route& route : model.routes)
            if (wants() == nullptr || is_allowed(model, route, *wants()))
                routes.push_back({{.model = &model, .route = &route}, source_.facts(route)});
        return routes;
    }

    void order(std::vector<Ranked>& routes, const catalog::Model& model) {
        if (routes.size() < 2) return;
        if (wants() != nullptr && wants()->sort != Sort::none)
            sort_by(routes, wants()->sort);
        else
            order_by(routes, model.strategy);
        if (wants() == nullptr) return;
        prefer_fast(routes);
        prefer_named(routes);
    }

    void sort_by(std::vector<Ranked>& routes, Sort sort) {
        for (Ranked& one : routes) {
            one.tier = one.facts.is_shaky ? 1 : 0;
            one.key = sort == Sort::price        ? blended_price(*one.candidate.route)
                      : sort == Sort::latency    ? static_cast<double>(one.facts.latency_us)
                      : sort == Sort::throughput ? speed_key(one.facts)
                                                 : static_cast<double>(one.facts.error_ppm);
        }
        arrange(routes);
    }

    void order_by(std::vector<Ranked>& routes, Strategy strategy) {
        if (strategy == Strategy::ordered) return;
        bool drops_shaky = strategy != Strategy::weighted;
        for (Ranked& one : routes) {
            one.tier = drops_shaky && one.facts.is_shaky ? 1 : 0;
            if (strategy == Strategy::latency) one.key = static_cast<double>(one.facts.latency_us);
            if (strategy == Strategy::throughput) one.key = speed_key(one.facts);
            if (strategy == Strategy::least_busy && question_.affinity == 0)
                one.key = static_cast<double>(one.facts.in_flight) /
                          static_cast<double>(std::max<std::int64_t>(one.candidate.route->weight, 1));
        }
        bool is_drawn =
            strategy == Strategy::weighted || strategy == Strategy::price || strategy == Strategy::least_busy;
        if (!is_drawn) return arrange(routes);
        // Exponential variables divided by weights: their order is a draw by weight without replacement. With
        // a session's hash instead of chance, the same session draws the same order (rendezvous hashing).
        std::uint64_t random = question_.random;
        bool ties_only = strategy == Strategy::least_busy && question_.affinity == 0;
        for (Ranked& one : routes) {
            double weight = weight_of(one, strategy);
            std::uint64_t hash = question_.affinity == 0 ? next_random(random) : mixed(one);
            double draw = weight > 0 ? -std::log(unit_of(hash)) / weight : 1e300;
            // Below any difference of one call, so that it only decides between equals.
            one.key = ties_only ? one.key + 1e-9 * draw / (1 + draw) : draw;
        }
        arrange(routes);
        if (question_.affinity != 0) spare_the_busy(routes, strategy);
    }

    std::uint64_t mixed(const Ranked& one) const {
        const Route& route = *one.candidate.route;
        std::uint64_t state =
            question_.affinity ^ hash_of(route.upstream_model, hash_of(route.provider->name));
        return next_random(state);
    }

    static void arrange(std::vector<Ranked>& routes) {
        insertion_sort(routes, [](const Ranked& a, const Ranked& b) {
            return a.tier != b.tier ? a.tier < b.tier : a.key < b.key;
        });
    }
    // Those that are good first; otherwise the order stays.
    template <class IsGood>
    static void prefer(std::vector<Ranked>& routes, IsGood is_good) {
        for (Ranked& one : routes) one.tier = is_good(one) ? 0 : 1;
        insertion_sort(routes, [](const Ranked& a, const Ranked& b) { return a.tier < b.tier; });
    }
    // Stable, and without memory of its own: a model has a handful of routes.
    template <class Before>
    static void insertion_sort(std::vector<Ranked>& routes, Before before) {
        for (std::size_t i = 1; i < routes.size(); ++i)
            for (std::size_t at = i; at > 0 && before(routes[at], routes[at - 1]); --at)
                std::swap(routes[at], routes[at - 1]);
    }

    // Bounded load: who has a quarter more than its share of the calls comes after those who have not.
    static void spare_the_busy(std::vector<Ranked>& routes, Strategy strategy) {
        double total = 1, weights = 0;
        for (const Ranked& one : routes) {
            total += static_cast<double>(one.facts.in_flight);
            weights += weight_of(one, strategy);
        }
        if (weights <= 0) return;
        prefer(routes, [&](const Ranked& one) {
            double most = std::ceil(1.25 * total * weight_of(one, strategy) / weights);
            return static_cast<double>(one.facts.in_flight) < most;
        });
    }

    // Routes that keep to the wishes about speed first, as far as anything is known of them.
    void prefer_fast(std::vector<Ranked>& routes) const {
        const Preferences& wishes = *wants();
        if (!wishes.min_throughput.is_any() && !wishes.max_latency.is_any()) return;
        prefer(routes, [&](const Ranked& one) { return is_fast(*one.candidate.route); });
    }

    bool is_fast(const Route& route) const {
        struct Line {
            double wish;
            int percent;
        };
        const Percentiles& speed = wants()->min_throughput;
        const Percentiles& wait = wants()->max_latency;
        for (auto [wish, percent] :
             {Line{speed.p50, 50}, Line{speed.p75, 75}, Line{speed.p90, 90}, Line{speed.p99, 99}}) {
            std::int64_t known = wish > 0 ? source_.milli_tps_at(route, percent) : 0;
            if (known > 0 && static_cast<double>(known) < wish * 1e3) return false;
        }
        for (auto [wish, percent] :
             {Line{wait.p50, 50}, Line{wait.p75, 75}, Line{wait.p90, 90}, Line{wait.p99, 99}}) {
            std::int64_t known = wish > 0 ? source_.latency_us_at(route, percent) : 0;
            if (known > 0 && static_cast<double>(known) > wish * 1e6) return false;
        }
        return true;
    }

    void prefer_named(std::vector<Ranked>& routes) const {
        std::size_t place = 0;
        for (const std::string& name : wants()->order)
            for (std::size_t i = place; i < routes.size(); ++i)
                if (is_named(*routes[i].candidate.route, name)) {
                    std::rotate(routes.begin() + static_cast<std::ptrdiff_t>(place),
                                routes.begin() + static_cast<std::ptrdiff_t>(i),
                                routes.begin() + static_cast<std::ptrdiff_t>(i) + 1);
                    ++place;
                }
    }

    // Without fallbacks: the listed ones alone, else the best one alone. Further models are still tried.
    void limit(std::vector<Ranked>& all) const {
        if (wants()->allow_fallbacks) return;
        if (!wants()->order.empty()) {
            std::erase_if(all,
                          [this](const Ranked& one) { return !names(wants()->order, *one.candidate.route); });
            return;
        }
        const catalog::Model* last = nullptr;
        std::erase_if(all, [&last](const Ranked& one) {
            return std::exchange(last, one.candidate.model) == one.candidate.model;
        });
    }

    const Question& question_;
    const FactSource& source_;
};

}  // namespace

bool is_allowed(const catalog::Model& model, const Route& route, const Preferences& wants) {
    if (!wants.only.empty() && !names(wants.only, route)) return false;
    if (names(wants.ignore, route)) return false;
    if (!is_private(route, wants)) return false;
    if (wants.is_free && !is_free(route)) return false;
    if (!wants.quantizations.empty() &&
        std::ranges::find(wants.quantizations, route.quantization.empty() ? "unknown" : route.quantization) ==
            wants.quantizations.end())
        return false;
    if (wants.require_parameters && !has_parameters(route, wants.parameters)) return false;
    if (!wants.allow_fallbacks && !wants.order.empty() && !names(wants.order, route)) return false;
    return is_affordable(model, route, wants);
}

Candidates plan(const Question& question, const FactSource& source) {
    // Nearly all requests: one model, as its file says.
    if (question.models.size() == 1 && question.preferences == nullptr) {
        const catalog::Model& model = *question.models.front();
        if (model.routes.size() == 1 || model.strategy == Strategy::ordered) {
            Candidates order;
            order.reserve(model.routes.size());
            for (const Route& route : model.routes) order.push_back({.model = &model, .route = &route});
            return order;
        }
    }
    return Planner(question, source).run();
}

std::uint64_t affinity_of(const catalog::Model& model, std::uint64_t session, std::uint64_t user,
                          std::string_view messages, std::uint64_t account) {
    if (model.affinity == catalog::Affinity::none || model.routes.size() < 2) return 0;
    std::uint64_t hash = session;
    if (hash == 0 && model.affinity == catalog::Affinity::prefix) {
        hash = user;
        if (hash == 0 && !messages.empty()) hash = hash_of_prefix(messages);
    }
    if (hash == 0) return 0;
    hash ^= account * 0x9E3779B97F4A7C15ULL;
    return hash == 0 ? 1 : hash;
}

}  // namespace nebula::gateway::routing
