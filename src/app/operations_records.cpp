// Operations on what is kept of requests.
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>

#include "app/operations.hpp"
#include "app/services.hpp"
#include "http/json_api.hpp"

namespace nebula::app {

namespace json = boost::json;

Operations::Answer Operations::requests_list(json::object arguments) {
    http::Fields fields(std::move(arguments));
    std::string owner = fields.text("account");
    records::RequestLog::Filter filter{fields.text_or("model", ""), fields.text_or("key", ""),
                                       fields.text_or("status", "")};
    std::string cursor = fields.text_or("cursor", "");
    std::int64_t limit = fields.integer_or("limit", 100, 1, 10'000);
    if (auto ok = fields.error(); !ok) co_return fail(ok.error());
    auto account = co_await account_of(std::move(owner));
    if (!account) co_return fail(std::move(account.error()));
    auto page = co_await services_.log->list(*account, std::move(filter), std::move(cursor), limit);
    if (!page) co_return fail(std::move(page.error()));
    json::array data;
    for (const std::string& line : page->entries) {
        json::value value = json::parse(line);
        json::object& entry = value.as_object();
        const json::value* at = entry.if_contains("at");
        if (at != nullptr && at->is_int64()) entry["started_at"] = to_iso8601(from_micros(at->get_int64()));
        if (const json::value* charge = entry.if_contains("charge"); charge != nullptr && charge->is_int64())
            entry["charge"] = Nanos{charge->get_int64()}.text();
        entry.erase("at");
        data.push_back(std::move(value));
    }
    json::object answer{{"data", std::move(data)}, {"next", nullptr}};
    if (!page->next.empty()) answer["next"] = page->next;
    co_return answer;
}

}  // namespace nebula::app
