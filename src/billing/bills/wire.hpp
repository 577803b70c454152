#pragma once
// Amounts and JSON as the bills' dialects write them: money is decimal text made from whole nano-dollars,
// also where the wire has a JSON number, so no digit ever passes through floating point. Private to bills.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/nanos.hpp"

namespace nebula::billing::bills {

/// Units of 0.0001 USD, exact: 1.5 credits = "15000", 1 nano-dollar = "0.00001".
std::string units_text(Nanos amount);
/// Credits with at least `decimals` (0–9) digits after the point, never fewer than are needed: "1228.55600".
std::string credits_text(Nanos amount, int decimals);
/// Credits as a JSON number: "0", "9.8682", "2.004", "100.0" where `keeps_point`.
std::string credits_number(Nanos amount, bool keeps_point = false);
/// "14.975" for people: two digits at least.
inline std::string money_text(Nanos amount) { return credits_text(amount, 2); }

std::string seconds_text(Time time);

/// Writes one JSON text from front to back; commas by itself.
class JsonText {
   public:
    JsonText& open(char bracket);  // '{' or '['
    JsonText& close();
    JsonText& key(std::string_view name);
    JsonText& text(std::string_view value);
    /// Already JSON: a number's digits, true, null, or a whole value.
    JsonText& raw(std::string_view value);
    JsonText& number(std::int64_t value);

    JsonText& text(std::string_view name, std::string_view value) { return key(name).text(value); }
    JsonText& raw(std::string_view name, std::string_view value) { return key(name).raw(value); }
    JsonText& number(std::string_view name, std::int64_t value) { return key(name).number(value); }
    JsonText& open(std::string_view name, char bracket) { return key(name).open(bracket); }
    std::string take() { return std::move(out_); }

   private:
    void separate();
    std::string out_;
    std::string closing_;
    bool needs_comma_ = false;
};

/// One cell of RFC 4180, harmless in a spreadsheet: text that would begin a formula gets an apostrophe in
/// front.
void append_csv(std::string& out, std::string_view cell);
/// Cells separated by commas, CRLF.
std::string csv_line(const std::vector<std::string>& cells);

}  // namespace nebula::billing::bills
