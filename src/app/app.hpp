#pragma once
// Composition root: builds every service, knows the start and stop order, owns nothing else's logic.

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "app/settings.hpp"
#include "base/result.hpp"

namespace nebula::app {

/// The schema of all modules, in one list.
std::vector<store::Migration> all_migrations();

struct ServeOptions {
    /// After start, send one chat completion through the own port and print what happened.
    bool greet = false;
};

/// Runs until SIGTERM or SIGINT; SIGHUP reloads. Prints listeners and "ready" on standard output. Exit code.
int serve(Loaded loaded, ServeOptions options);

/// Operations of an operator, on the running server if there is one for this database, else directly on the
/// database.
class Operator {
   public:
    virtual ~Operator() = default;
    virtual Result<boost::json::object> call(const std::string& operation, boost::json::object arguments) = 0;
};
Result<std::unique_ptr<Operator>> connect_operator(const AppSettings& settings);

/// Mistakes between providers and models that the settings alone do not show.
std::vector<std::string> check_catalog(const AppSettings& settings);

/// Problems of a receipt file, checked offline: signature, digests, arithmetic. Empty: it is good.
Result<std::vector<std::string>> check_receipt_file(const std::string& path);

/// A provider's export of its usage (CSV or JSON lines) as the arguments "days" and "has_requests" of
/// "billing.reconcile". `columns` may rename "date", "model", "input", "output", "requests".
Result<boost::json::object> read_provider_report(const std::string& path, const boost::json::object& columns);

/// `nebula models import`: [[model]] sections from a preset, or from what a provider says that it has.
struct ImportOptions {
    std::string provider;          // name of the [[provider]] that the routes get
    std::string preset;            // instead of asking the provider
    std::string url;               // of a provider that is not configured yet
    std::string kind;              // of that one; empty: openai
    std::string write_to;          // file to append to; empty: nothing is written
    std::string tokenizer;         // file of the models' vocabulary; empty: none
    std::string tokenizer_family;  // where the file does not tell it
};
struct Imported {
    std::string text;                   // what was, or is to be, appended
    boost::json::array models;          // [{id, context_length, max_output_tokens, preset}]
    std::vector<std::string> left_out;  // ids that the file has already
    std::string tokenizer;              // what the vocabulary is, if one was named
};
/// Errors: those of the operation models.discover; invalid_request when the file is no TOML, or the
/// tokenizer none that can be counted with; nothing is
/// written then.
Result<Imported> import_models(const AppSettings& settings, const ImportOptions& options);
/// "credits, nebula-ai, …"
std::string preset_names();

/// Applies missing migrations on the database; how many there were.
Result<int> migrate(const AppSettings& settings);

/// What the first start wrote for the operator, if the file is still there: "key", "account", …
Result<boost::json::object> read_first_start(const AppSettings& settings);

/// The API address of the server running on this database ("127.0.0.1:8080"), or not_found.
Result<std::string> running_api_address(const AppSettings& settings);

}  // namespace nebula::app
