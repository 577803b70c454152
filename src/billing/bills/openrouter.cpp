// OpenRouter's account operations: GET /api/v1/credits and /activity.
#include "base/text.hpp"
#include "billing/bills/pages.hpp"
#include "billing/bills/wire.hpp"

namespace nebula::billing::bills {

using namespace std::chrono;

Pages::Answer Pages::openrouter_credits(Request request) {
    AccountId account = request.caller.account;
    auto work = [=](store::Tx& tx) -> Result<Lifetime> { return read_lifetime(tx, account); };
    auto life = co_await db_.read(std::move(work));
    if (!life) co_return fail(std::move(life.error()));
    JsonText out;
    out.open('{').open("data", '{').raw("total_credits", credits_number(life->credits));
    out.raw("total_usage", credits_number(life->used)).close().close();
    co_return json_answer(out.take());
}

Pages::Answer Pages::openrouter_activity(Request request) {
    // The last 30 full days.
    Time today = period_start(Cycle::day, clock_.now());
    Window window{today - days(30), today};
    std::string date(request.query.get("date").value_or(""));
    if (!date.empty()) {
        auto day = http::parse_iso8601(date);
        if (!day || date.size() != 10 || *day < window.from || *day >= window.to)
            co_return fail(Code::invalid_request, "'date' must be one of the last 30 full UTC days", "date");
        window = {*day, *day + days(1)};
    }
    auto names = co_await key_names(request.caller.account);
    if (!names) co_return fail(std::move(names.error()));
    std::string hash = to_lower(request.query.get("api_key_hash").value_or(""));
    std::string user(request.query.get("user_id").value_or(""));
    auto is_wanted = [&](KeyId key) {
        if (hash.empty() && user.empty()) return true;
        auto found = names->find(key);
        if (found == names->end()) return false;
        if (!hash.empty() && to_hex(found->second.hash.bytes) != hash) return false;
        return user.empty() || (found->second.creator && found->second.creator.text() == user);
    };
    UsageFilter filter{.account = request.caller.account,
                       .window = window,
                       .cycle = Cycle::day,
                       .by_key = !(hash.empty() && user.empty())};
    using Sums = std::pair<std::vector<UsageSum>, std::vector<ByokSum>>;
    auto work = [=](store::Tx& tx) -> Result<Sums> {
        return Sums(sum_usage(tx, filter), byok_sums(tx, filter.account, filter.window));
    };
    auto sums = co_await db_.read(std::move(work));
    if (!sums) co_return fail(std::move(sums.error()));
    std::map<std::pair<Time, std::string>, UsageSum, std::greater<>> rows;  // newest first
    for (const UsageSum& sum : sums->first)
        if (is_wanted(sum.key)) rows[{sum.start, sum.model}].add(sum);
    std::map<std::pair<Time, std::string>, Nanos> byok;
    for (const ByokSum& sum : sums->second)
        if (is_wanted(sum.key)) byok[{sum.day, sum.model}] += sum.list;
    JsonText out;
    out.open('{').open("data", '[');
    for (const auto& [day_and_model, sum] : rows) {
        const std::string& model = day_and_model.second;
        out.open('{').text("date", day_text(day_and_model.first)).text("model", model);
        out.text("model_permaslug", model).text("endpoint_id", model).text("provider_name", "Nebula");
        out.raw("usage", credits_number(sum.charge));
        out.raw("byok_usage_inference", credits_number(byok[day_and_model]));
        out.number("requests", sum.requests).number("prompt_tokens", sum.input);
        out.number("completion_tokens", sum.output).number("reasoning_tokens", sum.reasoning).close();
    }
    out.close().close();
    co_return json_answer(out.take());
}

}  // namespace nebula::billing::bills
