#include "billing/bills/wire.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace nebula::billing::bills {
namespace {

// `value` / 10^scale, exact; at least `decimals` digits after the point.
std::string scaled_text(std::int64_t value, std::size_t scale, std::size_t decimals) {
    std::uint64_t size =
        value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
    std::string digits = std::to_string(size);
    if (digits.size() <= scale) digits.insert(0, scale + 1 - digits.size(), '0');
    std::size_t point = digits.size() - scale;
    std::string fraction = digits.substr(point);
    while (fraction.size() > decimals && fraction.back() == '0') fraction.pop_back();
    std::string out = value < 0 ? "-" : "";
    out += digits.substr(0, point);
    if (!fraction.empty()) out += "." + fraction;
    return out;
}

}  // namespace

std::string units_text(Nanos amount) { return scaled_text(amount.value, 5, 0); }

std::string credits_text(Nanos amount, int decimals) {
    return scaled_text(amount.value, 9, static_cast<std::size_t>(std::clamp(decimals, 0, 9)));
}

std::string credits_number(Nanos amount, bool keeps_point) {
    return credits_text(amount, keeps_point ? 1 : 0);
}

std::string seconds_text(Time time) {
    return std::to_string(std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count());
}

void JsonText::separate() {
    if (needs_comma_) out_ += ',';
    needs_comma_ = true;
}

JsonText& JsonText::open(char bracket) {
    separate();
    out_ += bracket;
    closing_ += bracket == '{' ? '}' : ']';
    needs_comma_ = false;
    return *this;
}

JsonText& JsonText::close() {
    out_ += closing_.back();
    closing_.pop_back();
    needs_comma_ = true;
    return *this;
}

JsonText& JsonText::key(std::string_view name) {
    separate();
    out_ += json_string(name);
    out_ += ':';
    needs_comma_ = false;
    return *this;
}

JsonText& JsonText::text(std::string_view value) {
    separate();
    out_ += '"';
    append_json_escaped(out_, value);
    out_ += '"';
    return *this;
}

JsonText& JsonText::raw(std::string_view value) {
    separate();
    out_ += value;
    return *this;
}

JsonText& JsonText::number(std::int64_t value) { return raw(std::to_string(value)); }

void append_csv(std::string& out, std::string_view cell) {
    auto is_number = [&] {
        return std::ranges::all_of(cell,
                                   [](char c) { return (c >= '0' && c <= '9') || c == '.' || c == '-'; });
    };
    // Spreadsheets take these for the start of a formula, wherever the text came from.
    bool is_formula = !cell.empty() && std::string_view("=+-@\t\r\n").contains(cell.front()) && !is_number();
    bool is_quoted = is_formula || cell.find_first_of(",\"\r\n") != std::string_view::npos ||
                     (!cell.empty() && (cell.front() == ' ' || cell.back() == ' '));
    if (!is_quoted) {
        out += cell;
        return;
    }
    out += '"';
    if (is_formula) out += '\'';
    for (char c : cell) {
        if (c == '"') out += '"';
        out += c;
    }
    out += '"';
}

std::string csv_line(const std::vector<std::string>& cells) {
    std::string out;
    for (std::size_t i = 0; i < cells.size(); ++i) {
        if (i > 0) out += ',';
        append_csv(out, cells[i]);
    }
    out += "\r\n";
    return out;
}

}  // namespace nebula::billing::bills
