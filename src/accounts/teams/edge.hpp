#pragma once
// What the HTTP edges of teams, keys, SSH keys and the log share. Private to this module.

#include <boost/json/value.hpp>
#include <string>
#include <utility>
#include <vector>

#include "accounts/caller.hpp"
#include "accounts/guard.hpp"
#include "http/dialects.hpp"
#include "http/json_api.hpp"

namespace nebula::accounts {

namespace json = boost::json;
using Answer = Async<Result<http::Response>>;

/// Writes what `work` answers, errors in the route's dialect.
Async<void> respond_with(http::Exchange& exchange, Answer work);

/// Registers methods of one edge object, which must outlive the router.
template <class Edge>
class Routes {
   public:
    Routes(http::Router& router, Guard& guard, Edge& edge) : router_(router), guard_(guard), edge_(edge) {}

    template <class Method, class... Extra>
    void add(http::Method method, std::string_view pattern, Access access, Method handler,
             http::Dialect dialect = http::platform_error, Extra... extra) {
        auto call = [&edge = edge_, handler, extra...](http::Exchange& exchange, Caller caller) {
            return respond_with(exchange, (edge.*handler)(exchange, std::move(caller), extra...));
        };
        guard_.add(router_, method, pattern, dialect, access, call);
    }

   private:
    http::Router& router_;
    Guard& guard_;
    Edge& edge_;
};

/// A JSON number of credits with all its digits. Boost.JSON has binary fractions only, so until the text is
/// written it is a marked string; respond_with() takes the marks off.
json::value credits_number(Nanos amount);
json::value iso_or_null(const std::optional<Time>& time);
std::int64_t unix_seconds(Time time);
json::array text_list(const std::vector<std::string>& texts);

/// One of the platform's permission numbers. Its own end at 12; from 101 on are those only we have.
struct PlatformPermission {
    int id;
    const char* name;
    int group_id;
    const char* group;
    std::uint32_t bits;
};
std::span<const PlatformPermission> platform_permissions();
/// A list of the platform's numbers and our words, also mixed.
Result<Permissions> permissions_from(const json::value& list);
json::array permission_numbers(Permissions permissions);
json::array permission_words(Permissions permissions);

}  // namespace nebula::accounts
