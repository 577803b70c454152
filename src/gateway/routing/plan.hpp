#pragma once
// Which routes may answer a request, and in which order they are tried. Pure: what is known of the routes now
// comes as Facts.

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "catalog/catalog.hpp"
#include "gateway/routing/preferences.hpp"

namespace nebula::gateway::routing {

/// What is known of one route now.
struct Facts {
    std::int64_t in_flight = 0;   // calls in progress at its provider
    std::int64_t latency_us = 0;  // to the first content, smoothed; 0: not known
    std::int64_t milli_tps = 0;   // thousandths of tokens per second, smoothed; 0: not known
    std::int64_t error_ppm = 0;   // share of failed calls, smoothed
    bool is_shaky = false;        // failed within the last 30 s
};
class FactSource {
   public:
    virtual ~FactSource() = default;
    virtual Facts facts(const catalog::Route& route) const = 0;
    /// At a share (50, 75, 90, 99 of hundred) of the recent calls; 0: not known.
    virtual std::int64_t latency_us_at(const catalog::Route& route, int percent) const = 0;
    virtual std::int64_t milli_tps_at(const catalog::Route& route, int percent) const = 0;
};

struct Candidate {
    const catalog::Model* model = nullptr;
    const catalog::Route* route = nullptr;
    std::shared_ptr<const Secret> own_key = nullptr;  // of the customer, to ask with; null: ours
};
using Candidates = std::vector<Candidate>;

using Models = std::span<const std::shared_ptr<const catalog::Model>>;

/// Everything that decides the order, but the facts.
struct Question {
    Models models;                             // as asked, the first one first
    const Preferences* preferences = nullptr;  // null: none
    std::uint64_t random = 0;                  // any number
    std::uint64_t affinity = 0;                // hash of the session; 0: none
};

/// Whether the model's route is allowed by what the request demands of it (all but wishes about speed).
bool is_allowed(const catalog::Model& model, const catalog::Route& route, const Preferences& preferences);

/// The order to try: model after model, unless the request sorts across them. Routes that the request rules
/// out are left out.
Candidates plan(const Question& question, const FactSource& source);

/// The hash to keep a request on a route by, 0 for none. `messages`: see hash_of_prefix().
std::uint64_t affinity_of(const catalog::Model& model, std::uint64_t session, std::uint64_t user,
                          std::string_view messages, std::uint64_t account);

}  // namespace nebula::gateway::routing
