// Operations around selling and rating; see operations.cpp for the table.
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <map>

#include "app/operations.hpp"
#include "app/services.hpp"
#include "billing/bills/reconcile.hpp"
#include "billing/ledger/receipt.hpp"
#include "http/json_api.hpp"

namespace nebula::app {
namespace {

namespace json = boost::json;

json::value time_json(const std::optional<Time>& time) {
    return time ? json::value(to_iso8601(*time)) : json::value(nullptr);
}

namespace bills = billing::bills;

// [day, model, requests, input, output] as read_provider_report() makes them.
Result<bills::ProviderReport> report_of(http::Fields& fields) {
    bills::ProviderReport report;
    report.has_requests = fields.flag_or("has_requests", true);
    const json::value* days = fields.raw("days");
    auto bad =
        fail(Code::invalid_request, "'days' must be a list of [day, model, requests, input, output]", "days");
    if (days == nullptr || !days->is_array()) return bad;
    for (const json::value& item : days->get_array()) {
        const json::array* row = item.if_array();
        bool is_row = row != nullptr && row->size() == 5 && (*row)[0].is_string() && (*row)[1].is_string() &&
                      (*row)[2].is_int64() && (*row)[3].is_int64() && (*row)[4].is_int64();
        if (!is_row) return bad;
        std::string day((*row)[0].get_string()), model((*row)[1].get_string());
        if (day.size() != 10 || !http::parse_iso8601(day)) return bad;
        report.use[{day, model}] = {(*row)[2].get_int64(), (*row)[3].get_int64(), (*row)[4].get_int64()};
    }
    return report;
}

// The provider's names of models that it serves now; others are called as they are here.
bills::UpstreamName upstream_names(const catalog::Catalog& catalog, const std::string& provider) {
    std::map<std::string, std::string, std::less<>> names;
    for (const auto& model : catalog.current()->models)
        for (const auto& route : model->routes)
            if (route.provider->name == provider) names[model->id] = route.upstream_model;
    return [names = std::move(names)](std::string_view model) {
        auto found = names.find(model);
        return found == names.end() ? std::string(model) : found->second;
    };
}

}  // namespace

Result<json::object> read_provider_report(const std::string& path, const json::object& columns) {
    auto text = read_file(path);
    if (!text) return fail(std::move(text.error()));
    bills::ReportColumns names;
    for (auto [name, into] :
         {std::pair("date", &names.date), std::pair("model", &names.model), std::pair("input", &names.input),
          std::pair("output", &names.output), std::pair("requests", &names.requests)})
        if (const json::value* given = columns.if_contains(name); given != nullptr && given->is_string())
            *into = given->get_string();
    auto report = bills::read_report(*text, names);
    if (!report) return fail(std::move(report.error()));
    json::array days;
    for (const auto& [key, use] : report->use)
        days.push_back(json::array{key.first, key.second, use.requests, use.input, use.output});
    return json::object{{"days", std::move(days)}, {"has_requests", report->has_requests}};
}

Result<std::vector<std::string>> check_receipt_file(const std::string& path) {
    auto text = read_file(path);
    if (!text) return fail(std::move(text.error()));
    return billing::ledger::check_receipt(*text);
}

Async<Result<AccountId>> Operations::account_of(std::string id_or_name) {
    auto account = co_await accounts_.account(std::move(id_or_name));
    if (!account) co_return fail(std::move(account.error()));
    co_return account->id;
}

Operations::Answer Operations::routes_list(json::object) {
    if (router_ == nullptr) co_return fail(Code::not_found, "no server is running");
    json::array data;
    for (const auto& route : router_->table())
        data.push_back(json::object{
            {"method", http::method_name(route.method)}, {"path", route.pattern}, {"access", route.access}});
    co_return json::object{{"data", std::move(data)}};
}

Operations::Answer Operations::receipts_show(json::object arguments) {
    http::Fields fields(std::move(arguments));
    std::string owner = fields.text("account");
    auto request = RequestId::parse(fields.text("request"));
    if (!request) fields.refuse("request", "must be the id of a request, like req_…");
    if (auto ok = fields.error(); !ok) co_return fail(ok.error());
    auto account = co_await account_of(std::move(owner));
    if (!account) co_return fail(std::move(account.error()));
    auto receipt = co_await billing_.receipt(*account, *request);
    if (!receipt) co_return fail(std::move(receipt.error()));
    co_return json::parse(*receipt).as_object();
}

Operations::Answer Operations::plans_subscribe(json::object arguments) {
    http::Fields fields(std::move(arguments));
    std::string owner = fields.text("account");
    std::string plan = fields.text("plan");
    if (auto ok = fields.error(); !ok) co_return fail(ok.error());
    auto account = co_await account_of(std::move(owner));
    if (!account) co_return fail(std::move(account.error()));
    auto done = co_await services_.commerce->subscribe(*account, plan, nullptr, true);
    if (!done) co_return fail(std::move(done.error()));
    co_return json::object{{"account", account->text()}, {"plan", plan}};
}

Operations::Answer Operations::plans_cancel(json::object arguments) {
    http::Fields fields(std::move(arguments));
    std::string owner = fields.text("account");
    if (auto ok = fields.error(); !ok) co_return fail(ok.error());
    auto account = co_await account_of(std::move(owner));
    if (!account) co_return fail(std::move(account.error()));
    auto done = co_await services_.commerce->cancel(*account, nullptr);
    if (!done) co_return fail(std::move(done.error()));
    co_return json::object{{"account", account->text()}, {"cancelled", true}};
}

Operations::Answer Operations::accounts_suspend(json::object arguments) {
    http::Fields fields(std::move(arguments));
    std::string owner = fields.text("account");
    std::string reason = fields.text("reason");
    if (auto ok = fields.error(); !ok) co_return fail(ok.error());
    auto account = co_await account_of(std::move(owner));
    if (!account) co_return fail(std::move(account.error()));
    auto made = co_await services_.commerce->suspend(*account, std::move(reason), nullptr);
    if (!made) co_return fail(std::move(made.error()));
    co_return json::object{{"account", account->text()},
                           {"suspended", true},
                           {"reason", made->reason},
                           {"since", to_iso8601(made->since)}};
}

Operations::Answer Operations::accounts_resume(json::object arguments) {
    http::Fields fields(std::move(arguments));
    std::string owner = fields.text("account");
    if (auto ok = fields.error(); !ok) co_return fail(ok.error());
    auto account = co_await account_of(std::move(owner));
    if (!account) co_return fail(std::move(account.error()));
    auto done = co_await services_.commerce->resume(*account, nullptr);
    if (!done) co_return fail(std::move(done.error()));
    co_return json::object{{"account", account->text()}, {"suspended", false}};
}

Operations::Answer Operations::codes_create(json::object arguments) {
    http::Fields fields(std::move(arguments));
    billing::Commerce::NewCode wanted;
    wanted.code = fields.text_or("code", "");
    wanted.amount = fields.credits("amount");
    wanted.uses_max = fields.integer_or("uses_max", 1, 1, 1'000'000'000);
    wanted.expires_at = fields.time_or_none("expires_at");
    wanted.bonus_days = fields.integer_or("bonus_days", 0, 0, 36'500);
    wanted.note = fields.text_or("note", "");
    if (auto ok = fields.error(); !ok) co_return fail(ok.error());
    auto made = co_await services_.commerce->create_code(std::move(wanted));
    if (!made) co_return fail(std::move(made.error()));
    co_return json::object{{"code", made->code},
                           {"amount", made->amount.text()},
                           {"uses_max", made->uses_max},
                           {"expires_at", time_json(made->expires_at)}};
}

Operations::Answer Operations::prices_set(json::object arguments) {
    http::Fields fields(std::move(arguments));
    std::string model = fields.text("model");
    billing::Prices prices = billing::read_prices(fields);
    auto from = fields.time_or_none("effective_from");
    if (auto ok = fields.error(); !ok) co_return fail(ok.error());
    auto done = co_await services_.bills->set_price(model, prices, from.value_or(Time()));
    if (!done) co_return fail(std::move(done.error()));
    co_return json::object{{"model", model}, {"effective_from", time_json(from)}};
}

Operations::Answer Operations::billing_rerate(json::object arguments) {
    http::Fields fields(std::move(arguments));
    auto from = fields.time_or_none("from");
    auto to = fields.time_or_none("to");
    std::string owner = fields.text_or("account", "");
    bool dry_run = fields.flag_or("dry_run", false);
    if (auto ok = fields.error(); !ok) co_return fail(ok.error());
    std::optional<AccountId> only;
    if (!owner.empty()) {
        auto account = co_await account_of(std::move(owner));
        if (!account) co_return fail(std::move(account.error()));
        only = *account;
    }
    auto done = co_await services_.bills->rerate(from.value_or(Time()), to.value_or(Time()), only, dry_run);
    if (!done) co_return fail(std::move(done.error()));
    co_return json::object{{"records", done->records},
                           {"corrected", done->corrected},
                           {"difference", done->difference.text()},
                           {"dry_run", dry_run}};
}

Operations::Answer Operations::billing_close_month(json::object arguments) {
    http::Fields fields(std::move(arguments));
    std::string month = fields.text("month");
    if (auto ok = fields.error(); !ok) co_return fail(ok.error());
    auto made = co_await services_.bills->close_month(month);
    if (!made) co_return fail(std::move(made.error()));
    co_return json::object{{"month", month}, {"bills", *made}};
}

Operations::Answer Operations::billing_reconcile(json::object arguments) {
    http::Fields fields(std::move(arguments));
    std::string provider = fields.text("provider");
    Nanos tolerance = fields.credits_or_none("tolerance").value_or(Nanos{});
    if (tolerance < Nanos{}) fields.refuse("tolerance", "must not be negative");
    auto theirs = report_of(fields);
    if (auto ok = fields.error(); !ok) co_return fail(ok.error());
    if (!theirs) co_return fail(std::move(theirs.error()));
    auto ours = co_await bills::recorded_use(*services_.db, provider, bills::window_of(*theirs),
                                             upstream_names(catalog_, provider));
    if (!ours) co_return fail(std::move(ours.error()));
    json::array data;
    bool is_balanced = true;
    for (const bills::Difference& one : bills::differences(*ours, *theirs, tolerance)) {
        is_balanced = is_balanced && one.is_within;
        json::object row{{"day", one.day}, {"model", one.model}};
        for (auto [name, here, there] : {std::tuple("requests", one.ours.requests, one.theirs.requests),
                                         std::tuple("input", one.ours.input, one.theirs.input),
                                         std::tuple("output", one.ours.output, one.theirs.output)}) {
            bool is_known = theirs->has_requests || std::string_view(name) != "requests";
            row[name] = here;
            row[std::string("provider_") + name] = is_known ? json::value(there) : json::value(nullptr);
        }
        row["verdict"] = one.is_within ? "within" : "outside";
        data.push_back(std::move(row));
    }
    co_return json::object{{"balanced", is_balanced}, {"data", std::move(data)}};
}

}  // namespace nebula::app
