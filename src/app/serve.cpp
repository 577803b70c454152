// `nebula serve`: start order, signals, reload, drain, stop order.
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <mutex>
#include <thread>

#include "app/greeting.hpp"
#include "app/local_servers.hpp"
#include "app/services.hpp"
#include "app/upkeep.hpp"
#include "base/crypto.hpp"
#include "base/log.hpp"
#include "http/dialects.hpp"

namespace nebula::app {
namespace {

namespace json = boost::json;

void report(const Loaded& loaded) {
    for (const auto& problem : loaded.problems)
        std::fprintf(stderr, "%s\n", problem_text(loaded, problem).c_str());
}

void report(const Error& error) {
    std::fprintf(stderr, "nebula: %s%s%s\n", error.message.c_str(), error.detail.empty() ? "" : ": ",
                 error.detail.c_str());
}

constexpr std::size_t buckets_max = 1'000'000;

// Signals are taken by one sigwait; every thread inherits the block.
sigset_t block_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    signal(SIGPIPE, SIG_IGN);
    return set;
}

// Each client and each upstream connection is a descriptor.
void raise_descriptor_limit() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

std::size_t thread_count(const AppSettings& settings) {
    if (settings.http.threads > 0) return static_cast<std::size_t>(settings.http.threads);
    return std::max(1u, std::thread::hardware_concurrency());
}

// Everything that serves, in start order; destroyed in reverse.
class Server {
   public:
    Server(Loaded loaded, std::unique_ptr<Services> services)
        : loaded_(std::move(loaded)),
          services_(std::move(services)),
          limiter_(loaded_.settings.limits, services_->clock, services_->metrics, buckets_max,
                   services_->db.get(), services_->node.get(), services_->notices.get()),
          runtime_(loaded_.settings.runtime, loaded_.settings.data_dir().string(), services_->threads,
                   services_->client, services_->clock, services_->metrics),
          gateway_(loaded_.settings.gateway,
                   {services_->clock, services_->metrics, *services_->accounts, *services_->billing, limiter_,
                    loaded_.settings.limits, services_->catalog, services_->client, &runtime_, &guard_,
                    services_->log.get(), services_->tracer.get(), services_->responses.get(),
                    services_->provider_keys.get()}),
          admin_{*services_->operations, services_->metrics, random_base62(40),
                 [this] { return ready_.load(); }, [this] { return reload(); }} {
        gateway_.register_routes(api_router_);
        for (const char* prefix : {"/api/v1", "/console/api"})
            api_router_.set_dialect(prefix, http::platform_error);
        for (const char* prefix : {"/openapi/v1", "/v3"}) api_router_.set_dialect(prefix, http::novita_error);
        services_->people->register_routes(api_router_, guard_);
        services_->teams->register_routes(api_router_, guard_);
        services_->commerce->register_routes(api_router_, guard_);
        services_->bills->register_routes(api_router_, guard_);
        services_->log->register_routes(api_router_, guard_);
        services_->provider_keys->register_routes(api_router_, guard_);
        services_->operations->set_router(&api_router_);
        register_health(api_router_, [this] { return ready_.load(); });
        admin_.register_routes(admin_router_);
        admin_settings_ = loaded_.settings.http;
        admin_settings_.listen = loaded_.settings.admin.listen;
        admin_settings_.tls_cert.clear();
        admin_settings_.tls_key.clear();
        admin_settings_.cors_origins.clear();
        api_.emplace("api", loaded_.settings.http, api_router_, services_->threads, services_->clock,
                     services_->metrics);
        admin_server_.emplace("admin", admin_settings_, admin_router_, services_->threads, services_->clock,
                              services_->metrics);
    }

    std::vector<std::string> load_catalog() {
        auto built = build_catalog(loaded_.settings, runtime_.scan(), services_->clock.now());
        for (std::string& problem : gateway::check_guardrails(loaded_.settings.gateway))
            built.problems.push_back(std::move(problem));
        if (built.snapshot) services_->catalog.replace(built.snapshot);
        return built.problems;
    }

    Result<void> start() {
        if (auto ok = services_->provider_keys->start(); !ok) return ok;
        runtime_.start();
        gateway_.start(services_->threads[0]);
        if (auto ok = api_->start(); !ok) return ok;
        if (auto ok = admin_server_->start(); !ok) return ok;
        json::object admin{{"admin", admin_server_->address()},
                           {"api", api_->address()},
                           {"token", admin_.token},
                           {"pid", ::getpid()}};
        if (auto ok = write_private_file(loaded_.settings.admin_file(), json::serialize(admin) + "\n"); !ok)
            return ok;
        services_->log->start();
        services_->tracer->start();
        upkeep_.start();
        ready_ = true;
        local_servers_.start(loaded_.settings.catalog, loaded_.file);
        return {};
    }

    // SIGHUP: models, providers, prices and the log level. A file with mistakes changes nothing.
    std::vector<std::string> reload() {
        std::lock_guard lock(reload_mutex_);
        Loaded fresh = load_settings(loaded_.file);
        std::vector<std::string> problems;
        for (const auto& problem : fresh.problems) problems.push_back(problem_text(fresh, problem));
        if (problems.empty()) {
            auto built = build_catalog(fresh.settings, runtime_.scan(), services_->clock.now());
            problems = built.problems;
            if (problems.empty()) services_->catalog.replace(built.snapshot);
        }
        if (problems.empty()) {
            log::Level level = log::Level::info;
            if (log::parse_level(fresh.settings.log.level, level)) log::set_level(level);
            LOG_INFO("configuration reloaded", {"models", services_->catalog.current()->models.size()});
        }
        for (const std::string& problem : problems)
            LOG_ERROR("configuration not reloaded", {"problem", problem});
        return problems;
    }

    void stop() {
        ready_ = false;
        LOG_INFO("draining");
        api_->drain();
        if (!api_->wait_drained(loaded_.settings.http.drain_timeout))
            LOG_WARN("requests were cut off",
                     {"drain_timeout_ms", loaded_.settings.http.drain_timeout.count()});
        api_->stop();
        admin_server_->drain();
        admin_server_->stop();
        ::unlink(loaded_.settings.admin_file().c_str());
        local_servers_.stop();
        services_->provider_keys->stop();
        upkeep_.stop();
        gateway_.stop();
        runtime_.stop();
        limiter_.stop();
        services_->accounts->flush_last_used();
        services_->log->stop();
        services_->tracer->stop();
        services_->billing->stop();
        services_->node->release();
        services_->notices->stop();
    }

    const Loaded& loaded() const { return loaded_; }
    std::string api_address() const { return api_->address(); }
    std::string admin_address() const { return admin_server_->address(); }
    bool owns_database() const {
        services_->ownership->ping();
        return services_->ownership->held() && !services_->node->is_lost();
    }
    Services& services() { return *services_; }

   private:
    Loaded loaded_;
    std::unique_ptr<Services> services_;
    ratelimit::RateLimiter limiter_;
    runtime::Runtime runtime_;
    accounts::Guard guard_{*services_->accounts, *services_->people};
    gateway::Gateway gateway_;
    Upkeep upkeep_{*services_};
    LocalServers local_servers_{*services_};
    AdminApi admin_;
    http::Router api_router_, admin_router_;
    http::HttpSettings admin_settings_;
    std::optional<http::Server> api_, admin_server_;
    std::atomic<bool> ready_{false};
    std::mutex reload_mutex_;
};

// Waits for a signal that ends the process, reloading on the way. False: the database was lost to another
// process.
bool wait_for_end(Server& server, const sigset_t& signals) {
    while (true) {
        timespec second{1, 0};
        int signal = sigtimedwait(&signals, nullptr, &second);
        if (signal == SIGTERM || signal == SIGINT) return true;
        if (signal == SIGHUP) server.reload();
        if (!server.owns_database()) {
            LOG_ERROR("lost the ownership of the database; another process may serve it now");
            return false;
        }
    }
}

}  // namespace

int serve(Loaded loaded, ServeOptions options) {
    if (!loaded.problems.empty()) {
        report(loaded);
        return 2;
    }
    log::Level level = log::Level::info;
    if (log::parse_level(loaded.settings.log.level, level)) log::set_level(level);
    sigset_t signals = block_signals();
    raise_descriptor_limit();

    auto services =
        open_services(loaded.settings, std::chrono::milliseconds(5'000), thread_count(loaded.settings));
    if (!services) {
        report(services.error());
        return 1;
    }
    auto made = first_start(**services, loaded.settings);
    if (!made) {
        report(made.error());
        return 1;
    }
    Server server(std::move(loaded), std::move(*services));
    auto problems = server.load_catalog();
    for (const std::string& problem : problems) std::fprintf(stderr, "%s\n", problem.c_str());
    if (!problems.empty()) return 2;
    if (auto started = server.start(); !started) {
        report(started.error());
        return 1;
    }
    bool tls = !server.loaded().settings.http.tls_cert.empty();
    std::string url = std::string(tls ? "https" : "http") + "://" + server.api_address();
    std::printf("listening on %s\nadmin on http://%s\nready\n", url.c_str(), server.admin_address().c_str());
    std::fflush(stdout);
    LOG_INFO("started", {"version", NEBULA_VERSION}, {"api", server.api_address()},
             {"admin", server.admin_address()});
    if (options.greet) greet(server.services(), server.loaded().settings, server.api_address());
    bool orderly = wait_for_end(server, signals);
    server.stop();
    LOG_INFO("stopped");
    return orderly ? 0 : 1;
}

}  // namespace nebula::app
