#pragma once
// Database and domain services, shared by the serving process and the command line's direct mode.

#include <filesystem>
#include <memory>

#include "accounts/accounts.hpp"
#include "accounts/people.hpp"
#include "accounts/teams.hpp"
#include "app/app.hpp"
#include "app/operations.hpp"
#include "base/clock.hpp"
#include "billing/billing.hpp"
#include "billing/bills.hpp"
#include "billing/commerce.hpp"
#include "catalog/catalog.hpp"
#include "http/client.hpp"
#include "records/records.hpp"
#include "records/stored_responses.hpp"
#include "store/node.hpp"
#include "store/notices.hpp"
#include "store/store.hpp"
#include "telemetry/telemetry.hpp"

namespace nebula::app {

/// In order of need; destroyed in reverse.
struct Services {
    explicit Services(std::size_t thread_count) : threads(clock, thread_count) {}
    ~Services();

    SystemClock clock;
    metrics::Registry metrics;
    IoThreads threads;
    http::Client client{{}, threads, clock, metrics};
    std::unique_ptr<telemetry::Tracer> tracer;
    std::unique_ptr<store::Db> db;
    std::unique_ptr<store::Ownership> ownership;  // SQLite: this process alone
    std::unique_ptr<store::Notices> notices;
    std::unique_ptr<store::Node> node;
    std::unique_ptr<accounts::Accounts> accounts;
    std::unique_ptr<billing::Billing> billing;
    std::unique_ptr<accounts::Mailer> mailer;
    std::unique_ptr<accounts::People> people;
    std::unique_ptr<accounts::Teams> teams;
    std::unique_ptr<billing::Commerce> commerce;
    std::unique_ptr<billing::Bills> bills;
    std::unique_ptr<records::RequestLog> log;
    std::unique_ptr<records::StoredResponses> responses;
    catalog::Catalog catalog;
    std::unique_ptr<catalog::ProviderKeys> provider_keys;
    std::unique_ptr<Operations> operations;
};

/// Opens, takes ownership (SQLite: waiting up to `patience` for a command that holds it) or joins the other
/// nodes (PostgreSQL), migrates and starts billing.
Result<std::unique_ptr<Services>> open_services(const AppSettings& settings,
                                                std::chrono::milliseconds patience,
                                                std::size_t thread_count = 1);

/// Writes text to a file only its owner may read, replacing it whole.
Result<void> write_private_file(const std::filesystem::path& path, const std::string& text);
Result<std::string> read_file(const std::filesystem::path& path);

/// On an empty database: operator, default account with 10 credits, key. Prints them once and keeps them in
/// <data>/first-start.json (0600). Empty object otherwise.
Result<boost::json::object> first_start(Services& services, const AppSettings& settings);

/// Reads models of the file and the local ones into a snapshot.
catalog::Built build_catalog(const AppSettings& settings, const std::vector<runtime::ModelFile>& files,
                             Time now);

/// The operators' routes: /metrics, /healthz, /readyz and POST /admin/v1/{operation} with the token of the
/// admin file.
struct AdminApi {
    Operations& operations;
    metrics::Registry& metrics;
    std::string token;
    std::function<bool()> is_ready;
    std::function<std::vector<std::string>()> reload;  // problems; empty = done

    void register_routes(http::Router& router);
    Async<void> call_operation(http::Exchange& exchange);
};
/// /healthz and /readyz, on both listeners.
void register_health(http::Router& router, std::function<bool()> is_ready);
/// {"error":{"code","message","param"}} with the status of the code.
http::Response admin_error(const Error& error, RequestId request);

}  // namespace nebula::app
