#pragma once
// Asks providers in the background whether they live, those whose settings say so.

#include <map>
#include <optional>
#include <set>
#include <string>

#include "async/completion.hpp"
#include "async/deadline.hpp"
#include "async/task_group.hpp"
#include "catalog/catalog.hpp"
#include "gateway/upstreams.hpp"
#include "http/client.hpp"

namespace nebula::gateway::routing {

class Prober {
   public:
    /// All must outlive it.
    Prober(const catalog::Catalog& catalog, const Upstreams& upstreams, http::Client& client,
           const Clock& clock, metrics::Registry& metrics)
        : catalog_(catalog), upstreams_(upstreams), client_(client), clock_(clock), metrics_(metrics) {}
    ~Prober() { stop(); }

    void start(IoThread& thread);
    /// Ends probes in progress and waits for them; not on an I/O thread.
    void stop();

   private:
    struct Rest;
    Async<void> run();
    Ticks begin_due_probes(Ticks now);
    Async<void> probe(std::shared_ptr<const catalog::Provider> provider);
    Async<void> rest_until(Ticks until);
    void wake();

    const catalog::Catalog& catalog_;
    const Upstreams& upstreams_;
    http::Client& client_;
    const Clock& clock_;
    metrics::Registry& metrics_;
    IoThread* thread_ = nullptr;
    // On the thread only:
    bool is_stopping_ = false;
    std::map<std::string, Ticks> due_;  // providers of the current catalog
    std::set<std::string> asked_;       // probes in progress: one for each at most
    std::set<http::CancelToken*> tokens_;
    Rest* rest_ = nullptr;
    TaskGroup group_{"probes"};
};

}  // namespace nebula::gateway::routing
