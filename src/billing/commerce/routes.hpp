#pragma once
// The HTTP edge of commerce: platform, console, operators, Stripe's webhook.

#include <boost/json/object.hpp>

#include "billing/commerce/shop.hpp"
#include "http/json_api.hpp"

namespace nebula::billing::commerce {

/// Lives as long as the router.
class Routes {
   public:
    Routes(Shop& shop, Billing& billing, const Clock& clock)
        : shop_(shop), billing_(billing), clock_(clock) {}
    void add_platform(http::Router& router, accounts::Guard& guard);
    void add_console(http::Router& router, accounts::Guard& guard);

   private:
    using Exchange = http::Exchange;
    using Caller = accounts::Caller;
    using Answer = Result<http::Response>;
    using Operation = Async<Answer> (Routes::*)(Exchange& exchange, Caller caller);

    void add(http::Router& router, accounts::Guard& guard, http::Method method, std::string_view pattern,
             accounts::Access access, Operation operation);
    Async<void> serve(Exchange& exchange, Caller caller, Operation operation);

    // Platform.
    Async<Answer> payment_methods(Exchange& exchange, Caller caller);
    Async<Answer> delete_method(Exchange& exchange, Caller caller);
    Async<Answer> options(Exchange& exchange, Caller caller);
    Async<Answer> setup_intent(Exchange& exchange, Caller caller);
    Async<Answer> setup_method(Exchange& exchange, Caller caller);
    Async<Answer> checkout(Exchange& exchange, Caller caller);
    Async<Answer> get_auto_pay(Exchange& exchange, Caller caller);
    Async<Answer> put_auto_pay(Exchange& exchange, Caller caller);
    Async<Answer> payment_intent(Exchange& exchange, Caller caller);
    Async<Answer> validate(Exchange& exchange, Caller caller);
    Async<Answer> first_default(Exchange& exchange, Caller caller);
    Async<Answer> set_default(Exchange& exchange, Caller caller);
    Async<Answer> redeem(Exchange& exchange, Caller caller);
    Async<Answer> webhook(Exchange& exchange, Caller caller);
    Async<Answer> choose(Exchange& exchange, Caller caller, bool only_first);

    // Console and operators.
    Async<Answer> plans(Exchange& exchange, Caller caller);
    Async<Answer> packages(Exchange& exchange, Caller caller);
    Async<Answer> subscription(Exchange& exchange, Caller caller);
    Async<Answer> subscribe(Exchange& exchange, Caller caller);
    Async<Answer> unsubscribe(Exchange& exchange, Caller caller);
    Async<Answer> get_profile(Exchange& exchange, Caller caller);
    Async<Answer> put_profile(Exchange& exchange, Caller caller);
    Async<Answer> payments(Exchange& exchange, Caller caller);
    Async<Answer> list_codes(Exchange& exchange, Caller caller);
    Async<Answer> create_code(Exchange& exchange, Caller caller);
    Async<Answer> show_suspension(Exchange& exchange, Caller caller);
    Async<Answer> suspend(Exchange& exchange, Caller caller);
    Async<Answer> resume(Exchange& exchange, Caller caller);

    Shop& shop_;
    Billing& billing_;
    const Clock& clock_;
};

json::object payment_object(const Payment& payment);

}  // namespace nebula::billing::commerce
