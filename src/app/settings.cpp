#include "app/settings.hpp"

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/crypto.hpp"

namespace nebula::app {

void AdminSettings::describe(settings::Visitor& v) {
    v.field({.name = "listen",
             .help = "Address and port of metrics, health and the admin API. Keep it on loopback: it is for "
                     "operators."},
            listen);
}

void DataSettings::describe(settings::Visitor& v) {
    v.field(
        {.name = "dir",
         .help =
             "Directory for what is not in the database: sockets, first-start credentials. Empty: beside the "
             "SQLite file, or ./data."},
        dir);
}

void LogSettings::describe(settings::Visitor& v) {
    v.field({.name = "level",
             .help = "Least severe level that is written.",
             .apply = settings::Apply::live,
             .one_of = {"debug", "info", "warn", "error", "off"}},
            level);
}

void AppSettings::describe(settings::Visitor& v) {
    v.section({.name = "http", .help = "The API listener."}, http);
    v.section({.name = "admin", .help = "The operators' listener."}, admin);
    v.section({.name = "store", .help = "The database."}, store);
    v.section({.name = "data", .help = "Files beside the database."}, data);
    v.section({.name = "log", .help = "What is written to standard error."}, log);
    v.section({.name = "node", .help = "This process among several on one PostgreSQL database."}, node);
    v.section({.name = "people", .help = "Signing up and in, sessions."}, people);
    v.section({.name = "smtp", .help = "Outgoing mail; without a host, mails are written to the log."}, smtp);
    v.section({.name = "oidc", .help = "Signing in by an OpenID Connect provider."}, oidc);
    v.section({.name = "billing", .help = "Prepaid credits and the ledger."}, billing);
    v.section({.name = "commerce", .help = "What is sold: plans, packages, tiers."}, commerce);
    v.section({.name = "stripe", .help = "Card payments."}, stripe);
    v.section({.name = "invoice", .help = "What invoices print."}, invoice);
    v.list({.name = "plan", .help = "Subscription plans; any replaces the presets."}, plans);
    v.list({.name = "package", .help = "Credit packages; any replaces the presets."}, packages);
    v.list({.name = "tier", .help = "Limits by payments, lowest first; any replaces the presets."}, tiers);
    v.list({.name = "tax", .help = "Tax on payments by country."}, taxes);
    v.section({.name = "limits", .help = "Rate limits that apply to everybody; 0 = none."}, limits);
    v.section({.name = "gateway", .help = "The request path."}, gateway);
    v.section({.name = "request_log", .help = "What is told of requests beside their bill."}, request_log);
    v.section({.name = "telemetry", .help = "Traces for an OpenTelemetry collector."}, telemetry);
    v.section({.name = "responses", .help = "Stored responses of OpenAI's Responses API."}, responses);
    v.section({.name = "cache", .help = "Answers kept for requests that come again."}, gateway.cache);
    v.list({.name = "guardrail", .help = "What requests and answers are checked for."}, gateway.guardrails);
    v.section({.name = "runtime", .help = "Local models."}, runtime);
    v.section({.name = "secrets", .help = "The key to secrets in the database."}, secrets);
    v.section({.name = "catalog", .help = "Models that are found by themselves."}, catalog);
    v.list({.name = "provider", .help = "Who answers requests.", .apply = settings::Apply::live}, providers);
    v.list({.name = "model",
            .help = "What clients can ask for, at which price.",
            .apply = settings::Apply::live},
           models);
    v.list({.name = "alias", .help = "Further names of models.", .apply = settings::Apply::live}, aliases);
}

std::filesystem::path AppSettings::data_dir() const {
    if (!data.dir.empty()) return data.dir;
    constexpr std::string_view scheme = "sqlite:";
    if (store.url.starts_with(scheme) && store.url.find(":memory:") == std::string::npos) {
        auto parent = std::filesystem::path(store.url.substr(scheme.size())).parent_path();
        return parent.empty() ? "." : parent;
    }
    return "./data";
}

std::string AppSettings::public_url() const {
    if (!people.public_url.empty()) return people.public_url;
    return (http.tls_cert.empty() ? "http://" : "https://") + http.listen;
}

std::filesystem::path AppSettings::admin_file() const {
    Sha256 digest = sha256(store.url);
    return data_dir() / ("admin-" + to_hex(std::span(digest.bytes).first(4)) + ".json");
}

Loaded load_settings(std::string file) {
    Loaded loaded;
    bool is_chosen = !file.empty();
    if (!is_chosen) {
        const char* from_env = std::getenv("NEBULA_CONFIG");
        is_chosen = from_env != nullptr;
        file = is_chosen ? from_env : "nebula.toml";
    }
    std::string text;
    std::ifstream in(file);
    if (in) {
        std::ostringstream content;
        content << in.rdbuf();
        text = content.str();
        loaded.file = file;
    } else if (is_chosen) {
        loaded.file = file;
        loaded.problems.push_back({0, "the configuration file cannot be read"});
        return loaded;
    }
    auto describe = [&loaded](settings::Visitor& v) { loaded.settings.describe(v); };
    loaded.problems = settings::load(text, describe);
    return loaded;
}

std::string problem_text(const Loaded& loaded, const settings::Problem& problem) {
    std::string where = loaded.file.empty() ? "settings" : loaded.file;
    if (problem.line != 0) where += ":" + std::to_string(problem.line);
    return where + ": " + problem.message;
}

}  // namespace nebula::app
