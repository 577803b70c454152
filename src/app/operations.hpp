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

namespace nebula::app {

class Operations {
   public:
    Operations(store::Db& db, accounts::Accounts& accounts, billing::Billing& billing,
               catalog::Catalog& catalog)
        : db_(db), accounts_(accounts), billing_(billing), catalog_(catalog) {}

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
    Answer keys_revoke(boost::json::object arguments);
    Answer credits_grant(boost::json::object arguments);
    Answer credits_balance(boost::json::object arguments);
    Answer usage_list(boost::json::object arguments);
    Answer models_list(boost::json::object arguments);
    Answer ledger_verify(boost::json::object arguments);

    store::Db& db_;
    accounts::Accounts& accounts_;
    billing::Billing& billing_;
    catalog::Catalog& catalog_;
};

}  // namespace nebula::app
