#include "gateway/routing/prober.hpp"

#include <algorithm>

#include "gateway/provider.hpp"

namespace nebula::gateway::routing {
namespace {

using namespace std::chrono_literals;

constexpr auto probe_time_max = 5s;
constexpr std::size_t answer_bytes_max = 256 * 1024;
// A reload may have brought providers to probe.
constexpr auto look_again = 1s;

}  // namespace

struct Prober::Rest {
    explicit Rest(Prober& prober, IoThread& thread)
        : timer(thread.deadlines(), [](void* context) { static_cast<Prober*>(context)->wake(); }, &prober) {}
    nebula::Completion<bool> done;
    Deadline timer;
};

void Prober::start(IoThread& thread) {
    thread_ = &thread;
    group_.spawn(thread, run());
}

void Prober::stop() {
    if (thread_ == nullptr) return;
    thread_->post([this] {
        is_stopping_ = true;
        for (http::CancelToken* token : tokens_) token->cancel();
        wake();
    });
    group_.wait();
    group_.close();
    thread_ = nullptr;
}

Async<void> Prober::run() {
    while (!is_stopping_) {
        Ticks next = begin_due_probes(clock_.ticks());
        co_await rest_until(next);
    }
}

Ticks Prober::begin_due_probes(Ticks now) {
    Ticks next = now + look_again;
    std::map<std::string, Ticks> due;
    for (const auto& provider : catalog_.current()->providers) {
        if (provider->probe_path.empty()) continue;
        auto known = due_.find(provider->name);
        Ticks at = known == due_.end() ? now : known->second;
        if (at <= now) {
            at = now + provider->probe_interval;
            if (asked_.insert(provider->name).second) group_.spawn(*thread_, probe(provider));
        }
        due[provider->name] = at;
        next = std::min(next, at);
    }
    due_ = std::move(due);
    return next;
}

Async<void> Prober::probe(std::shared_ptr<const catalog::Provider> provider) {
    http::CancelToken token;
    tokens_.insert(&token);
    http::ClientRequest request;
    request.method = http::Method::get;
    request.path = provider->probe_path;
    request.headers = "user-agent: nebula/" NEBULA_VERSION "\r\n";
    provider_of(provider->kind).add_headers(*provider, provider->api_key, request.headers);
    auto most = std::chrono::milliseconds(probe_time_max);
    request.timeouts = {.connect = std::min(provider->timeouts.connect, most),
                        .first_byte = std::min(provider->timeouts.first_byte, most),
                        .idle = most,
                        .total = most};
    auto response = co_await client_.send(provider->origin, std::move(request), &token);
    bool is_alive = response && (*response)->status() < 500;
    bool is_cancelled = !response && response.error().code == Code::cancelled;
    // Read to its end, so that the connection can be used again.
    if (response) auto rest = co_await (*response)->read_all(answer_bytes_max);
    if (!is_cancelled) {
        upstreams_.of(*provider).probed(*provider, clock_.ticks(), is_alive);
        metrics_
            .counter("nebula_upstream_probes_total", "Probes of providers in the background.",
                     {{"provider", provider->name}, {"result", is_alive ? "alive" : "dead"}})
            .add();
    }
    tokens_.erase(&token);
    asked_.erase(provider->name);
}

Async<void> Prober::rest_until(Ticks until) {
    Rest rest(*this, *thread_);
    rest.timer.arm(until);
    rest_ = &rest;
    co_await rest.done;
}

void Prober::wake() {
    Rest* rest = std::exchange(rest_, nullptr);
    if (rest == nullptr) return;
    rest->timer.disarm();
    rest->done.set(true);
}

}  // namespace nebula::gateway::routing
