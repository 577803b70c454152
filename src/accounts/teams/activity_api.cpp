#include "accounts/teams/activity_api.hpp"

namespace nebula::accounts {

using http::Method;
using store::Tx;

namespace {

constexpr std::int64_t default_page_size = 10;
constexpr std::int64_t page_size_max = 100;
constexpr std::int64_t page_max = 1'000'000;

/// "2025-07-04 05:13:11 EST": as everywhere on the platform, with the zone last.
std::string activity_time(Time at) {
    std::string text = http::eastern_text(at);
    std::size_t blank = text.find(' ');
    return text.substr(blank + 1) + " " + text.substr(0, blank);
}

json::object row_object(const AuditRow& row) {
    return {{"event_id", row.id},
            {"user_email", row.user_email},
            {"action", row.entry.action},
            {"resource", row.entry.resource},
            {"resource_id", row.entry.resource_id},
            {"resource_name", row.entry.resource_name},
            {"activity_time", activity_time(row.at)},
            {"time", to_iso8601(row.at)},
            {"key_id", row.key ? json::value(row.key.text()) : json::value(nullptr)},
            {"ip", row.ip},
            {"details", row.entry.details}};
}

}  // namespace

Answer ActivityApi::list(http::Exchange& exchange, Caller caller) {
    http::Params params = http::query(exchange.head());
    auto size = params.integer("page_size", default_page_size, 1, page_size_max);
    auto page = params.integer("page", 1, 1, page_max);
    if (!size || !page) co_return fail(size ? page.error() : size.error());
    auto read = [account = caller.account, size = *size, page = *page](Tx& tx) -> Result<AuditPage> {
        return read_audit(tx, account, size, (page - 1) * size);
    };
    auto found = co_await db_.read(std::move(read));
    if (!found) co_return fail(found.error());
    json::array data;
    for (const AuditRow& row : found->rows) data.emplace_back(row_object(row));
    json::object pagination{{"total_records", found->total},
                            {"total_pages", (found->total + *size - 1) / *size},
                            {"current_page", *page},
                            {"page_size", *size},
                            {"has_next", *page * *size < found->total}};
    json::object extra;
    extra["pagination"] = std::move(pagination);
    co_return http::platform_success(std::move(data), "User activity retrieved successfully",
                                     std::move(extra));
}

void ActivityApi::register_routes(http::Router& router, Guard& guard) {
    Routes routes(router, guard, *this);
    // Of a team the log tells what everybody did: for those who lead it. The own one is everybody's.
    const Access admin = Access::team_admin();
    routes.add(Method::get, "/api/v1/users/user-activity", admin, &ActivityApi::list);
    routes.add(Method::get, "/console/api/activity", admin, &ActivityApi::list);
}

}  // namespace nebula::accounts
