// Which path is which page, in whose dialect, for whom.
#include "billing/bills/pages.hpp"
#include "http/dialects.hpp"

namespace nebula::billing::bills {

using accounts::Access;
using accounts::Caller;
using http::Method;

http::Response json_answer(std::string body) {
    http::Response response;
    response.body = std::move(body);
    return response;
}

std::optional<Prices> Pages::price_at(const PriceHistory& history, std::string_view model, Time time) const {
    if (auto recorded = history.at(model, time)) return recorded;
    return list_prices_ ? list_prices_(model) : std::nullopt;
}

Async<Result<Pages::KeyNames>> Pages::key_names(AccountId account) {
    auto keys = co_await accounts_.list_keys(account);
    if (!keys) co_return fail(std::move(keys.error()));
    KeyNames names;
    for (const accounts::Key& key : *keys) names[key.id] = {key.name, key.hint, key.creator, key.hash};
    co_return names;
}

Async<void> Pages::serve(http::Exchange& exchange, Caller caller, Page page, std::string_view param) {
    Request request{http::query(exchange.head()), std::move(caller)};
    if (!param.empty()) request.name = exchange.path_param(param);
    auto answer = co_await (this->*page)(std::move(request));
    if (!answer) {
        co_await exchange.respond_error(std::move(answer.error()));
        co_return;
    }
    co_await exchange.respond(std::move(*answer));
}

void Pages::register_routes(http::Router& router, accounts::Guard& guard) {
    const Access reads = Access::account(accounts::Permission::billing_read);
    auto page = [&](std::string_view path, http::Dialect dialect, Access access, Page answer,
                    std::string_view param = "") {
        guard.add(router, Method::get, path, dialect, access,
                  [this, answer, param](http::Exchange& exchange, Caller caller) {
                      return serve(exchange, std::move(caller), answer, param);
                  });
    };
    page("/openapi/v1/billing/balance/detail", http::novita_error, reads, &Pages::novita_balance);
    page("/openapi/v1/billing/bill/list", http::novita_error, reads, &Pages::novita_bills);
    page("/openapi/v1/billing/monthly/bill", http::novita_error, reads, &Pages::novita_monthly_bills);
    page("/openapi/v1/billing/bill/monthly/list", http::novita_error, reads, &Pages::novita_fixed_term_bills);
    page("/openapi/v1/billing/apikey/bill/list", http::novita_error, reads, &Pages::novita_key_bills);
    page("/openapi/v1/bill/transaction", http::novita_error, reads, &Pages::novita_transactions);
    page("/v3/user", http::novita_error, reads, &Pages::novita_user);

    page("/api/v1/users/credits", http::platform_error, reads, &Pages::platform_credits);
    page("/api/v1/users/credits/history", http::platform_error, reads, &Pages::platform_history);
    page("/api/v1/users/invoices", http::platform_error, reads, &Pages::platform_invoices);
    page("/api/v1/users/invoice-download/{id}", http::platform_error, reads, &Pages::invoice_file, "id");
    page("/api/v1/serverless/llm-statistics", http::platform_error, reads, &Pages::platform_statistics);

    page("/api/v1/credits", http::openrouter_error, reads, &Pages::openrouter_credits);
    page("/api/v1/activity", http::openrouter_error, reads, &Pages::openrouter_activity);

    page("/console/api/billing/summary", http::platform_error, reads, &Pages::console_summary);
    page("/console/api/billing/usage", http::platform_error, reads, &Pages::console_usage);
    page("/console/api/billing/invoices", http::platform_error, reads, &Pages::console_invoices);
    page("/console/api/billing/invoices/{file}", http::platform_error, reads, &Pages::invoice_file, "file");
    page("/console/api/billing/transactions", http::platform_error, reads, &Pages::console_transactions);
    page("/console/api/billing/receipts/{request}", http::platform_error, reads, &Pages::receipt, "request");
    page("/v1/receipts/{request}", http::platform_error, reads, &Pages::receipt, "request");
    page("/.well-known/nebula-receipt-key", http::platform_error, Access::anyone(), &Pages::receipt_key);
    guard.add(
        router, Method::get, "/console/api/billing/usage/export.csv", http::platform_error, reads,
        [this](http::Exchange& exchange, Caller caller) { return export_csv(exchange, std::move(caller)); });

    const Access operators = Access::operator_();
    page("/console/api/operator/prices", http::platform_error, operators, &Pages::operator_prices);
    using Change = Async<void> (Pages::*)(http::Exchange&, Caller);
    auto change = [&](std::string_view path, Change made) {
        guard.add(router, Method::post, path, http::platform_error, operators,
                  [this, made](http::Exchange& exchange, Caller caller) {
                      return (this->*made)(exchange, std::move(caller));
                  });
    };
    change("/console/api/operator/prices", &Pages::operator_set_price);
    change("/console/api/operator/rerate", &Pages::operator_rerate);
    change("/console/api/operator/close-month", &Pages::operator_close_month);
}

}  // namespace nebula::billing::bills
