// The console's billing pages, receipts, and what operators do to prices and months. Amounts are decimal
// text.
#include "base/text.hpp"
#include "billing/bills/month.hpp"
#include "billing/bills/pages.hpp"
#include "billing/bills/wire.hpp"

namespace nebula::billing::bills {
namespace {

using namespace std::chrono;

void write_counts(JsonText& out, const UsageSum& sum) {
    out.number("requests", sum.requests).number("input_tokens", sum.input);
    out.number("cached_tokens", sum.cached).number("output_tokens", sum.output);
    out.number("quota_input_tokens", sum.quota_input).number("quota_output_tokens", sum.quota_output);
    out.number("cache_write_tokens", sum.cache_write).number("reasoning_tokens", sum.reasoning);
    out.number("units", sum.units);
    out.text("charge", money_text(sum.charge)).text("written_off", money_text(sum.written_off));
}

}  // namespace
}  // namespace nebula::billing::bills

namespace nebula::billing {

Prices read_prices(http::Fields& fields) {
    Nanos input = fields.credits("input_per_m"), output = fields.credits("output_per_m");
    return {.input_per_m = input,
            .output_per_m = output,
            .cached_input_per_m = fields.credits_or_none("cached_input_per_m").value_or(input),
            .request = fields.credits_or_none("request").value_or(Nanos{}),
            .cache_write_per_m = fields.credits_or_none("cache_write_per_m").value_or(input),
            .reasoning_per_m = fields.credits_or_none("reasoning_per_m").value_or(output),
            .unit = fields.credits_or_none("unit").value_or(Nanos{})};
}

}  // namespace nebula::billing

namespace nebula::billing::bills {

Pages::Answer Pages::console_summary(Request request) {
    AccountId account = request.caller.account;
    auto balance = co_await billing_.balance(account);
    if (!balance) co_return fail(std::move(balance.error()));
    Time now = clock_.now();
    Window month{period_start(Cycle::month, now), now + hours(1)};
    Window today{period_start(Cycle::day, now), now + hours(1)};
    struct Found {
        UsageSum today, month;
        MonthBill bill;
        Lifetime life;
    };
    auto work = [=](store::Tx& tx) -> Result<Found> {
        return Found{total_usage(tx, account, today), total_usage(tx, account, month),
                     sum_month(tx, account, month_text(now)), read_lifetime(tx, account)};
    };
    auto found = co_await db_.read(std::move(work));
    if (!found) co_return fail(std::move(found.error()));
    JsonText out;
    out.open('{').text("available", money_text(balance->available)).text("held", money_text(balance->held));
    out.text("paid", money_text(balance->paid)).text("bonus", money_text(balance->bonus));
    out.text("debt", money_text(balance->debt));
    out.text("total_credits", money_text(found->life.credits))
        .text("total_usage", money_text(found->life.used));
    out.open("today", '{');
    write_counts(out, found->today);
    out.close().open("month", '{');
    write_counts(out, found->month);
    out.text("other_charges", money_text(found->bill.charges))
        .text("plan_fees", money_text(found->bill.fees));
    out.text("corrections", money_text(found->bill.corrections)).text("total", money_text(found->bill.total));
    out.close().close();
    co_return json_answer(out.take());
}

Pages::Answer Pages::console_usage(Request request) {
    auto asked = usage_query(request.query, request.caller.account, false);
    if (!asked) co_return fail(asked.error());
    auto names = co_await key_names(request.caller.account);
    if (!names) co_return fail(std::move(names.error()));
    UsageFilter filter = asked->filter;
    auto work = [filter](store::Tx& tx) -> Result<std::vector<UsageSum>> { return sum_usage(tx, filter); };
    auto sums = co_await db_.read(std::move(work));
    if (!sums) co_return fail(std::move(sums.error()));
    JsonText out;
    UsageSum total;
    out.open('{').text("from", to_iso8601(filter.window.from)).text("to", to_iso8601(filter.window.to));
    out.open("rows", '[');
    for (const UsageSum& sum : *sums) {
        total.add(sum);
        out.open('{').text("start", to_iso8601(sum.start)).text("product", sum.product);
        if (filter.by_model) out.text("model", sum.model);
        if (filter.by_key) {
            auto name = names->find(sum.key);
            out.text("key", sum.key ? sum.key.text() : "");
            out.text("key_name", name == names->end() ? "" : name->second.name);
        }
        write_counts(out, sum);
        out.close();
    }
    out.close().open("total", '{');
    write_counts(out, total);
    out.close().close();
    co_return json_answer(out.take());
}

Pages::Answer Pages::console_invoices(Request request) {
    auto asked = paging(request.query, 50);
    if (!asked) co_return fail(asked.error());
    auto found = co_await invoices_of(request.caller.account, *asked);
    if (!found) co_return fail(std::move(found.error()));
    JsonText out;
    out.open('{').open("invoices", '[');
    for (const Invoice& invoice : found->rows) {
        out.open('{').number("number", invoice.number).text("name", invoice_name(seller_, invoice.number));
        out.text("kind", invoice.kind).text("period", invoice.period);
        out.text("created_at", to_iso8601(invoice.created_at)).text("net", money_text(invoice.net));
        out.text("tax", money_text(invoice.tax)).text("tax_name", invoice.tax_name);
        out.text("tax_percent", invoice.tax_percent).text("total", money_text(invoice.total));
        out.text("paid", money_text(invoice.paid)).text("due", money_text(invoice.total - invoice.paid));
        out.text("reference", invoice.reference);
        out.open("customer", '{').text("name", invoice.customer).text("address", invoice.customer_address);
        out.text("country", invoice.customer_country).text("tax_number", invoice.customer_tax_number).close();
        out.text("pdf", "/console/api/billing/invoices/" + std::to_string(invoice.number) + ".pdf").close();
    }
    out.close().number("total", found->total).close();
    co_return json_answer(out.take());
}

Pages::Answer Pages::console_transactions(Request request) {
    auto asked = paging(request.query, 50);
    if (!asked) co_return fail(asked.error());
    MovementFilter filter{.account = request.caller.account};
    filter.kind = request.query.get("kind").value_or("");
    struct Found {
        std::vector<MovementRow> rows;
        std::int64_t total = 0;
    };
    auto work = [=](store::Tx& tx) -> Result<Found> {
        return Found{list_movements(tx, filter, asked->limit, asked->offset), count_movements(tx, filter)};
    };
    auto found = co_await db_.read(std::move(work));
    if (!found) co_return fail(std::move(found.error()));
    JsonText out;
    out.open('{').open("transactions", '[');
    for (const MovementRow& row : found->rows) {
        out.open('{').text("id", row.id.text()).text("kind", row.kind).text("amount", money_text(row.change));
        out.text("tax", money_text(row.tax)).text("note", row.note).text("reference", row.reference);
        out.text("product", row.product).text("created_at", to_iso8601(row.created_at)).close();
    }
    out.close().number("total", found->total).close();
    co_return json_answer(out.take());
}

Pages::Answer Pages::receipt(Request request) {
    auto id = RequestId::parse(request.name);
    if (!id) co_return fail(Code::not_found, "there is no receipt of such a request", "request");
    auto text = co_await billing_.receipt(request.caller.account, *id);
    if (!text) co_return fail(std::move(text.error()));
    co_return json_answer(std::move(*text));
}

Pages::Answer Pages::receipt_key(Request) {
    auto key = co_await billing_.receipt_key();
    if (!key) co_return fail(std::move(key.error()));
    JsonText out;
    out.open('{').text("algorithm", "Ed25519").text("public_key", *key).close();
    co_return json_answer(out.take());
}

Pages::Answer Pages::operator_prices(Request) {
    auto work = [](store::Tx& tx) -> Result<PriceHistory> { return PriceHistory::read(tx); };
    auto history = co_await db_.read(std::move(work));
    if (!history) co_return fail(std::move(history.error()));
    JsonText out;
    out.open('{').open("prices", '[');
    for (const PriceHistory::Version& version : history->versions()) {
        out.open('{').text("model", version.model).text("effective_from", to_iso8601(version.effective_from));
        out.text("input_per_m", money_text(version.prices.input_per_m));
        out.text("output_per_m", money_text(version.prices.output_per_m));
        out.text("cached_input_per_m", money_text(version.prices.cached_input_per_m));
        out.text("cache_write_per_m", money_text(version.prices.cache_write_per_m));
        out.text("reasoning_per_m", money_text(version.prices.reasoning_per_m));
        out.text("unit", money_text(version.prices.unit));
        out.text("request", money_text(version.prices.request)).close();
    }
    out.close().close();
    co_return json_answer(out.take());
}

Async<void> Pages::operator_set_price(http::Exchange& exchange, accounts::Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) {
        co_await exchange.respond_error(std::move(fields.error()));
        co_return;
    }
    std::string model = fields->text("model");
    Prices prices = read_prices(*fields);
    Time from = fields->time_or_none("effective_from").value_or(clock_.now());
    auto done = fields->error();
    if (done) done = co_await bills_.set_price(model, prices, from, &caller);
    if (!done) {
        co_await exchange.respond_error(std::move(done.error()));
        co_return;
    }
    JsonText out;
    out.open('{').text("model", model).text("effective_from", to_iso8601(from)).close();
    http::Response response = json_answer(out.take());
    co_await exchange.respond(std::move(response));
}

Async<void> Pages::operator_rerate(http::Exchange& exchange, accounts::Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) {
        co_await exchange.respond_error(std::move(fields.error()));
        co_return;
    }
    for (const char* name : {"from", "to"})
        if (!fields->has(name)) fields->refuse(name, "is required");
    Time from = fields->time_or_none("from").value_or(Time());
    Time to = fields->time_or_none("to").value_or(Time());
    std::string named = fields->text_or("account", "");
    bool is_dry = fields->flag_or("dry_run", false);
    std::optional<AccountId> account;
    auto ok = fields->error();
    if (ok && !named.empty()) {
        auto found = co_await accounts_.account(named);
        if (found) account = found->id;
        if (!found) ok = fail(found.error());
    }
    Result<Bills::Rerated> done{};
    if (ok) done = co_await bills_.rerate(from, to, account, is_dry, &caller);
    if (!ok) done = fail(ok.error());
    if (!done) {
        co_await exchange.respond_error(std::move(done.error()));
        co_return;
    }
    JsonText out;
    out.open('{').number("records", done->records).number("corrected", done->corrected);
    out.text("difference", money_text(done->difference)).raw("dry_run", is_dry ? "true" : "false").close();
    http::Response response = json_answer(out.take());
    co_await exchange.respond(std::move(response));
}

Async<void> Pages::operator_close_month(http::Exchange& exchange, accounts::Caller caller) {
    auto fields = co_await http::read_fields(exchange);
    if (!fields) {
        co_await exchange.respond_error(std::move(fields.error()));
        co_return;
    }
    std::string month = fields->text("month");
    Result<std::int64_t> made = 0;
    if (auto ok = fields->error(); !ok)
        made = fail(ok.error());
    else
        made = co_await bills_.close_month(month, &caller);
    if (!made) {
        co_await exchange.respond_error(std::move(made.error()));
        co_return;
    }
    JsonText out;
    out.open('{').text("month", month).number("bills", *made).close();
    http::Response response = json_answer(out.take());
    co_await exchange.respond(std::move(response));
}

}  // namespace nebula::billing::bills
