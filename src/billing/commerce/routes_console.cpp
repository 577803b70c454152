#include "billing/commerce/routes.hpp"

namespace nebula::billing::commerce {

using accounts::Access;
using accounts::Permission;
using http::Method;
using http::platform_success;

namespace {

json::array texts(const std::vector<std::string>& list) {
    json::array array;
    for (const std::string& text : list) array.emplace_back(text);
    return array;
}

json::object plan_object(const PlanSettings& plan) {
    return {{"id", plan.id},
            {"name", plan.name},
            {"price", plan.price.text()},
            {"quota_input", plan.quota_input},
            {"quota_output", plan.quota_output},
            {"model_classes", texts(plan.model_classes)},
            {"features", texts(plan.features)},
            {"may_overrun", plan.may_overrun},
            {"contact_only", plan.contact_only},
            {"bonus", plan.bonus.text()}};
}

json::value text_or_null(const std::string& text) {
    if (text.empty()) return nullptr;
    return json::value(text);
}

json::object view_object(const PlanView& view) {
    if (view.plan == nullptr) return {{"plan", nullptr}};
    const Subscription& row = view.row;
    return {{"plan", plan_object(*view.plan)},
            {"period_start", to_iso8601(row.period_start)},
            {"period_end", to_iso8601(row.period_end)},
            {"next_plan", text_or_null(row.next_plan)},
            {"cancel_at_period_end", row.cancel_at_period_end},
            {"quota", json::object{{"period_start", to_iso8601(view.quota_start)},
                                   {"period_end", to_iso8601(view.quota_end)},
                                   {"input", view.plan->quota_input},
                                   {"output", view.plan->quota_output},
                                   {"used_input", view.used.input},
                                   {"used_output", view.used.output}}}};
}

json::object profile_object(const Profile& profile) {
    return {{"name", profile.name},
            {"address", profile.address},
            {"tax_number", profile.tax_number},
            {"country", profile.country}};
}

json::object code_object(const CodeRow& row) {
    json::object object{{"code", row.code},      {"amount", row.amount.text()},
                        {"uses", row.uses},      {"uses_max", row.uses_max},
                        {"expires_at", nullptr}, {"bonus_days", row.bonus_days},
                        {"note", row.note},      {"created_at", to_iso8601(row.created_at)}};
    if (row.expires_at) object["expires_at"] = to_iso8601(*row.expires_at);
    return object;
}

Result<AccountId> account_of(const http::Exchange& exchange) {
    auto id = AccountId::parse(exchange.path_param("id"));
    if (!id) return fail(Code::not_found, "there is no such account", "account");
    return *id;
}

json::object suspension_object(const std::optional<Commerce::Suspension>& found) {
    if (!found) return {{"suspended", false}, {"reason", nullptr}, {"since", nullptr}};
    return {{"suspended", true}, {"reason", found->reason}, {"since", to_iso8601(found->since)}};
}

}  // namespace

json::object payment_object(const Payment& payment) {
    json::object object{{"id", payment.id.text()},
                        {"kind", payment.kind},
                        {"status", payment.status},
                        {"amount", payment.net.text()},
                        {"bonus", payment.bonus.text()},
                        {"tax", payment.tax.text()},
                        {"tax_name", payment.tax_name},
                        {"total", (payment.net + payment.tax).text()},
                        {"currency", payment.currency},
                        {"payment_intent", text_or_null(payment.intent)},
                        {"failure", text_or_null(payment.failure)},
                        {"created_at", to_iso8601(payment.created_at)},
                        {"completed_at", nullptr}};
    if (payment.completed_at) object["completed_at"] = to_iso8601(*payment.completed_at);
    return object;
}

void Routes::add_console(http::Router& router, accounts::Guard& guard) {
    using R = Routes;
    const Access reads = Access::account(Permission::billing_read);
    const Access writes = Access::account(Permission::billing_write);
    // The price list is public.
    add(router, guard, Method::get, "/console/api/plans", Access::anyone(), &R::plans);
    add(router, guard, Method::get, "/console/api/packages", Access::anyone(), &R::packages);
    add(router, guard, Method::get, "/console/api/subscription", reads, &R::subscription);
    add(router, guard, Method::post, "/console/api/subscription", writes, &R::subscribe);
    add(router, guard, Method::del, "/console/api/subscription", writes, &R::unsubscribe);
    add(router, guard, Method::post, "/console/api/billing/checkout", writes, &R::checkout);
    add(router, guard, Method::get, "/console/api/billing/profile", reads, &R::get_profile);
    add(router, guard, Method::put, "/console/api/billing/profile", writes, &R::put_profile);
    add(router, guard, Method::post, "/console/api/billing/redeem", writes, &R::redeem);
    add(router, guard, Method::get, "/console/api/billing/auto-pay", reads, &R::get_auto_pay);
    add(router, guard, Method::put, "/console/api/billing/auto-pay", writes, &R::put_auto_pay);
    add(router, guard, Method::get, "/console/api/billing/payments", reads, &R::payments);
    add(router, guard, Method::get, "/console/api/operator/codes", Access::operator_(), &R::list_codes);
    add(router, guard, Method::post, "/console/api/operator/codes", Access::operator_(), &R::create_code);
    const char* suspension = "/console/api/operator/accounts/{id}/suspension";
    add(router, guard, Method::get, suspension, Access::operator_(), &R::show_suspension);
    add(router, guard, Method::post, suspension, Access::operator_(), &R::suspend);
    add(router, guard, Method::del, suspension, Access::operator_(), &R::resume);
}

Async<Routes::Answer> Routes::plans(Exchange&, Caller) {
    json::array list;
    for (const PlanSettings& plan : shop_.goods().plans) list.push_back(plan_object(plan));
    co_return platform_success(json::object{{"plans", std::move(list)}}, "Plans retrieved successfully");
}

Async<Routes::Answer> Routes::packages(Exchange&, Caller) {
    json::array list;
    for (const PackageSettings& package : shop_.goods().packages)
        list.push_back(json::object{{"price", package.price.text()}, {"bonus", package.bonus.text()}});
    json::object data{{"packages", std::move(list)},
                      {"minimum_payment", shop_.goods().minimum_payment.text()},
                      {"maximum_payment", shop_.goods().maximum_payment.text()},
                      {"currency", shop_.goods().currency},
                      {"card_payments", shop_.takes_cards()}};
    co_return platform_success(std::move(data), "Packages retrieved successfully");
}

Async<Routes::Answer> Routes::subscription(Exchange&, Caller caller) {
    auto view = co_await shop_.plan_view(caller.account);
    if (!view) co_return fail(std::move(view.error()));
    co_return platform_success(view_object(*view), "Subscription retrieved successfully");
}

Async<Routes::Answer> Routes::subscribe(Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_form_or_fields(exchange);
    if (!fields) co_return fail(std::move(fields.error()));
    std::string plan = fields->text("plan");
    fields->only({"plan"});
    auto good = fields->error();
    if (!good) co_return fail(std::move(good.error()));
    auto done = co_await shop_.subscribe(caller.account, std::move(plan), &caller, false);
    if (!done) co_return fail(std::move(done.error()));
    auto view = co_await shop_.plan_view(caller.account);
    if (!view) co_return fail(std::move(view.error()));
    co_return platform_success(view_object(*view), "Subscription updated successfully");
}

Async<Routes::Answer> Routes::unsubscribe(Exchange&, Caller caller) {
    auto done = co_await shop_.cancel(caller.account, &caller);
    if (!done) co_return fail(std::move(done.error()));
    auto view = co_await shop_.plan_view(caller.account);
    if (!view) co_return fail(std::move(view.error()));
    co_return platform_success(view_object(*view), "Subscription cancelled successfully");
}

Async<Routes::Answer> Routes::get_profile(Exchange&, Caller caller) {
    auto profile = co_await shop_.profile(caller.account);
    if (!profile) co_return fail(std::move(profile.error()));
    co_return platform_success(profile_object(*profile), "Billing profile retrieved successfully");
}

Async<Routes::Answer> Routes::put_profile(Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(std::move(fields.error()));
    auto before = co_await shop_.profile(caller.account);
    if (!before) co_return fail(std::move(before.error()));
    // What is not named stays.
    Profile profile = *before;
    profile.name = fields->text_or("name", profile.name);
    profile.address = fields->text_or("address", profile.address);
    std::erase(profile.address, '\r');  // a browser's lines end with CR LF
    profile.tax_number = fields->text_or("tax_number", profile.tax_number);
    profile.country = fields->text_or("country", profile.country);
    fields->only({"name", "address", "tax_number", "country"});
    auto good = fields->error();
    if (!good) co_return fail(std::move(good.error()));
    json::object shown = profile_object(profile);
    auto saved = co_await shop_.save_profile(std::move(caller), std::move(profile));
    if (!saved) co_return fail(std::move(saved.error()));
    co_return platform_success(std::move(shown), "Billing profile updated successfully");
}

Async<Routes::Answer> Routes::payments(Exchange& exchange, Caller caller) {
    http::Params params = http::query(exchange.head());
    auto limit = params.integer("limit", 50, 1, 200);
    if (!limit) co_return fail(std::move(limit.error()));
    PaymentId before;
    if (auto name = params.get("before"); name && !name->empty()) {
        auto id = PaymentId::parse(*name);
        if (!id) co_return fail(Code::invalid_request, "'before' must be the id of a payment", "before");
        before = *id;
    }
    auto rows = co_await shop_.payments(caller.account, before, *limit);
    if (!rows) co_return fail(std::move(rows.error()));
    json::array list;
    for (const Payment& payment : *rows) list.push_back(payment_object(payment));
    co_return platform_success(json::object{{"payments", std::move(list)}},
                               "Payments retrieved successfully");
}

Async<Routes::Answer> Routes::list_codes(Exchange&, Caller) {
    auto rows = co_await shop_.list_codes();
    if (!rows) co_return fail(std::move(rows.error()));
    json::array list;
    for (const CodeRow& row : *rows) list.push_back(code_object(row));
    co_return platform_success(json::object{{"codes", std::move(list)}},
                               "Promotion codes retrieved successfully");
}

Async<Routes::Answer> Routes::create_code(Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(std::move(fields.error()));
    Commerce::NewCode wanted;
    wanted.code = fields->text_or("code", {});
    wanted.amount = fields->credits("amount");
    wanted.uses_max = fields->integer_or("uses_max", 1, 1, 1'000'000'000);
    wanted.expires_at = fields->time_or_none("expires_at");
    wanted.bonus_days = fields->integer_or("bonus_days", 0, 0, 36'500);
    wanted.note = fields->text_or("note", {});
    fields->only({"code", "amount", "uses_max", "expires_at", "bonus_days", "note"});
    auto good = fields->error();
    if (!good) co_return fail(std::move(good.error()));
    auto made = co_await shop_.create_code(std::move(wanted), &caller);
    if (!made) co_return fail(std::move(made.error()));
    CodeRow row{made->code,       made->amount,     0,          made->uses_max,
                made->expires_at, made->bonus_days, made->note, clock_.now()};
    co_return platform_success(code_object(row), "Promotion code created successfully");
}

Async<Routes::Answer> Routes::show_suspension(Exchange& exchange, Caller) {
    auto account = account_of(exchange);
    if (!account) co_return fail(std::move(account.error()));
    auto found = co_await shop_.suspension(*account);
    if (!found) co_return fail(std::move(found.error()));
    co_return platform_success(suspension_object(*found), "Suspension retrieved successfully");
}

Async<Routes::Answer> Routes::suspend(Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(std::move(fields.error()));
    std::string reason = fields->text("reason");
    fields->only({"reason"});
    auto good = fields->error();
    if (!good) co_return fail(std::move(good.error()));
    auto account = account_of(exchange);
    if (!account) co_return fail(std::move(account.error()));
    auto made = co_await shop_.suspend(*account, std::move(reason), &caller);
    if (!made) co_return fail(std::move(made.error()));
    co_return platform_success(suspension_object(*made), "Account suspended successfully");
}

Async<Routes::Answer> Routes::resume(Exchange& exchange, Caller caller) {
    auto account = account_of(exchange);
    if (!account) co_return fail(std::move(account.error()));
    auto done = co_await shop_.resume(*account, &caller);
    if (!done) co_return fail(std::move(done.error()));
    co_return platform_success(suspension_object(std::nullopt), "Account resumed successfully");
}

}  // namespace nebula::billing::commerce
