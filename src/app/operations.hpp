#pragma once
// What an operator can do, each operation once: the admin listener and the command line (when no server runs)
// call the same functions. Arguments and answers are JSON objects; money is decimal text.

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "accounts/accounts.hpp"
#include "async/async.hpp"
#include "base/result.hpp"
#include "billing/billing.hpp"
#include "catalog/catalog.hpp"
#include "http/http.hpp"

namespace nebula::app {

struct Services;

class Operations {
   public:
    explicit Operations(Services& services);

    /// Whose routes "routes.list" tells; null (the command line's direct mode): not_found.
    void set_router(const http::Router* router) { router_ = router; }

    /// `name` like "accounts.create". Unknown names are not_found; unknown or missing arguments are
    /// invalid_request.
    Async<Result<boost::json::object>> call(std::string name, boost::json::object arguments);
    static std::vector<std::string_view> names();

   private:
    using Arguments = const boost::json::object&;
    using Answer = Async<Result<boost::json::object>>;
    struct Entry {
        std::string_view name;
        std::vector<std::string_view> required;
        std::vector<std::string_view> optional;
        Answer (Operations::*run)(boost::json::object);
    };
    static const std::vector<Entry>& table();

    Answer users_create(boost::json::object arguments);
    Answer users_list(boost::json::object arguments);
    Answer accounts_create(boost::json::object arguments);
    Answer accounts_list(boost::json::object arguments);
    Answer accounts_show(boost::json::object arguments);
    Answer keys_create(boost::json::object arguments);
    Answer keys_list(boost::json::object arguments);
    Answer keys_update(boost::json::object arguments);
    Answer keys_revoke(boost::json::object arguments);
    Answer credits_grant(boost::json::object arguments);
    Answer credits_balance(boost::json::object arguments);
    Answer usage_list(boost::json::object arguments);
    Answer requests_list(boost::json::object arguments);
    Answer models_list(boost::json::object arguments);
    Answer ledger_verify(boost::json::object arguments);
    // operations_models.cpp
    Answer models_discover(boost::json::object arguments);
    // operations_money.cpp
    Answer routes_list(boost::json::object arguments);
    Answer receipts_show(boost::json::object arguments);
    Answer plans_subscribe(boost::json::object arguments);
    Answer plans_cancel(boost::json::object arguments);
    Answer accounts_suspend(boost::json::object arguments);
    Answer accounts_resume(boost::json::object arguments);
    Answer codes_create(boost::json::object arguments);
    Answer prices_set(boost::json::object arguments);
    Answer billing_rerate(boost::json::object arguments);
    Answer billing_close_month(boost::json::object arguments);
    Answer billing_reconcile(boost::json::object arguments);
    Async<Result<AccountId>> account_of(std::string id_or_name);

    Services& services_;
    const http::Router* router_ = nullptr;
    accounts::Accounts& accounts_;
    billing::Billing& billing_;
    catalog::Catalog& catalog_;
};

}  // namespace nebula::app
