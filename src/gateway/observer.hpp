#pragma once
// Looks at every request once, at its end: metrics by model, provider and plan, the request log, traces.

#include <map>
#include <memory>
#include <shared_mutex>
#include <string>

#include "gateway/call.hpp"
#include "gateway/gateway.hpp"

namespace nebula::gateway {

/// Thread-safe.
class Observer {
   public:
    explicit Observer(const Services& services) : services_(services) {}

    void begin(Call& call) const;
    void end(Call& call) noexcept;

   private:
    /// Of answers of one provider for one model.
    struct RouteMetrics {
        metrics::Counter& output_tokens;
        metrics::Histogram &first_token, &generation, &between_tokens;
    };
    /// Of accounts of one plan.
    struct PlanMetrics {
        metrics::Counter &completed, &failed, &input_tokens, &output_tokens;
    };
    struct LessPair {
        using is_transparent = void;
        bool operator()(const auto& a, const auto& b) const {
            std::string_view first(a.first), other(b.first);
            return first != other ? first < other : std::string_view(a.second) < std::string_view(b.second);
        }
    };
    RouteMetrics& route_metrics(const std::string& model, const std::string& provider);
    PlanMetrics& plan_metrics(const std::string& plan);
    void count(const Call& call);
    void write_entry(const Call& call, std::string& out) const;
    void log(Call& call) const;
    void trace(const Call& call) const;

    const Services& services_;
    std::shared_mutex mutex_;
    std::map<std::pair<std::string, std::string>, std::unique_ptr<RouteMetrics>, LessPair> routes_;
    std::map<std::string, std::unique_ptr<PlanMetrics>, std::less<>> plans_;
};

/// For the life of a call, however its handler ends.
class Observed {
   public:
    Observed(Observer& observer, Call& call) : observer_(observer), call_(call) { observer_.begin(call_); }
    ~Observed() { observer_.end(call_); }
    Observed(const Observed&) = delete;
    Observed& operator=(const Observed&) = delete;

   private:
    Observer& observer_;
    Call& call_;
};

}  // namespace nebula::gateway
