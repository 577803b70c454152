#pragma once
// What every JSON edge needs: reading bodies, forms, queries and cookies with errors that name the field, and
// writing answers. For edges only (Boost.JSON is a heavy header); the hot path has its own readers.

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "async/async.hpp"
#include "base/clock.hpp"
#include "base/nanos.hpp"
#include "http/http.hpp"

namespace nebula::http {

namespace json = boost::json;

/// Name and value pairs of a query or a form, percent-decoded, in order.
class Params {
   public:
    /// "a=1&b=2"; '+' is a blank. Malformed escapes stay as they are.
    static Params parse(std::string_view text);
    std::optional<std::string_view> get(std::string_view name) const;  // the first
    bool has(std::string_view name) const { return get(name).has_value(); }
    /// Absent: `fallback`. Not a whole number in [min, max]: invalid_request naming it.
    Result<std::int64_t> integer(std::string_view name, std::int64_t fallback, std::int64_t min,
                                 std::int64_t max) const;
    const std::vector<std::pair<std::string, std::string>>& all() const { return pairs_; }

   private:
    std::vector<std::pair<std::string, std::string>> pairs_;
};
Params query(const RequestHead& head);

/// Of the Cookie header.
std::optional<std::string_view> cookie(const RequestHead& head, std::string_view name);

/// A JSON object of a request, read member by member. The first mistake is kept: check `error()` once after
/// reading everything. Absent optional members (and null) give the fallback.
class Fields {
   public:
    explicit Fields(json::object object) : object_(std::move(object)) {}

    bool has(std::string_view name) const;    // present and not null
    std::string text(std::string_view name);  // required
    std::string text_or(std::string_view name, std::string fallback);
    std::int64_t integer(std::string_view name, std::int64_t min, std::int64_t max);  // required
    std::int64_t integer_or(std::string_view name, std::int64_t fallback, std::int64_t min, std::int64_t max);
    bool flag_or(std::string_view name, bool fallback);
    /// Credits as decimal text or JSON number, at most 9 decimals, exact (a number is read by its text).
    Nanos credits(std::string_view name);
    std::optional<Nanos> credits_or_none(std::string_view name);
    /// ISO 8601 text or UNIX seconds.
    std::optional<Time> time_or_none(std::string_view name);
    std::vector<std::string> texts_or_none(std::string_view name);
    const json::value* raw(std::string_view name) const;
    /// invalid_request for a member that is none of these.
    void only(std::initializer_list<std::string_view> names);

    /// The first mistake, or nothing.
    Result<void> error() const;
    void refuse(std::string_view name, std::string why);  // for checks of the caller's own
    const json::object& object() const { return object_; }

   private:
    json::object object_;
    std::optional<Error> error_;
};

/// The body as a JSON object (an empty body is {}), at most `bytes_max`. JSON numbers keep their text for
/// credits(): the body is parsed with raw numbers where they have a fraction.
Async<Result<Fields>> read_fields(Exchange& exchange, std::size_t bytes_max = 64 * 1024);
/// The same from application/x-www-form-urlencoded or JSON, whatever the content type says (first byte '{').
Async<Result<Fields>> read_form_or_fields(Exchange& exchange, std::size_t bytes_max = 64 * 1024);

Response json_response(int status, const json::value& body);
/// {"status":"success","data":…,"message"}; `extra` members stand beside data. No `data` when null.
Response platform_success(json::value data, std::string_view message, json::object extra = {});

/// "YYYY-MM-DDTHH:MM:SSZ" (with fraction or offset) or nothing.
std::optional<Time> parse_iso8601(std::string_view text);
/// The platform's "EST 2024-10-29 14:19:32": Eastern time as the vendor writes it (UTC-5, UTC-4 in summer).
std::string eastern_text(Time time);

}  // namespace nebula::http
