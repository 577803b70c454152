#include "billing/bills/wire.hpp"
#include "billing/commerce/routes.hpp"
#include "http/dialects.hpp"

namespace nebula::billing::commerce {

using accounts::Access;
using accounts::Permission;
using http::Method;
using http::platform_success;

namespace {

constexpr std::size_t webhook_bytes_max = 1024 * 1024;

std::string two_digits(std::int64_t number) {
    std::string text = std::to_string(number % 100);
    return text.size() < 2 ? "0" + text : text;
}

json::object card_object(const Card& card) {
    std::string expiry = two_digits(card.exp_month) + "/" + two_digits(card.exp_year);
    return {{"stripe_id", card.id},  {"payment_type", card.kind},
            {"brand", card.brand},   {"last4", card.last4},
            {"expiry_date", expiry}, {"default", card.is_default},
            {"status", "Confirmed"}, {"created_at", to_iso8601(card.created_at)}};
}

json::object auto_pay_object(const AutoPay& settings) {
    json::object object{{"enabled", settings.enabled},
                        {"threshold", settings.threshold.text()},
                        {"amount", settings.amount.text()},
                        {"payment_method_id", nullptr},
                        {"last_attempt_at", nullptr}};
    if (!settings.method.empty()) object["payment_method_id"] = settings.method;
    if (settings.attempt_at) object["last_attempt_at"] = to_iso8601(*settings.attempt_at);
    return object;
}

// A page of this site that Stripe sends the customer back to.
Result<std::string> return_path(http::Fields& fields) {
    std::string path = fields.text_or("return_path", "/billing");
    bool is_local = path.starts_with('/') && !path.starts_with("//") && path.size() <= 500 &&
                    path.find('\\') == std::string::npos;
    if (!is_local) fields.refuse("return_path", "must be a path of this site");
    auto good = fields.error();
    if (!good) return fail(std::move(good.error()));
    return path;
}

}  // namespace

void Routes::add(http::Router& router, accounts::Guard& guard, Method method, std::string_view pattern,
                 Access access, Operation operation) {
    auto handle = [this, operation](Exchange& exchange, Caller caller) {
        return serve(exchange, std::move(caller), operation);
    };
    guard.add(router, method, pattern, http::platform_error, access, handle);
}

Async<void> Routes::serve(Exchange& exchange, Caller caller, Operation operation) {
    auto answer = co_await (this->*operation)(exchange, std::move(caller));
    auto sent = answer ? exchange.respond(std::move(*answer)) : exchange.respond_error(answer.error());
    auto done = co_await std::move(sent);
    (void)done;  // a client that has left is nobody to tell
}

void Routes::add_platform(http::Router& router, accounts::Guard& guard) {
    using R = Routes;
    const Access reads = Access::account(Permission::billing_read);
    const Access writes = Access::account(Permission::billing_write);
    const std::string base = "/api/v1/payment/";
    add(router, guard, Method::get, base + "payment-methods", reads, &R::payment_methods);
    add(router, guard, Method::post, base + "delete", writes, &R::delete_method);
    add(router, guard, Method::get, base + "options", reads, &R::options);
    add(router, guard, Method::post, base + "setup-intent", writes, &R::setup_intent);
    add(router, guard, Method::post, base + "setup_payment_method", writes, &R::setup_method);
    add(router, guard, Method::post, base + "create-checkout-session", writes, &R::checkout);
    add(router, guard, Method::get, base + "auto-pay", reads, &R::get_auto_pay);
    add(router, guard, Method::put, base + "auto-pay", writes, &R::put_auto_pay);
    add(router, guard, Method::post, base + "payment-intent", writes, &R::payment_intent);
    add(router, guard, Method::post, base + "payment-intent-confirmation", writes, &R::validate);
    add(router, guard, Method::post, base + "validate", writes, &R::validate);
    add(router, guard, Method::put, base + "initial-default-payment", writes, &R::first_default);
    add(router, guard, Method::put, base + "payment-methods/default", writes, &R::set_default);
    add(router, guard, Method::post, base + "promo-codes/redeem", writes, &R::redeem);
    // The signature is the credential.
    add(router, guard, Method::post, base + "webhook", Access::anyone(), &R::webhook);
    add(router, guard, Method::post, "/webhooks/stripe", Access::anyone(), &R::webhook);
}

Async<Routes::Answer> Routes::payment_methods(Exchange&, Caller caller) {
    auto cards = co_await shop_.cards(caller.account);
    if (!cards) co_return fail(std::move(cards.error()));
    json::array list;
    for (const Card& card : *cards) list.push_back(card_object(card));
    co_return platform_success(std::move(list), "payment methods for user is successfully retrieved.");
}

Async<Routes::Answer> Routes::delete_method(Exchange& exchange, Caller caller) {
    http::Params query = http::query(exchange.head());
    std::string name(query.get("payment_method_id").value_or(std::string_view()));
    if (name.empty())
        co_return fail(Code::invalid_request, "'payment_method_id' is required", "payment_method_id");
    auto removed = co_await shop_.remove_card(std::move(caller), std::move(name));
    if (!removed) co_return fail(std::move(removed.error()));
    co_return platform_success(nullptr, "Payment method successfully deleted");
}

Async<Routes::Answer> Routes::options(Exchange&, Caller) {
    // By hand: the numbers are exact decimals.
    bills::JsonText text;
    text.open('{').open("data", '[');
    for (const PackageSettings& package : shop_.goods().packages)
        text.open('{')
            .raw("amount", bills::credits_number(package.price))
            .raw("bonus", bills::credits_number(package.bonus))
            .close();
    text.close().text("message", "Payment options retrieved successfully").text("status", "success").close();
    http::Response response;
    response.body = text.take();
    co_return response;
}

Async<Routes::Answer> Routes::setup_intent(Exchange&, Caller caller) {
    auto made = co_await shop_.start_setup(std::move(caller));
    if (!made) co_return fail(std::move(made.error()));
    co_return platform_success(std::move(*made), "Setup intent successfully created");
}

Async<Routes::Answer> Routes::setup_method(Exchange& exchange, Caller caller) {
    co_return co_await choose(exchange, std::move(caller), true);
}

Async<Routes::Answer> Routes::checkout(Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_form_or_fields(exchange);
    if (!fields) co_return fail(std::move(fields.error()));
    Nanos amount = fields->credits("amount");
    auto path = return_path(*fields);
    if (!path) co_return fail(std::move(path.error()));
    auto session = co_await shop_.start_checkout(std::move(caller), amount, std::move(*path));
    if (!session) co_return fail(std::move(session.error()));
    json::object data{{"redirect_url", text_of(*session, "url")},
                      {"session_id", text_of(*session, "id")},
                      {"payment_id", text_of(*session, "client_reference_id")}};
    co_return platform_success(std::move(data), "Checkout session successfully created");
}

Async<Routes::Answer> Routes::get_auto_pay(Exchange&, Caller caller) {
    auto settings = co_await shop_.auto_pay(caller.account);
    if (!settings) co_return fail(std::move(settings.error()));
    co_return platform_success(auto_pay_object(*settings), "Auto-pay settings successfully retrieved");
}

Async<Routes::Answer> Routes::put_auto_pay(Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) co_return fail(std::move(fields.error()));
    auto before = co_await shop_.auto_pay(caller.account);
    if (!before) co_return fail(std::move(before.error()));
    // What is not named stays.
    AutoPay settings = *before;
    settings.enabled = fields->flag_or("enabled", settings.enabled);
    settings.threshold = fields->credits_or_none("threshold").value_or(settings.threshold);
    settings.amount = fields->credits_or_none("amount").value_or(settings.amount);
    settings.method = fields->text_or("payment_method_id", settings.method);
    fields->only({"enabled", "threshold", "amount", "payment_method_id"});
    auto good = fields->error();
    if (good && (settings.threshold.value < 0 || settings.amount.value < 0))
        co_return fail(Code::invalid_request, "amounts must not be negative", "amount");
    if (!good) co_return fail(std::move(good.error()));
    auto saved = co_await shop_.save_auto_pay(std::move(caller), std::move(settings));
    if (!saved) co_return fail(std::move(saved.error()));
    co_return platform_success(auto_pay_object(*saved), "Auto-pay settings successfully updated");
}

Async<Routes::Answer> Routes::payment_intent(Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_form_or_fields(exchange);
    if (!fields) co_return fail(std::move(fields.error()));
    Nanos amount = fields->credits("amount");
    std::string method = fields->text_or("payment_method_id", {});
    auto good = fields->error();
    if (!good) co_return fail(std::move(good.error()));
    auto intent = co_await shop_.start_intent(std::move(caller), amount, std::move(method));
    if (!intent) co_return fail(std::move(intent.error()));
    co_return platform_success(std::move(*intent), "Payment intent successfully created");
}

Async<Routes::Answer> Routes::validate(Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_form_or_fields(exchange);
    if (!fields) co_return fail(std::move(fields.error()));
    std::string name;
    for (const char* member : {"payment_intent_id", "payment_intent", "session_id", "payment_id"})
        if (name.empty()) name = fields->text_or(member, {});
    auto good = fields->error();
    if (!good) co_return fail(std::move(good.error()));
    if (name.empty())
        co_return fail(Code::invalid_request, "'payment_intent_id' is required", "payment_intent_id");
    auto payment = co_await shop_.look_up(caller.account, std::move(name));
    if (!payment) co_return fail(std::move(payment.error()));
    co_return platform_success(payment_object(*payment), "Payment status successfully retrieved");
}

Async<Routes::Answer> Routes::choose(Exchange& exchange, Caller caller, bool only_first) {
    auto fields = co_await http::read_form_or_fields(exchange);
    if (!fields) co_return fail(std::move(fields.error()));
    std::string id = fields->text_or("payment_method_id", {});
    if (id.empty()) id = fields->text_or("stripe_id", {});
    auto good = fields->error();
    if (!good) co_return fail(std::move(good.error()));
    if (id.empty()) {
        http::Params query = http::query(exchange.head());
        id = query.get("payment_method_id").value_or(std::string_view());
    }
    if (id.empty())
        co_return fail(Code::invalid_request, "'payment_method_id' is required", "payment_method_id");
    auto chosen = co_await shop_.choose_card(std::move(caller), std::move(id), only_first);
    if (!chosen) co_return fail(std::move(chosen.error()));
    co_return platform_success(nullptr, "Default payment method successfully updated");
}

Async<Routes::Answer> Routes::first_default(Exchange& exchange, Caller caller) {
    co_return co_await choose(exchange, std::move(caller), true);
}

Async<Routes::Answer> Routes::set_default(Exchange& exchange, Caller caller) {
    co_return co_await choose(exchange, std::move(caller), false);
}

Async<Routes::Answer> Routes::redeem(Exchange& exchange, Caller caller) {
    auto fields = co_await http::read_form_or_fields(exchange);
    if (!fields) co_return fail(std::move(fields.error()));
    std::string code = fields->text_or("promo_code", {});
    if (code.empty()) code = fields->text("code");
    auto good = fields->error();
    if (!good) co_return fail(std::move(good.error()));
    auto moved = co_await shop_.redeem(caller.account, std::move(code), &caller);
    if (!moved) co_return fail(std::move(moved.error()));
    json::object data{{"amount", (moved->amount - moved->debt).text()},
                      {"available_balance", moved->balance.available.text()}};
    co_return platform_success(std::move(data), "Promo code successfully redeemed");
}

Async<Routes::Answer> Routes::webhook(Exchange& exchange, Caller) {
    std::string signature(exchange.head().header("stripe-signature").value_or(std::string_view()));
    auto body = co_await exchange.body(webhook_bytes_max);
    if (!body) co_return fail(std::move(body.error()));
    std::string text(*body);
    auto taken = co_await shop_.take_webhook(std::move(text), std::move(signature));
    if (!taken) co_return fail(std::move(taken.error()));
    co_return http::json_response(200, json::object{{"received", true}});
}

}  // namespace nebula::billing::commerce
