// What a console's usage page asks for, and the same as CSV, sent piece by piece.
#include "base/text.hpp"
#include "billing/bills/pages.hpp"
#include "billing/bills/wire.hpp"

namespace nebula::billing::bills {
namespace {

using namespace std::chrono;

std::unexpected<Error> bad(std::string_view param, const std::string& why) {
    return fail(Code::invalid_request, "'" + std::string(param) + "' " + why, std::string(param));
}

// ISO 8601 or UNIX seconds; absent gives the fallback.
Result<Time> time_of(const http::Params& query, std::string_view name, Time fallback) {
    auto text = query.get(name);
    if (!text || text->empty()) return fallback;
    if (auto time = http::parse_iso8601(*text)) return *time;
    if (auto number = parse_int<std::int64_t>(*text); number && *number >= 0 && *number < 253'402'300'800)
        return Time(seconds(*number));
    return bad(name, "must be a time in ISO 8601 or UNIX seconds");
}

}  // namespace

Result<Pages::UsageQuery> Pages::usage_query(const http::Params& query, AccountId account,
                                             bool is_export) const {
    UsageQuery asked;
    asked.filter.account = account;
    auto cycle = parse_cycle(query.get("group").value_or("day"));
    if (!cycle) return bad("group", "must be hour, day, week or month");
    asked.cycle = asked.filter.cycle = *cycle;
    Time now = clock_.now();
    auto to = time_of(query, "to", now);
    if (!to) return fail(to.error());
    auto from = time_of(query, "from", *to - days(*cycle == Cycle::hour ? 1 : 30));
    if (!from) return fail(from.error());
    asked.filter.window = {*from, *to};
    auto longest = days(is_export ? 400 : *cycle == Cycle::hour ? 31 : 400);
    if (*to < *from) return bad("to", "must not be before from");
    if (*to - *from > longest)
        return bad("from", "must be at most " + std::to_string(longest.count()) + " days before to");
    std::string by(query.get("by").value_or("model"));
    asked.filter.by_model = by.contains("model");
    asked.filter.by_key = by.contains("key");
    for (std::string_view word : split(by, ','))
        if (word != "model" && word != "key" && word != "none")
            return bad("by", "must be model, key or both");
    asked.filter.product = query.get("product").value_or("");
    if (auto model = query.get("model"); model && !model->empty()) asked.filter.model = std::string(*model);
    if (auto key = query.get("key"); key && !key->empty()) {
        asked.filter.key = KeyId::parse(*key);
        if (!asked.filter.key) return bad("key", "must be the id of a key, like key_…");
    }
    return asked;
}

std::string Pages::csv_head(const UsageQuery& asked) {
    std::vector<std::string> cells{"start", "product"};
    if (asked.filter.by_model) cells.emplace_back("model");
    if (asked.filter.by_key) cells.insert(cells.end(), {"key", "key_name"});
    cells.insert(cells.end(), {"requests", "input_tokens", "cached_tokens", "output_tokens",
                               "quota_input_tokens", "quota_output_tokens", "charge_usd", "written_off_usd",
                               "cache_write_tokens", "reasoning_tokens", "units"});
    return csv_line(cells);
}

Async<Result<std::string>> Pages::csv_piece(UsageQuery asked, Window piece) {
    auto names = co_await key_names(asked.filter.account);
    if (!names) co_return fail(std::move(names.error()));
    UsageFilter filter = asked.filter;
    filter.window = piece;
    auto work = [filter](store::Tx& tx) -> Result<std::vector<UsageSum>> { return sum_usage(tx, filter); };
    auto sums = co_await db_.read(std::move(work));
    if (!sums) co_return fail(std::move(sums.error()));
    std::string out;
    for (const UsageSum& sum : *sums) {
        std::vector<std::string> cells{to_iso8601(sum.start), sum.product};
        if (asked.filter.by_model) cells.push_back(sum.model);
        if (asked.filter.by_key) {
            auto name = names->find(sum.key);
            cells.push_back(sum.key ? sum.key.text() : "");
            cells.push_back(name == names->end() ? "" : name->second.name);
        }
        for (std::int64_t count :
             {sum.requests, sum.input, sum.cached, sum.output, sum.quota_input, sum.quota_output})
            cells.push_back(std::to_string(count));
        cells.push_back(credits_text(sum.charge, 2));
        cells.push_back(credits_text(sum.written_off, 2));
        for (std::int64_t count : {sum.cache_write, sum.reasoning, sum.units})
            cells.push_back(std::to_string(count));
        out += csv_line(cells);
    }
    co_return out;
}

Async<void> Pages::export_csv(http::Exchange& exchange, accounts::Caller caller) {
    auto asked = usage_query(http::query(exchange.head()), caller.account, true);
    if (!asked) {
        co_await exchange.respond_error(std::move(asked.error()));
        co_return;
    }
    // Pieces end where periods end, so that no period comes twice.
    Window window = asked->filter.window;
    Cycle cut = asked->cycle == Cycle::hour ? Cycle::week : Cycle::month;
    if (asked->cycle == Cycle::week) cut = Cycle::week;
    bool has_begun = false;
    for (Time at = window.from; at < window.to;) {
        Time end = std::min(window.to, next_period(cut, period_start(cut, at)));
        Window cut_out{at, end};
        auto piece = co_await csv_piece(*asked, cut_out);
        at = end;
        if (!piece && has_begun) {
            exchange.abort("");
            co_return;
        }
        if (!piece) {
            co_await exchange.respond_error(std::move(piece.error()));
            co_return;
        }
        if (!has_begun) {
            exchange.add_header("content-disposition", "attachment; filename=\"usage.csv\"");
            exchange.add_header("cache-control", "private, no-store");
            exchange.begin_stream(200, "text/csv; charset=utf-8");
            piece->insert(0, csv_head(*asked));
            has_begun = true;
        }
        if (piece->empty()) continue;
        auto sent = co_await exchange.write(*piece);
        if (!sent) co_return;
    }
    if (!has_begun) {
        std::string head = csv_head(*asked);
        co_await exchange.respond(200, "text/csv; charset=utf-8", head);
        co_return;
    }
    co_await exchange.end("");
}

}  // namespace nebula::billing::bills
