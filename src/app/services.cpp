#include "app/services.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <condition_variable>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <sstream>

#include "base/log.hpp"
#include "ratelimit/ratelimit.hpp"

namespace nebula::app {
namespace json = boost::json;

std::vector<store::Migration> all_migrations() {
    std::vector<store::Migration> all;
    for (auto part : {store::migrations(), accounts::migrations(), billing::migrations(),
                      ratelimit::migrations(), records::migrations(), catalog::migrations()})
        all.insert(all.end(), part.begin(), part.end());
    return all;
}

Services::~Services() {
    if (billing) billing->stop();
    // Callbacks that return what this node held still need their modules.
    if (node) node->release();
    if (notices) notices->stop();
}

namespace {

// Another command may hold the database for a moment; a server holds it for long.
std::unique_ptr<store::Ownership> wait_for_ownership(store::Db& db, const Clock& clock,
                                                     std::chrono::milliseconds patience) {
    Ticks until = clock.ticks() + patience;
    std::mutex mutex;
    std::condition_variable never;
    std::unique_lock lock(mutex);
    while (true) {
        if (auto owned = db.try_own()) return owned;
        if (clock.ticks() >= until) return nullptr;
        never.wait_for(lock, std::chrono::milliseconds(50));
    }
}

// What a person gets when the address is verified: credits and a plan, if the operator gives any.
Async<Result<void>> welcome(Services& services, const accounts::PeopleSettings& settings, UserId user,
                            AccountId account) {
    auto gift = Nanos::parse(settings.sign_up_credits);
    if (gift && gift->value > 0) {
        billing::Movement movement;
        movement.account = account;
        movement.kind = billing::MovementKind::promotion;
        movement.amount = *gift;
        movement.key = "sign-up:" + user.text();
        movement.note = "welcome credits";
        auto moved = co_await services.billing->move(std::move(movement));
        if (!moved) co_return fail(std::move(moved.error()));
    }
    if (!settings.default_plan.empty()) {
        auto done = co_await services.commerce->subscribe(account, settings.default_plan, nullptr, true);
        if (!done && done.error().code != Code::conflict) co_return fail(std::move(done.error()));
    }
    co_return Result<void>();
}

Async<Result<accounts::KeyUsage>> key_usage(billing::Billing& billing, AccountId account, KeyId key) {
    auto spent = co_await billing.key_spending(account, key);
    if (!spent) co_return fail(std::move(spent.error()));
    co_return accounts::KeyUsage{spent->total,       spent->daily,       spent->weekly,
                                 spent->monthly,     spent->byok_total,  spent->byok_daily,
                                 spent->byok_weekly, spent->byok_monthly};
}

Async<Result<bool>> holds_nothing(billing::Billing& billing, AccountId account) {
    auto balance = co_await billing.balance(account);
    if (!balance) co_return fail(std::move(balance.error()));
    co_return (balance->paid.value | balance->bonus.value | balance->debt.value | balance->held.value) == 0;
}

// Lower modules ask higher ones by functions; here both are known.
void connect(Services& s, const accounts::PeopleSettings& people) {
    s.billing->set_terms_loader([commerce = s.commerce.get()](store::Tx& tx, AccountId account, Time now) {
        return commerce->load_terms(tx, account, now);
    });
    s.people->set_on_activated(
        [&s, people](UserId user, AccountId account) { return welcome(s, people, user, account); });
    s.teams->set_key_usage(
        [&s](AccountId account, KeyId key) { return key_usage(*s.billing, account, key); });
    s.teams->set_holds_nothing([&s](AccountId account) { return holds_nothing(*s.billing, account); });
    s.bills->set_list_prices([&s](std::string_view model) -> std::optional<billing::Prices> {
        auto found = s.catalog.current()->find(model);
        return found ? std::optional(found->prices) : std::nullopt;
    });
}

Result<void> make_services(Services& services, const AppSettings& settings) {
    Services& s = services;
    auto tracer = telemetry::Tracer::make(settings.telemetry, s.threads, s.client, s.clock, s.metrics);
    if (!tracer) return fail(std::move(tracer.error()));
    s.tracer = std::move(*tracer);
    s.notices = std::make_unique<store::Notices>(*s.db, settings.store, s.metrics);
    auto node = store::Node::start(settings.node, *s.db, s.clock, s.metrics);
    if (!node) return fail(std::move(node.error()));
    s.node = std::move(*node);
    set_id_node(s.node->number());
    s.accounts = std::make_unique<accounts::Accounts>(*s.db, s.clock, s.metrics, s.notices.get());
    s.billing = std::make_unique<billing::Billing>(settings.billing, *s.db, s.clock, s.metrics, s.node.get(),
                                                   s.notices.get());
    s.mailer = std::make_unique<accounts::Mailer>(settings.smtp, s.metrics);
    accounts::PeopleSettings people = settings.people;
    people.public_url = settings.public_url();
    if (people.public_url.starts_with("https:")) people.secure_cookies = true;
    s.people = std::make_unique<accounts::People>(people, settings.oidc, *s.db, *s.notices, *s.accounts,
                                                  *s.mailer, s.client, s.clock, s.metrics);
    s.teams = std::make_unique<accounts::Teams>(people, *s.db, *s.notices, *s.accounts, *s.people, *s.mailer,
                                                s.clock, s.metrics);
    billing::CommerceOptions options{settings.commerce,    settings.stripe, settings.plans,
                                     settings.packages,    settings.tiers,  settings.taxes,
                                     settings.public_url()};
    auto commerce = billing::Commerce::make(std::move(options), *s.db, *s.notices, *s.billing, *s.accounts,
                                            *s.mailer, s.client, s.clock, s.metrics);
    if (!commerce) return fail(std::move(commerce.error()));
    s.commerce = std::move(*commerce);
    s.bills = std::make_unique<billing::Bills>(settings.invoice, *s.db, *s.billing, *s.commerce, *s.accounts,
                                               s.clock, s.metrics);
    s.log = std::make_unique<records::RequestLog>(settings.request_log, *s.db, s.clock, s.metrics);
    s.responses = std::make_unique<records::StoredResponses>(settings.responses, *s.db, s.clock, s.metrics);
    std::string key_file = settings.secrets.key_file;
    if (key_file.empty()) key_file = (settings.data_dir() / "secrets.key").string();
    s.provider_keys = std::make_unique<catalog::ProviderKeys>(std::move(key_file), *s.db, *s.notices,
                                                              s.threads, s.catalog, s.clock, s.metrics);
    connect(s, people);
    s.notices->start();
    s.billing->start();
    s.operations = std::make_unique<Operations>(s);
    return {};
}

}  // namespace

Result<std::unique_ptr<Services>> open_services(const AppSettings& settings,
                                                std::chrono::milliseconds patience,
                                                std::size_t thread_count) {
    auto services = std::make_unique<Services>(thread_count);
    auto db = store::Db::open(settings.store, services->metrics);
    if (!db) return fail(std::move(db.error()));
    services->db = std::move(*db);
    services->ownership = wait_for_ownership(*services->db, services->clock, patience);
    if (!services->ownership) {
        return fail(Code::conflict,
                    "another process is using this database; stop it, or reach it through its admin "
                    "listener");
    }
    auto migrations = all_migrations();
    auto applied = services->db->migrate(migrations);
    if (!applied) return fail(std::move(applied.error()));
    if (*applied > 0) LOG_INFO("database migrated", {"steps", *applied});
    auto made = make_services(*services, settings);
    if (!made) return fail(std::move(made.error()));
    return services;
}

Result<int> migrate(const AppSettings& settings) {
    metrics::Registry metrics;
    SystemClock clock;
    auto db = store::Db::open(settings.store, metrics);
    if (!db) return fail(std::move(db.error()));
    auto owned = wait_for_ownership(**db, clock, std::chrono::milliseconds(2'000));
    if (!owned)
        return fail(Code::conflict, "a server is running on this database; it has migrated it already");
    auto migrations = all_migrations();
    return (*db)->migrate(migrations);
}

Result<void> write_private_file(const std::filesystem::path& path, const std::string& text) {
    std::error_code ignored;
    if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), ignored);
    std::string temporary = path.string() + ".new";
    int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return fail(Code::internal, "cannot write " + path.string(), {}, std::strerror(errno));
    bool ok = ::fchmod(fd, 0600) == 0 &&
              ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(fd) == 0;
    ::close(fd);
    if (!ok || ::rename(temporary.c_str(), path.c_str()) != 0)
        return fail(Code::internal, "cannot write " + path.string(), {}, std::strerror(errno));
    return {};
}

Result<std::string> read_file(const std::filesystem::path& path) {
    std::ifstream in(path);
    if (!in) return fail(Code::not_found, "cannot read " + path.string());
    std::ostringstream content;
    content << in.rdbuf();
    return content.str();
}

Result<json::object> first_start(Services& services, const AppSettings& settings) {
    auto any = sync_wait(services.accounts->has_any_user());
    if (!any) return fail(std::move(any.error()));
    if (*any) return json::object();

    auto run = [&services](const char* operation, json::object arguments) {
        return sync_wait(services.operations->call(operation, std::move(arguments)));
    };
    // The account may be left over from a first start that was cut off, or made by the command line before:
    // keep it.
    auto account = run("accounts.create", {{"name", "default"}});
    if (!account && account.error().code == Code::conflict)
        account = run("accounts.show", {{"account", "default"}});
    if (!account) return account;
    json::value account_id = account->at("id");
    auto granted = run("credits.grant", {{"account", account_id},
                                         {"amount", "10"},
                                         {"idempotency_key", "first-start"},
                                         {"note", "welcome credits"}});
    if (!granted) return granted;
    auto key = run("keys.create", {{"account", account_id}, {"name", "first key"}});
    if (!key) return key;
    // Last: its presence says that the first start is complete.
    auto user = run("users.create", {{"email", "operator@localhost"}, {"role", "operator"}});
    if (!user && user.error().code == Code::conflict) {
        // Another node on this database started for the first time too, and was faster: what it made stays.
        auto revoked = run("keys.revoke", {{"key", key->at("id")}});
        if (!revoked) return revoked;
        return json::object();
    }
    if (!user) return user;

    json::object made{{"operator", user->at("email")},
                      {"password", user->at("password")},
                      {"account", account_id},
                      {"key", key->at("key")}};
    auto path = settings.data_dir() / "first-start.json";
    auto written = write_private_file(path, json::serialize(made) + "\n");
    if (!written) return fail(std::move(written.error()));
    std::printf("first start: operator %s, password %s\n", user->at("email").as_string().c_str(),
                user->at("password").as_string().c_str());
    std::printf("first start: account %s (default, 10 credits), key %s\n", account_id.as_string().c_str(),
                key->at("key").as_string().c_str());
    std::printf("first start: shown once; also kept in %s (only you can read it)\n", path.c_str());
    std::fflush(stdout);
    return made;
}

Result<json::object> read_first_start(const AppSettings& settings) {
    auto text = read_file(settings.data_dir() / "first-start.json");
    if (!text) return fail(std::move(text.error()));
    boost::system::error_code failed;
    json::value value = json::parse(*text, failed);
    if (failed || !value.is_object()) return fail(Code::not_found, "the first-start file is damaged");
    return value.get_object();
}

catalog::Built build_catalog(const AppSettings& settings, const std::vector<runtime::ModelFile>& files,
                             Time now) {
    std::vector<catalog::LocalModel> local;
    for (const runtime::ModelFile& file : files) local.push_back({file.id, file.context_length});
    return catalog::build(settings.providers, settings.models, local, now, settings.aliases);
}

std::vector<std::string> check_catalog(const AppSettings& settings) {
    auto problems = build_catalog(settings, runtime::find_model_files(settings.runtime), Time()).problems;
    for (std::string& problem : gateway::check_guardrails(settings.gateway))
        problems.push_back(std::move(problem));
    return problems;
}

}  // namespace nebula::app
