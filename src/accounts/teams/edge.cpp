#include "accounts/teams/edge.hpp"

#include <algorithm>
#include <array>

#include "base/crypto.hpp"
#include "base/text.hpp"

namespace nebula::accounts {
namespace {

constexpr std::uint32_t bit(Permission permission) { return 1u << static_cast<unsigned>(permission); }

constexpr std::array<PlatformPermission, 14> table = {{
    {1, "Use Inference", 1, "Inference", bit(Permission::inference_read) | bit(Permission::inference_write)},
    {2, "Read Storage", 2, "Storage", bit(Permission::storage_read)},
    {3, "Create Storage", 2, "Storage", bit(Permission::storage_write)},
    {5, "Update Storage", 2, "Storage", bit(Permission::storage_write)},
    {6, "Delete Storage", 2, "Storage", bit(Permission::storage_write)},
    {7, "Read Instance", 3, "Instance", bit(Permission::instance_read)},
    {8, "Create Instance", 3, "Instance", bit(Permission::instance_write)},
    {10, "Manage Instance", 3, "Instance", bit(Permission::instance_write)},
    {11, "Delete Instance", 3, "Instance", bit(Permission::instance_write)},
    {12, "View Billing", 4, "Billing", bit(Permission::billing_read)},
    {101, "Manage Billing", 4, "Billing", bit(Permission::billing_write)},
    {102, "Read Keys", 5, "Keys", bit(Permission::keys_read)},
    {103, "Manage Keys", 5, "Keys", bit(Permission::keys_write)},
    {104, "Manage Members", 6, "Team", bit(Permission::team_write)},
}};

std::unexpected<Error> bad_permission() {
    return fail(Code::invalid_request, "'permissions' must be a list of known numbers or words",
                "permissions");
}

// Not to be guessed, so no text of a customer can look like it.
const std::string& number_mark() {
    static const std::string mark = "number:" + random_base62(20) + ":";
    return mark;
}

// "<mark><digits>" → <digits>
void unmark_numbers(std::string& body) {
    const std::string mark = "\"" + number_mark();
    std::size_t from = body.find(mark);
    if (from == std::string::npos) return;
    std::string out;
    std::size_t done = 0;
    for (; from != std::string::npos; from = body.find(mark, done)) {
        std::size_t digits = from + mark.size(), end = body.find('"', digits);
        out.append(body, done, from - done).append(body, digits, end - digits);
        done = end + 1;
    }
    body = out.append(body, done);
}

}  // namespace

Async<void> respond_with(http::Exchange& exchange, Answer work) {
    auto answer = co_await std::move(work);
    // A client that has left is nobody to tell.
    if (answer) {
        unmark_numbers(answer->body);
        (void)co_await exchange.respond(std::move(*answer));
    } else {
        (void)co_await exchange.respond_error(std::move(answer.error()));
    }
}

json::value credits_number(Nanos amount) {
    if (amount.value % Nanos::per_credit == 0) return amount.value / Nanos::per_credit;
    return json::value(number_mark() + amount.short_text());
}

json::value iso_or_null(const std::optional<Time>& time) {
    if (!time) return nullptr;
    return json::value(to_iso8601(*time));
}

std::int64_t unix_seconds(Time time) {
    return std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
}

json::array text_list(const std::vector<std::string>& texts) {
    return json::array(texts.begin(), texts.end());
}

std::span<const PlatformPermission> platform_permissions() { return table; }

Result<Permissions> permissions_from(const json::value& list) {
    if (!list.is_array()) return bad_permission();
    std::uint32_t bits = 0;
    for (const json::value& item : list.get_array()) {
        std::optional<int> number;
        if (item.is_int64()) number = static_cast<int>(std::clamp<std::int64_t>(item.get_int64(), -1, 1000));
        if (item.is_string()) number = parse_int<int>(std::string_view(item.get_string()));
        if (number) {
            auto found = std::ranges::find(table, *number, &PlatformPermission::id);
            if (found == table.end()) return bad_permission();
            bits |= found->bits;
            continue;
        }
        if (!item.is_string()) return bad_permission();
        auto word = Permissions::parse({std::string(item.get_string())});
        if (!word) return bad_permission();
        bits |= word->bits();
    }
    return Permissions(bits);
}

json::array permission_numbers(Permissions permissions) {
    json::array numbers;
    for (const PlatformPermission& one : table)
        if ((permissions.bits() & one.bits) == one.bits) numbers.emplace_back(one.id);
    return numbers;
}

json::array permission_words(Permissions permissions) { return text_list(permissions.names()); }

}  // namespace nebula::accounts
