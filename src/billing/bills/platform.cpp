// The platform's billing operations: {"data","message","status"}, credits as text or numbers with every
// digit.
#include "base/text.hpp"
#include "billing/bills/pages.hpp"
#include "billing/bills/wire.hpp"

namespace nebula::billing::bills {
namespace {

using namespace std::chrono;

std::string user_number(const accounts::Caller& caller) {
    return std::to_string(caller.user ? caller.user.value : caller.account.value);
}

}  // namespace

http::Response platform_answer(std::string_view data, std::string_view message) {
    JsonText out;
    out.open('{').raw("data", data).text("message", message).text("status", "success").close();
    return json_answer(out.take());
}

Result<Paging> paging(const http::Params& query, std::int64_t limit_fallback) {
    auto limit = query.integer("limit", limit_fallback, 1, 1'000);
    auto offset = query.integer("offset", 0, 0, 1'000'000'000);
    if (!limit) return fail(limit.error());
    if (!offset) return fail(offset.error());
    return Paging{*limit, *offset};
}

Pages::Answer Pages::platform_credits(Request request) {
    auto balance = co_await billing_.balance(request.caller.account);
    if (!balance) co_return fail(std::move(balance.error()));
    JsonText data;
    data.open('{').text("available_balance", credits_text(balance->available, 5)).close();
    co_return platform_answer(data.take(), "User credit balance successfully retrieved");
}

Pages::Answer Pages::platform_history(Request request) {
    auto asked = paging(request.query, 100);
    if (!asked) co_return fail(asked.error());
    AccountId account = request.caller.account;
    auto balance = co_await billing_.balance(account);
    if (!balance) co_return fail(std::move(balance.error()));
    auto work = [=](store::Tx& tx) -> Result<HourPage> {
        return list_hours(tx, account, asked->limit, asked->offset);
    };
    auto found = co_await db_.read(std::move(work));
    if (!found) co_return fail(std::move(found.error()));
    JsonText data;
    data.open('{').raw("credit_balance", credits_number(balance->available));
    data.open("credit_history", '[');
    for (const HourRow& row : found->rows) {
        data.open('{').raw("user_id", user_number(request.caller));
        data.raw("computing_amount", credits_number(row.compute, true));
        data.raw("serverless_amount", credits_number(row.metered, true));
        data.text("create_time", http::eastern_text(row.hour));
        data.text("update_time", http::eastern_text(std::min<Time>(row.hour + hours(1), clock_.now())));
        data.raw("total", credits_number(row.metered + row.compute, true)).close();
    }
    data.close().number("total_credit_histories", found->total).close();
    co_return platform_answer(data.take(), "User credit history successfully retrieved");
}

Async<Result<Pages::FoundInvoices>> Pages::invoices_of(AccountId account, Paging asked) {
    auto work = [=](store::Tx& tx) -> Result<FoundInvoices> {
        return FoundInvoices{list_invoices(tx, account, asked.limit, asked.offset),
                             count_invoices(tx, account)};
    };
    co_return co_await db_.read(std::move(work));
}

Pages::Answer Pages::platform_invoices(Request request) {
    auto asked = paging(request.query, 100);
    if (!asked) co_return fail(asked.error());
    auto found = co_await invoices_of(request.caller.account, *asked);
    if (!found) co_return fail(std::move(found.error()));
    JsonText data;
    data.open('{').open("invoices", '[');
    for (const Invoice& invoice : found->rows) {
        data.open('{').text("invoiced_time", http::eastern_text(invoice.created_at));
        data.text("invoice_id", "#" + invoice_name(seller_, invoice.number));
        data.raw("price", credits_number(invoice.total)).text("type", invoice.kind);
        data.number("id", invoice.number);
        data.raw("user_id", invoice.user ? std::to_string(invoice.user.value) : user_number(request.caller));
        data.close();
    }
    data.close().number("total_invoices", found->total).close();
    co_return platform_answer(data.take(), "User invoices retrieved successfully");
}

Pages::Answer Pages::invoice_file(Request request) {
    std::string_view name = request.name;
    if (name.ends_with(".pdf")) name.remove_suffix(4);
    auto number = parse_int<std::int64_t>(name);
    AccountId account = request.caller.account;
    auto work = [=](store::Tx& tx) -> Result<std::optional<Invoice>> {
        if (!number) return std::nullopt;
        return find_invoice(tx, account, *number);
    };
    auto found = co_await db_.read(std::move(work));
    if (!found) co_return fail(std::move(found.error()));
    if (!*found) co_return fail(Code::not_found, "there is no such invoice", "id");
    auto pdf = invoice_pdf(seller_, **found);
    if (!pdf) co_return fail(std::move(pdf.error()));
    http::Response response;
    response.content_type = "application/pdf";
    response.body = std::move(*pdf);
    std::string file;
    for (char c : invoice_name(seller_, (*found)->number))
        file += std::string_view("\"\\/;%").contains(c) || c < 0x20 || c > 0x7E ? '_' : c;
    response.headers = {{"content-disposition", "attachment; filename=\"" + file + ".pdf\""},
                        {"cache-control", "private, no-store"}};
    co_return response;
}

Pages::Answer Pages::platform_statistics(Request request) {
    std::string frame(request.query.get("time_frame").value_or("1h"));
    if (frame != "1h" && frame != "1d")
        co_return fail(Code::invalid_request, "'time_frame' must be 1h or 1d", "time_frame");
    // 1h: hours of the last day; 1d: days of the last week. Points without use are there, too.
    Cycle cycle = frame == "1h" ? Cycle::hour : Cycle::day;
    Time last = period_start(cycle, clock_.now());
    Window window{cycle == Cycle::hour ? last - hours(23) : last - days(6), next_period(cycle, last)};
    UsageFilter filter{.account = request.caller.account,
                       .window = window,
                       .cycle = cycle,
                       .by_model = false,
                       .product = "llm"};
    auto work = [=](store::Tx& tx) -> Result<std::vector<UsageSum>> { return sum_usage(tx, filter); };
    auto sums = co_await db_.read(std::move(work));
    if (!sums) co_return fail(std::move(sums.error()));
    JsonText points;
    points.open('[');
    UsageSum total;
    auto next = sums->begin();
    for (Time at = window.from; at < window.to; at = next_period(cycle, at)) {
        UsageSum point;
        for (; next != sums->end() && next->start == at; ++next) point.add(*next);
        total.add(point);
        points.open('{')
            .text("time", to_iso8601(at))
            .number("timestamp", floor<seconds>(at.time_since_epoch()).count());
        points.number("requests", point.requests).number("tokens", point.input + point.output);
        points.number("input_tokens", point.input).number("output_tokens", point.output);
        points.raw("amount", credits_number(point.charge, true)).close();
    }
    points.close();
    JsonText out;
    out.open('{').text("status", "success").text("message", "LLM statistics retrieved successfully");
    out.text("time_frame", frame).number("total_requests", total.requests);
    out.number("total_tokens", total.input + total.output).number("total_input_tokens", total.input);
    out.number("total_output_tokens", total.output).raw("total_amount", credits_number(total.charge, true));
    out.raw("data", points.take()).close();
    co_return json_answer(out.take());
}

}  // namespace nebula::billing::bills
