#include "billing/bills/reconcile.hpp"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <memory>
#include <optional>

#include "base/text.hpp"
#include "billing/bills/queries.hpp"
#include "billing/bills/rerate.hpp"
#include "http/json_api.hpp"

namespace nebula::billing::bills {
namespace {

namespace json = boost::json;

constexpr std::int64_t accounts_per_page = 200;
constexpr std::int64_t records_per_page = 5'000;
constexpr std::int64_t figure_max = 1'000'000'000'000'000;

// Cells of one record of RFC 4180, which is taken off `text`.
std::vector<std::string> next_csv_record(std::string_view& text) {
    std::vector<std::string> cells(1);
    bool is_quoted = false;
    while (!text.empty()) {
        char c = text.front();
        text.remove_prefix(1);
        if (is_quoted && c == '"' && text.starts_with('"')) {
            cells.back() += c;
            text.remove_prefix(1);
        } else if (c == '"') {
            is_quoted = !is_quoted;
        } else if (is_quoted) {
            cells.back() += c;
        } else if (c == ',') {
            cells.emplace_back();
        } else if (c == '\n') {
            break;
        } else if (c != '\r') {
            cells.back() += c;
        }
    }
    return cells;
}

std::string cell_text(const json::value& value) {
    return value.is_string() ? std::string(value.get_string()) : json::serialize(value);
}

std::optional<Time> time_of(std::string_view text) {
    if (auto seconds = parse_int<std::int64_t>(text)) {
        if (*seconds < 0 || *seconds > 10'000'000'000) return std::nullopt;
        return from_micros(*seconds * 1'000'000);
    }
    return http::parse_iso8601(text);
}

// Takes rows, whatever they were written as: a row tells a column's text, or nothing.
class Reader {
   public:
    explicit Reader(const ReportColumns& columns) : columns_(columns) {}

    using Row = std::function<std::optional<std::string>(const std::string& column)>;
    Result<void> add(const Row& row) {
        ++row_;
        std::optional<std::string> date = columns_.date.empty() ? row("date") : row(columns_.date);
        if (!date && columns_.date.empty()) date = row("timestamp");
        auto time = date ? time_of(trim(*date)) : std::nullopt;
        if (!time) return bad(columns_.date.empty() ? "date" : columns_.date, "has no date");
        auto model = row(columns_.model);
        if (!model || trim(*model).empty()) return bad(columns_.model, "is missing");
        DayUse& sum = report_.use[{day_text(*time), std::string(trim(*model))}];
        for (auto [column, into, is_needed] :
             {std::tuple(&columns_.input, &sum.input, true), std::tuple(&columns_.output, &sum.output, true),
              std::tuple(&columns_.requests, &sum.requests, false)}) {
            auto text = row(*column);
            if (!text && !is_needed) report_.has_requests = false;
            if (!text && !is_needed) continue;
            auto value = text ? parse_int<std::int64_t>(trim(*text)) : std::nullopt;
            if (!value || *value < 0 || *value > figure_max || *into > figure_max)
                return bad(*column, "is no whole number");
            *into += *value;
        }
        return {};
    }
    ProviderReport take() { return std::move(report_); }

   private:
    std::unexpected<Error> bad(const std::string& column, const char* what) const {
        return fail(Code::invalid_request,
                    "record " + std::to_string(row_) + ": column '" + column + "' " + what, column);
    }
    const ReportColumns& columns_;
    ProviderReport report_;
    std::int64_t row_ = 0;
};

Result<ProviderReport> read_csv(std::string_view text, Reader reader) {
    std::vector<std::string> head = next_csv_record(text);
    for (std::string& name : head) name = std::string(trim(name));
    while (!text.empty()) {
        std::vector<std::string> cells = next_csv_record(text);
        if (cells.size() == 1 && trim(cells[0]).empty()) continue;
        auto row = [&](const std::string& column) -> std::optional<std::string> {
            auto at = static_cast<std::size_t>(std::ranges::find(head, column) - head.begin());
            if (at >= head.size() || at >= cells.size()) return std::nullopt;
            return cells[at];
        };
        if (auto added = reader.add(row); !added) return fail(std::move(added.error()));
    }
    return reader.take();
}

Result<ProviderReport> read_json_lines(std::string_view text, Reader reader) {
    for (std::int64_t number = 1; !text.empty(); ++number) {
        std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        if (trim(line).empty()) continue;
        boost::system::error_code failed;
        json::value value = json::parse(line, failed);
        if (failed || !value.is_object())
            return fail(Code::invalid_request, "line " + std::to_string(number) + " is no JSON object");
        auto row = [&](const std::string& column) -> std::optional<std::string> {
            const json::value* found = value.get_object().if_contains(column);
            if (found == nullptr || found->is_null()) return std::nullopt;
            return cell_text(*found);
        };
        if (auto added = reader.add(row); !added) return fail(std::move(added.error()));
    }
    return reader.take();
}

struct RecordSums {
    UseByDay use;
    std::int64_t last = 0;
    bool is_last = false;
};

RecordSums sum_page(store::Tx& tx, AccountId account, const std::string& provider, Window window,
                    const UpstreamName& upstream_name, std::int64_t after) {
    static constexpr store::Sql read{
        "bills.reconcile_page",
        "SELECT id, provider, model, started_at, input_tokens, output_tokens FROM usage_records"
        " WHERE account_id = $1 AND id > $2 ORDER BY id LIMIT $3"};
    RecordSums page;
    std::int64_t rows = 0;
    tx.query(read, {account.db(), after, records_per_page}, [&](const store::Row& row) {
        ++rows;
        page.last = row.i64(0);
        Time started = from_micros(row.i64(3));
        if (row.text(1) != provider || started < window.from || started >= window.to) return;
        DayUse& sum = page.use[{day_text(started), upstream_name(row.text(2))}];
        ++sum.requests;
        sum.input += row.i64(4);
        sum.output += row.i64(5);
    });
    page.is_last = rows < records_per_page;
    return page;
}

bool is_near(std::int64_t ours, std::int64_t theirs, Nanos percent) {
    auto distance = static_cast<__int128>(ours > theirs ? ours - theirs : theirs - ours);
    return distance * 100 * Nanos::per_credit <= static_cast<__int128>(theirs) * percent.value;
}

}  // namespace

Result<ProviderReport> read_report(std::string_view text, const ReportColumns& columns) {
    if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);  // what spreadsheets put in front
    if (trim(text).starts_with('{')) return read_json_lines(text, Reader(columns));
    return read_csv(text, Reader(columns));
}

Window window_of(const ProviderReport& report) {
    if (report.use.empty()) return {};
    auto day = [](const std::string& text) { return http::parse_iso8601(text).value(); };
    return {day(report.use.begin()->first.first),
            next_period(Cycle::day, day(report.use.rbegin()->first.first))};
}

Async<Result<UseByDay>> recorded_use(store::Db& db, std::string provider, Window window,
                                     UpstreamName upstream_name) {
    UseByDay all;
    std::int64_t first = first_record_id(window.from);
    for (AccountId after{};;) {
        auto find = [=](store::Tx& tx) -> Result<std::vector<AccountId>> {
            return active_accounts(tx, after, window, false, accounts_per_page);
        };
        auto accounts = co_await db.read(std::move(find));
        if (!accounts) co_return fail(std::move(accounts.error()));
        if (accounts->empty()) co_return all;
        for (AccountId account : *accounts) {
            std::int64_t from = first;
            for (bool is_last = false; !is_last;) {
                auto sum = [=](store::Tx& tx) -> Result<RecordSums> {
                    return sum_page(tx, account, provider, window, upstream_name, from);
                };
                auto page = co_await db.read(std::move(sum));
                if (!page) co_return fail(std::move(page.error()));
                for (const auto& [key, use] : page->use) {
                    DayUse& into = all[key];
                    into.requests += use.requests;
                    into.input += use.input;
                    into.output += use.output;
                }
                is_last = page->is_last;
                from = page->last;
            }
        }
        after = accounts->back();
    }
}

std::vector<Difference> differences(const UseByDay& ours, const ProviderReport& theirs, Nanos percent) {
    UseByDay keys = ours;
    keys.insert(theirs.use.begin(), theirs.use.end());
    auto find = [](const UseByDay& use, const auto& key) {
        auto found = use.find(key);
        return found == use.end() ? DayUse() : found->second;
    };
    std::vector<Difference> all;
    for (const auto& [key, ignored] : keys) {
        Difference one{key.first, key.second, find(ours, key), find(theirs.use, key)};
        one.is_within = is_near(one.ours.input, one.theirs.input, percent) &&
                        is_near(one.ours.output, one.theirs.output, percent) &&
                        (!theirs.has_requests || is_near(one.ours.requests, one.theirs.requests, percent));
        all.push_back(std::move(one));
    }
    return all;
}

}  // namespace nebula::billing::bills
