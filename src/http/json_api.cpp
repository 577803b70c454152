#include "http/json_api.hpp"

#include <simdjson.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/text.hpp"

namespace nebula::http {
namespace {

using namespace std::chrono;

// Members whose numbers have a fraction, with the digits as sent: floating point never touches money.
constexpr std::string_view text_mark = "\x01number:";

Error wrong(std::string_view name, const std::string& why) {
    return {Code::invalid_request, "'" + std::string(name) + "' " + why, std::string(name)};
}

std::unexpected<Error> not_an_object() {
    return fail(Code::invalid_request, "the request body must be a JSON object");
}

// Replaces numbers with a fraction or exponent at the top level by their text.
void keep_digits(json::object& object, std::string_view body) {
    bool any = std::ranges::any_of(object, [](const auto& member) { return member.value().is_double(); });
    if (!any) return;
    simdjson::padded_string padded(body);
    simdjson::ondemand::parser parser;
    simdjson::ondemand::document document;
    simdjson::ondemand::object found;
    if (parser.iterate(padded).get(document) || document.get_object().get(found)) return;
    for (auto field : found) {
        std::string_view name, digits;
        if (field.unescaped_key().get(name)) return;
        json::value* value = object.if_contains(name);
        if (value == nullptr || !value->is_double()) continue;
        digits = field.value().raw_json_token();
        *value = std::string(text_mark) + std::string(trim(digits));
    }
}

Result<Fields> parse_object(std::string_view body) {
    if (trim(body).empty()) return Fields(json::object());
    boost::system::error_code failed;
    json::parse_options options;
    options.max_depth = 16;
    json::value value = json::parse(body, failed, {}, options);
    if (failed || !value.is_object()) return not_an_object();
    json::object object = std::move(value.get_object());
    keep_digits(object, body);
    return Fields(std::move(object));
}

// The text of a string or number member.
std::optional<std::string> scalar_text(const json::value& value) {
    if (value.is_string()) {
        std::string_view text = value.get_string();
        if (text.starts_with(text_mark)) text.remove_prefix(text_mark.size());
        return std::string(text);
    }
    if (value.is_int64()) return std::to_string(value.get_int64());
    if (value.is_uint64()) return std::to_string(value.get_uint64());
    return std::nullopt;
}

}  // namespace

Params Params::parse(std::string_view text) {
    Params params;
    if (text.empty()) return params;
    for (std::string_view pair : split(text, '&')) {
        if (pair.empty()) continue;
        std::size_t equals = pair.find('=');
        std::string_view value =
            equals == std::string_view::npos ? std::string_view() : pair.substr(equals + 1);
        params.pairs_.emplace_back(percent_decoded(pair.substr(0, equals), Plus::space),
                                   percent_decoded(value, Plus::space));
    }
    return params;
}

std::optional<std::string_view> Params::get(std::string_view name) const {
    for (const auto& [key, value] : pairs_)
        if (key == name) return value;
    return std::nullopt;
}

Result<std::int64_t> Params::integer(std::string_view name, std::int64_t fallback, std::int64_t min,
                                     std::int64_t max) const {
    auto text = get(name);
    if (!text || text->empty()) return fallback;
    auto value = parse_int<std::int64_t>(*text);
    if (!value || *value < min || *value > max)
        return fail(
            wrong(name, "must be a whole number from " + std::to_string(min) + " to " + std::to_string(max)));
    return *value;
}

Params query(const RequestHead& head) { return Params::parse(head.query); }

std::optional<std::string_view> cookie(const RequestHead& head, std::string_view name) {
    for (const Header& header : head.headers) {
        if (!equals_ignore_case(header.name, "cookie")) continue;
        for (std::string_view pair : split(header.value, ';')) {
            pair = trim(pair);
            if (pair.size() > name.size() && pair.starts_with(name) && pair[name.size()] == '=')
                return pair.substr(name.size() + 1);
        }
    }
    return std::nullopt;
}

bool Fields::has(std::string_view name) const { return raw(name) != nullptr; }

const json::value* Fields::raw(std::string_view name) const {
    const json::value* value = object_.if_contains(name);
    return value == nullptr || value->is_null() ? nullptr : value;
}

void Fields::refuse(std::string_view name, std::string why) {
    if (!error_) error_ = wrong(name, why);
}

Result<void> Fields::error() const {
    if (error_) return fail(*error_);
    return {};
}

std::string Fields::text(std::string_view name) {
    if (!has(name)) {
        refuse(name, "is required");
        return {};
    }
    return text_or(name, {});
}

std::string Fields::text_or(std::string_view name, std::string fallback) {
    const json::value* value = raw(name);
    if (value == nullptr) return fallback;
    if (value->is_string() && !std::string_view(value->get_string()).starts_with(text_mark)) {
        std::string text(value->get_string());
        if (text.find('\0') == std::string::npos) return text;
    }
    refuse(name, "must be text");
    return {};
}

std::int64_t Fields::integer(std::string_view name, std::int64_t min, std::int64_t max) {
    if (!has(name)) refuse(name, "is required");
    return integer_or(name, min, min, max);
}

std::int64_t Fields::integer_or(std::string_view name, std::int64_t fallback, std::int64_t min,
                                std::int64_t max) {
    const json::value* value = raw(name);
    if (value == nullptr) return fallback;
    // Forms, and several of the documented clients, send numbers as text.
    auto text = scalar_text(*value);
    auto number = text ? parse_int<std::int64_t>(*text) : std::nullopt;
    if (number && *number >= min && *number <= max) return *number;
    refuse(name, "must be a whole number from " + std::to_string(min) + " to " + std::to_string(max));
    return fallback;
}

bool Fields::flag_or(std::string_view name, bool fallback) {
    const json::value* value = raw(name);
    if (value == nullptr) return fallback;
    if (value->is_bool()) return value->get_bool();
    if (value->is_string() && value->get_string() == "true") return true;
    if (value->is_string() && value->get_string() == "false") return false;
    refuse(name, "must be true or false");
    return fallback;
}

Nanos Fields::credits(std::string_view name) {
    if (!has(name)) refuse(name, "is required");
    return credits_or_none(name).value_or(Nanos{});
}

std::optional<Nanos> Fields::credits_or_none(std::string_view name) {
    const json::value* value = raw(name);
    if (value == nullptr) return std::nullopt;
    auto text = scalar_text(*value);
    auto amount = text ? Nanos::parse(*text) : std::nullopt;
    if (!amount) refuse(name, "must be an amount with at most 9 decimals");
    return amount;
}

std::optional<Time> Fields::time_or_none(std::string_view name) {
    const json::value* value = raw(name);
    if (value == nullptr) return std::nullopt;
    auto text = scalar_text(*value);
    if (text) {
        if (auto seconds_since = parse_int<std::int64_t>(*text)) {
            constexpr std::int64_t year_9999 = 253'402'300'799;
            if (*seconds_since >= 0 && *seconds_since <= year_9999) return Time(seconds(*seconds_since));
        } else if (auto time = parse_iso8601(*text)) {
            return time;
        }
    }
    refuse(name, "must be a time in ISO 8601 or UNIX seconds");
    return std::nullopt;
}

std::vector<std::string> Fields::texts_or_none(std::string_view name) {
    const json::value* value = raw(name);
    std::vector<std::string> texts;
    if (value == nullptr) return texts;
    if (value->is_array()) {
        for (const json::value& item : value->get_array()) {
            if (!item.is_string()) break;
            texts.emplace_back(item.get_string());
        }
        if (texts.size() == value->get_array().size()) return texts;
    }
    refuse(name, "must be a list of texts");
    return {};
}

void Fields::only(std::initializer_list<std::string_view> names) {
    for (const auto& member : object_) {
        std::string_view key = member.key();
        if (std::ranges::find(names, key) == names.end()) refuse(key, "is not known here");
    }
}

Async<Result<Fields>> read_fields(Exchange& exchange, std::size_t bytes_max) {
    auto body = co_await exchange.body(bytes_max);
    if (!body) co_return fail(std::move(body.error()));
    co_return parse_object(*body);
}

Async<Result<Fields>> read_form_or_fields(Exchange& exchange, std::size_t bytes_max) {
    auto body = co_await exchange.body(bytes_max);
    if (!body) co_return fail(std::move(body.error()));
    std::string_view text = trim(*body);
    if (text.starts_with('{')) co_return parse_object(text);
    json::object object;
    Params params = Params::parse(text);
    for (const auto& [name, value] : params.all())
        if (!object.contains(name)) object[name] = value;
    co_return Fields(std::move(object));
}

Response json_response(int status, const json::value& body) {
    Response response;
    response.status = status;
    response.body = json::serialize(body);
    return response;
}

Response platform_success(json::value data, std::string_view message, json::object extra) {
    json::object body;
    if (!data.is_null()) body["data"] = std::move(data);
    for (auto& member : extra) body[member.key()] = std::move(member.value());
    body["message"] = message;
    body["status"] = "success";
    return json_response(200, body);
}

std::optional<Time> parse_iso8601(std::string_view text) {
    auto number = [&text](std::size_t at, std::size_t count) -> std::optional<int> {
        if (at + count > text.size()) return std::nullopt;
        auto digits = text.substr(at, count);
        if (!std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
        return parse_int<int>(digits);
    };
    auto is = [&text](std::size_t at, char c) { return at < text.size() && text[at] == c; };
    auto y = number(0, 4), mo = number(5, 2), d = number(8, 2);
    if (!y || !mo || !d || !is(4, '-') || !is(7, '-')) return std::nullopt;
    year_month_day date{year(*y), month(static_cast<unsigned>(*mo)), day(static_cast<unsigned>(*d))};
    if (!date.ok()) return std::nullopt;
    Time time{sys_days(date)};
    if (text.size() == 10) return time;
    auto h = number(11, 2), mi = number(14, 2), s = number(17, 2);
    if (!h || !mi || !s || !(is(10, 'T') || is(10, ' ')) || !is(13, ':') || !is(16, ':')) return std::nullopt;
    if (*h > 23 || *mi > 59 || *s > 59) return std::nullopt;
    time += hours(*h) + minutes(*mi) + seconds(*s);
    std::size_t at = 19;
    if (is(at, '.')) {
        std::int64_t scale = 100'000;
        for (++at; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, scale /= 10)
            time += microseconds((text[at] - '0') * scale);
    }
    if (at == text.size() || (is(at, 'Z') && at + 1 == text.size())) return time;
    auto oh = number(at + 1, 2), om = number(at + 4, 2);
    if (!oh || !om || !is(at + 3, ':') || at + 6 != text.size() || !(is(at, '+') || is(at, '-')))
        return std::nullopt;
    auto offset = hours(*oh) + minutes(*om);
    return is(at, '+') ? time - offset : time + offset;
}

std::string eastern_text(Time time) {
    // Daylight time: second Sunday of March, 2:00, to first Sunday of November, 2:00, local time.
    auto date = year_month_day(floor<days>(time));
    Time begins = sys_days(date.year() / March / Sunday[2]) + hours(2 + 5);
    Time ends = sys_days(date.year() / November / Sunday[1]) + hours(2 + 4);
    Time local = time - hours(time >= begins && time < ends ? 4 : 5);
    std::string iso = to_iso8601(local);
    return "EST " + iso.substr(0, 10) + " " + iso.substr(11, 8);
}

}  // namespace nebula::http
