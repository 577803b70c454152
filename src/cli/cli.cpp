#include "cli/cli.hpp"

#include <CLI/CLI.hpp>
#include <boost/json/array.hpp>
#include <cstdio>
#include <iostream>

#include "cli/commands.hpp"

namespace nebula::cli {
namespace {

namespace json = boost::json;

// One parser, one object: options are read into members, and the chosen command sets what to run.
class Program {
   public:
    int run(int argc, char** argv) {
        app_.require_subcommand(1);
        app_.set_version_flag("--version", std::string("nebula ") + NEBULA_VERSION);
        add_serve();
        add_users();
        add_accounts();
        add_keys();
        add_credits();
        add_usage();
        add_requests();
        add_models();
        add_chat();
        add_ledger();
        add_plans();
        add_codes();
        add_billing();
        add_receipts();
        add_routes();
        add_migrate();
        add_config();
        leaf(app_, "version", "Print the version.", [] {
            std::printf("nebula %s\n", NEBULA_VERSION);
            return 0;
        });
        try {
            app_.parse(argc, argv);
        } catch (const CLI::ParseError& e) {
            // Help and version are "errors" with code 0; everything else is wrong use.
            return app_.exit(e) == 0 ? 0 : 2;
        }
        return action_ ? action_() : 2;
    }

   private:
    CLI::App* group(const char* name, const char* help) {
        CLI::App* made = app_.add_subcommand(name, help);
        made->require_subcommand(1);
        return made;
    }
    CLI::App* leaf(CLI::App& parent, const char* name, const char* help, std::function<int()> action) {
        CLI::App* made = parent.add_subcommand(name, help);
        made->add_option("--config", common_.config,
                         "Configuration file (default: NEBULA_CONFIG, else ./nebula.toml)");
        made->callback([this, action = std::move(action)] { action_ = action; });
        return made;
    }
    CLI::App* operation(CLI::App& parent, const char* name, const char* help, const char* operation_name,
                        std::vector<Column> columns = {}) {
        CLI::App* made = leaf(parent, name, help, [this, operation_name, columns = std::move(columns)] {
            return run_operation(common_, operation_name, std::move(arguments_), columns);
        });
        made->add_flag("--json", common_.json, "Print JSON");
        return made;
    }
    // An option whose text becomes an argument of the operation.
    void argument(CLI::App* command, const std::string& option, const char* name, const char* help,
                  bool required) {
        auto take = [this, name](const std::string& text) { arguments_[name] = text; };
        auto* made = command->add_option_function<std::string>(option, take, help);
        if (required) made->required();
    }
    void number(CLI::App* command, const std::string& option, const char* name, const char* help) {
        command->add_option_function<std::int64_t>(
            option, [this, name](const std::int64_t& value) { arguments_[name] = value; }, help);
    }

    void texts(CLI::App* command, const std::string& option, const char* name, const char* help) {
        auto take = [this, name](const std::vector<std::string>& values) {
            arguments_[name] = json::array(values.begin(), values.end());
        };
        command->add_option_function<std::vector<std::string>>(option, take, help);
    }

    void add_serve() {
        auto* serve =
            leaf(app_, "serve", "Run the server until SIGTERM; SIGHUP reloads providers, models and prices.",
                 [this] { return app::serve(app::load_settings(common_.config), serve_); });
        serve->add_flag("--greet", serve_.greet, "After start, send one chat completion and show it");
    }
    void add_users() {
        auto* users = group("users", "People who sign in.");
        auto* create =
            operation(*users, "create", "Create a user; prints the password once.", "users.create");
        argument(create, "email", "email", "E-mail address", true);
        argument(create, "--role", "role", "operator or customer (default)", false);
        create->add_flag_callback(
            "--password-stdin",
            [this] {
                std::string line;
                std::getline(std::cin, line);
                arguments_["password"] = line;
            },
            "Read the password from standard input instead of making one");
        operation(*users, "list", "List users.", "users.list",
                  {{"id", "ID"}, {"email", "E-MAIL"}, {"role", "ROLE"}, {"created_at", "CREATED"}});
    }
    void add_accounts() {
        auto* accounts = group("accounts", "Who owns keys and credits.");
        auto* create = operation(*accounts, "create", "Create an account.", "accounts.create");
        argument(create, "name", "name", "Unique name", true);
        operation(*accounts, "list", "List accounts.", "accounts.list",
                  {{"id", "ID"}, {"name", "NAME"}, {"created_at", "CREATED"}});
        auto* show = operation(*accounts, "show", "Show one account with its balance.", "accounts.show");
        argument(show, "account", "account", "Id or name", true);
        auto* suspend =
            operation(*accounts, "suspend", "Refuse an account's requests at once.", "accounts.suspend");
        argument(suspend, "account", "account", "Id or name", true);
        argument(suspend, "--reason", "reason", "Kept in the account's audit log", true);
        auto* resume = operation(*accounts, "resume", "End a suspension.", "accounts.resume");
        argument(resume, "account", "account", "Id or name", true);
    }
    void add_keys() {
        auto* keys = group("keys", "API keys.");
        auto* create = operation(*keys, "create", "Create a key; it is printed once.", "keys.create");
        argument(create, "--account", "account", "Id or name of the owner", true);
        argument(create, "--name", "name", "What the key is for", true);
        number(create, "--rpm", "rpm", "Requests per minute of this key; 0 = no limit of its own");
        number(create, "--tpm", "tpm", "Tokens per minute of this key; 0 = no limit of its own");
        number(create, "--rpd", "rpd", "Requests per UTC day; 0 = no limit of its own");
        argument(create, "--budget", "budget", "Credits it may spend in all", false);
        argument(create, "--budget-daily", "budget_daily", "Credits it may spend per UTC day", false);
        argument(create, "--budget-weekly", "budget_weekly", "Credits it may spend per week", false);
        argument(create, "--budget-monthly", "budget_monthly", "Credits it may spend per month", false);
        argument(create, "--expires-at", "expires_at", "ISO 8601 time after which it is refused", false);
        argument(create, "--cache", "cache", "true: its requests take answers from the cache", false);
        texts(create, "--model", "models", "Only this model (\"qwen*\": prefix); may be repeated");
        texts(create, "--permission", "permissions",
              "Only this permission, like inference:write; repeatable");
        auto* list = operation(*keys, "list", "List keys.", "keys.list",
                               {{"id", "ID"},
                                {"account", "ACCOUNT"},
                                {"name", "NAME"},
                                {"hint", "KEY"},
                                {"created_at", "CREATED"},
                                {"revoked_at", "REVOKED"}});
        argument(list, "--account", "account", "Only of this account", false);
        auto* update = operation(*keys, "update", "Change a key; what is not named stays.", "keys.update");
        argument(update, "key", "key", "Id of the key (key_…)", true);
        argument(update, "--name", "name", "What the key is for", false);
        argument(update, "--expires-at", "expires_at", "ISO 8601 time after which it is refused", false);
        argument(update, "--disabled", "disabled", "true: refused until it is enabled again", false);
        argument(update, "--cache", "cache", "true: its requests take answers from the cache", false);
        texts(update, "--model", "models", "Only this model (\"qwen*\": prefix); may be repeated");
        auto* revoke = operation(*keys, "revoke", "Revoke a key at once.", "keys.revoke");
        argument(revoke, "key", "key", "Id of the key (key_…)", true);
    }
    void add_credits() {
        auto* credits = group("credits", "Prepaid money; 1 credit = 1 USD.");
        auto* grant = operation(*credits, "grant", "Give credits to an account.", "credits.grant");
        argument(grant, "account", "account", "Id or name", true);
        argument(grant, "amount", "amount", "Decimal number of credits; negative takes back", true);
        argument(grant, "--idempotency-key", "idempotency_key", "Repeating the call with it posts once",
                 false);
        argument(grant, "--note", "note", "Kept with the posting", false);
        auto* balance = operation(*credits, "balance", "Show what an account can spend.", "credits.balance");
        argument(balance, "account", "account", "Id or name", true);
    }
    void add_usage() {
        auto* usage = group("usage", "Metered requests.");
        auto* list = operation(*usage, "list", "Latest usage records of an account.", "usage.list",
                               {{"id", "REQUEST"},
                                {"started_at", "STARTED"},
                                {"model", "MODEL"},
                                {"input_tokens", "IN"},
                                {"output_tokens", "OUT"},
                                {"charge", "CHARGE"},
                                {"outcome", "OUTCOME"},
                                {"estimated", "ESTIMATED"}});
        argument(list, "account", "account", "Id or name", true);
        number(list, "--limit", "limit", "At most this many (default 100)");
    }
    void add_requests() {
        auto* requests = group("requests", "The request log.");
        auto* list =
            operation(*requests, "list", "Latest requests of an account, failed ones too.", "requests.list",
                      {{"id", "REQUEST"},
                       {"started_at", "STARTED"},
                       {"model", "MODEL"},
                       {"provider", "PROVIDER"},
                       {"status", "STATUS"},
                       {"error", "ERROR"},
                       {"input", "IN"},
                       {"output", "OUT"},
                       {"latency_us", "LATENCY US"}});
        argument(list, "account", "account", "Id or name", true);
        argument(list, "--model", "model", "Only of this model", false);
        argument(list, "--key", "key", "Only of this key's id", false);
        argument(list, "--status", "status", "ok, error or a status code", false);
        argument(list, "--cursor", "cursor", "Page to go on with", false);
        number(list, "--limit", "limit", "At most this many (default 100)");
    }
    void add_models() {
        auto* models = group("models", "What clients can ask for.");
        operation(*models, "list", "List models with prices and routes.", "models.list",
                  {{"id", "ID"},
                   {"context_length", "CONTEXT"},
                   {"price_input_per_m", "INPUT/M"},
                   {"price_output_per_m", "OUTPUT/M"},
                   {"routes", "ROUTES"}});
        add_import(*models);
    }
    void add_import(CLI::App& models) {
        auto* import =
            leaf(models, "import", "Print [[model]] sections of a preset, or of what a provider has.",
                 [this] { return run_import(common_, import_); });
        import->add_flag("--json", common_.json, "Print what was found as JSON");
        import->add_option("provider", import_.provider, "Name of the [[provider]] that serves them")
            ->required();
        import->add_option("--preset", import_.preset,
                           "Models and prices of a known system: " + app::preset_names());
        import->add_option("--url", import_.url,
                           "Of a provider that is not configured yet; its section comes too");
        import->add_option("--kind", import_.kind,
                           "Kind of that one: openai (default), ollama, anthropic, gemini");
        import->add_option("--tokenizer", import_.tokenizer,
                           "File of their vocabulary, for exact counts: *.tiktoken or tokenizer.json");
        import->add_option("--tokenizer-family", import_.tokenizer_family,
                           "How its texts are split, where the file does not tell it: gpt2, cl100k, …");
        import->add_option("--write", import_.write_to, "Append to this file what it does not have yet");
    }
    void add_chat() {
        auto* chat = leaf(app_, "chat", "Talk to a model: one shot with a prompt, else interactively.",
                          [this] { return run_chat(common_, chat_); });
        chat->add_option("prompt", chat_.prompt,
                         "What to say; without it, lines are read from standard input");
        chat->add_option("--model", chat_.model, "Model (default: the first)");
        chat->add_option("--system", chat_.system, "System message");
        chat->add_option("--key", chat_.key, "API key (default: NEBULA_API_KEY, else the first-start key)");
        chat->add_option("--url", chat_.url, "Server (default: the one running on this database)");
        chat->add_option("--max-tokens", chat_.max_tokens, "Longest answer")->check(CLI::NonNegativeNumber);
    }
    void add_ledger() {
        auto* ledger = group("ledger", "The double-entry ledger.");
        operation(*ledger, "verify", "Recompute every balance; exits 1 when something does not balance.",
                  "ledger.verify");
    }
    void add_plans() {
        auto* plans = group("plans", "Subscriptions of accounts.");
        auto* subscribe =
            operation(*plans, "subscribe", "Subscribe an account to a plan.", "plans.subscribe");
        argument(subscribe, "account", "account", "Id or name", true);
        argument(subscribe, "plan", "plan", "Id of the plan, like developer", true);
        auto* cancel = operation(*plans, "cancel", "End the subscription with its period.", "plans.cancel");
        argument(cancel, "account", "account", "Id or name", true);
    }
    void add_codes() {
        auto* codes = group("codes", "Promotion codes.");
        auto* create = operation(*codes, "create", "Create a promotion code.", "codes.create");
        argument(create, "amount", "amount", "Credits it gives", true);
        argument(create, "--code", "code", "Its text; made up when not given", false);
        number(create, "--uses", "uses_max", "How often in all (default 1); once per account");
        argument(create, "--expires-at", "expires_at", "ISO 8601 time until it can be redeemed", false);
        number(create, "--bonus-days", "bonus_days", "Days until the credits expire; 0 = the setting");
        argument(create, "--note", "note", "For the operator", false);
    }
    void add_billing() {
        auto* billing = group("billing", "Rating and closing.");
        auto* price = operation(*billing, "set-price",
                                "Record a model's price from a time on, for re-rating.", "prices.set");
        argument(price, "model", "model", "Id of the model", true);
        argument(price, "--input", "input_per_m", "USD per million prompt tokens", true);
        argument(price, "--output", "output_per_m", "USD per million answer tokens", true);
        argument(price, "--cached-input", "cached_input_per_m", "USD per million cached prompt tokens",
                 false);
        argument(price, "--cache-write", "cache_write_per_m", "USD per million tokens written to a cache",
                 false);
        argument(price, "--reasoning", "reasoning_per_m", "USD per million reasoning tokens", false);
        argument(price, "--request", "request", "USD per request", false);
        argument(price, "--unit", "unit", "USD per image, second, character or document", false);
        argument(price, "--from", "effective_from", "ISO 8601 time from which it holds", true);
        auto* rerate =
            operation(*billing, "rerate", "Rate usage anew by the recorded prices and post the differences.",
                      "billing.rerate");
        argument(rerate, "--from", "from", "ISO 8601 time of the first record", true);
        argument(rerate, "--to", "to", "ISO 8601 time behind the last record", true);
        argument(rerate, "--account", "account", "Only this account", false);
        rerate->add_flag_callback(
            "--dry-run", [this] { arguments_["dry_run"] = true; }, "Only tell the differences");
        auto* close =
            operation(*billing, "close-month", "Close a month that is over.", "billing.close_month");
        argument(close, "month", "month", "YYYY-MM", true);
        add_reconcile(*billing);
    }
    void add_reconcile(CLI::App& billing) {
        const std::vector<Column> columns = {{"day", "DAY"},           {"model", "MODEL"},
                                             {"requests", "REQUESTS"}, {"provider_requests", "PROVIDER"},
                                             {"input", "INPUT"},       {"provider_input", "PROVIDER"},
                                             {"output", "OUTPUT"},     {"provider_output", "PROVIDER"},
                                             {"verdict", "VERDICT"}};
        auto* reconcile = leaf(
            billing, "reconcile",
            "Compare a provider's usage export with the records; exits 1 when they differ.", [this, columns] {
                auto report = app::read_provider_report(report_file_, report_columns_);
                if (!report) return print_error(report.error());
                for (auto& member : *report) arguments_[member.key()] = member.value();
                return run_operation(common_, "billing.reconcile", std::move(arguments_), columns);
            });
        reconcile->add_flag("--json", common_.json, "Print JSON");
        reconcile->add_option("file", report_file_, "CSV with a head line, or JSON lines")->required();
        argument(reconcile, "--provider", "provider", "Name of the provider in the configuration", true);
        argument(reconcile, "--tolerance", "tolerance", "Percent that may differ (default 0)", false);
        for (const char* name : {"date", "model", "input", "output", "requests"})
            reconcile->add_option_function<std::string>(
                std::string("--") + name + "-column",
                [this, name](const std::string& text) { report_columns_[name] = text; },
                "What the export calls this column");
    }
    void add_receipts() {
        auto* receipts = group("receipts", "Signed receipts of metered requests.");
        auto* show = operation(*receipts, "show", "The receipt of one request, as JSON.", "receipts.show");
        argument(show, "account", "account", "Id or name", true);
        argument(show, "request", "request", "Id of the request (req_…)", true);
        auto* check = leaf(*receipts, "check", "Check a receipt file offline.", [this] {
            auto problems = app::check_receipt_file(receipt_file_);
            if (!problems) return print_error(problems.error());
            for (const std::string& problem : *problems) std::fprintf(stderr, "%s\n", problem.c_str());
            if (!problems->empty()) return 1;
            std::printf("the receipt is good\n");
            return 0;
        });
        check->add_option("file", receipt_file_, "JSON file")->required();
    }
    void add_routes() {
        auto* routes = group("routes", "What the running server serves.");
        operation(*routes, "list", "Every route and who may call it.", "routes.list",
                  {{"method", "METHOD"}, {"path", "PATH"}, {"access", "ACCESS"}});
    }
    void add_migrate() {
        leaf(app_, "migrate", "Bring the database to this version's schema.", [this] {
            auto settings = settings_of(common_);
            if (!settings) return 2;
            auto applied = app::migrate(*settings);
            if (!applied) return print_error(applied.error());
            std::printf("%d migrations applied\n", *applied);
            return 0;
        });
    }
    void add_config() {
        auto* config = group("config", "The configuration file.");
        leaf(*config, "explain", "Print every setting with its value, default and meaning, as TOML.", [this] {
            app::Loaded loaded = app::load_settings(common_.config);
            for (const auto& problem : loaded.problems)
                std::fprintf(stderr, "%s\n", app::problem_text(loaded, problem).c_str());
            auto describe = [&loaded](settings::Visitor& v) { loaded.settings.describe(v); };
            app::AppSettings defaults;
            auto describe_defaults = [&defaults](settings::Visitor& v) { defaults.describe(v); };
            std::fputs(settings::explain(describe, describe_defaults).c_str(), stdout);
            return loaded.problems.empty() ? 0 : 2;
        });
        leaf(*config, "check", "Report every mistake in the configuration.",
             [this] { return check_config(); });
    }
    int check_config() {
        app::Loaded loaded = app::load_settings(common_.config);
        for (const auto& problem : loaded.problems)
            std::fprintf(stderr, "%s\n", app::problem_text(loaded, problem).c_str());
        std::vector<std::string> problems = app::check_catalog(loaded.settings);
        for (const std::string& problem : problems) std::fprintf(stderr, "%s\n", problem.c_str());
        if (!loaded.problems.empty() || !problems.empty()) return 2;
        std::printf("the configuration is valid\n");
        return 0;
    }

    CLI::App app_{"Nebula: a self-hosted AI cloud"};
    Common common_;
    app::ServeOptions serve_;
    ChatOptions chat_;
    app::ImportOptions import_;
    json::object arguments_;
    std::string receipt_file_;
    std::string report_file_;
    json::object report_columns_;
    std::function<int()> action_;
};

}  // namespace

int run(int argc, char** argv) {
    try {
        Program program;
        return program.run(argc, argv);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "nebula: %s\n", e.what());
        return 1;
    }
}

}  // namespace nebula::cli
