#pragma once
// The whole configuration: every module's settings under its section.

#include <filesystem>
#include <string>
#include <vector>

#include "accounts/people.hpp"
#include "base/settings.hpp"
#include "billing/billing.hpp"
#include "billing/bills.hpp"
#include "billing/commerce.hpp"
#include "catalog/catalog.hpp"
#include "catalog/provider_keys.hpp"
#include "gateway/gateway.hpp"
#include "http/http.hpp"
#include "ratelimit/ratelimit.hpp"
#include "records/records.hpp"
#include "records/stored_responses.hpp"
#include "runtime/runtime.hpp"
#include "store/node.hpp"
#include "store/store.hpp"
#include "telemetry/telemetry.hpp"

namespace nebula::app {

struct AdminSettings {  // [admin]
    std::string listen = "127.0.0.1:9090";
    void describe(settings::Visitor& v);
};
struct DataSettings {  // [data]
    std::string dir;   // empty: the SQLite file's directory, else ./data
    void describe(settings::Visitor& v);
};
struct LogSettings {  // [log]
    std::string level = "info";
    void describe(settings::Visitor& v);
};

struct AppSettings {
    http::HttpSettings http;
    AdminSettings admin;
    store::StoreSettings store;
    DataSettings data;
    LogSettings log;
    billing::BillingSettings billing;
    ratelimit::LimitSettings limits;
    gateway::GatewaySettings gateway;
    records::RequestLogSettings request_log;
    telemetry::TelemetrySettings telemetry;
    records::ResponsesSettings responses;
    runtime::RuntimeSettings runtime;
    store::NodeSettings node;
    accounts::PeopleSettings people;
    accounts::SmtpSettings smtp;
    accounts::OidcSettings oidc;
    billing::CommerceSettings commerce;
    billing::StripeSettings stripe;
    billing::InvoiceSettings invoice;
    std::vector<billing::PlanSettings> plans;
    std::vector<billing::PackageSettings> packages;
    std::vector<billing::TierSettings> tiers;
    std::vector<billing::TaxSettings> taxes;
    catalog::CatalogSettings catalog;
    catalog::SecretSettings secrets;
    std::vector<catalog::ProviderSettings> providers;
    std::vector<catalog::ModelSettings> models;
    std::vector<catalog::AliasSettings> aliases;
    void describe(settings::Visitor& v);

    std::filesystem::path data_dir() const;
    /// Of the console, for links in mails and for returning from a payment page.
    std::string public_url() const;
    /// Where a serving process leaves its admin address and token for the command line: one file per
    /// database.
    std::filesystem::path admin_file() const;
};

struct Loaded {
    AppSettings settings;
    std::string file;  // empty = defaults and environment only
    std::vector<settings::Problem> problems;
};
/// `file` empty: NEBULA_CONFIG, else ./nebula.toml if it exists, else defaults. A file that cannot be read is
/// a problem.
Loaded load_settings(std::string file);
/// "FILE:LINE: message" or "FILE: message".
std::string problem_text(const Loaded& loaded, const settings::Problem& problem);

}  // namespace nebula::app
