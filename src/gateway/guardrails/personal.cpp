// Personal data by its form, with its checksum where it has one.
#include <arpa/inet.h>

#include <algorithm>
#include <array>

#include "gateway/guardrails/matcher.hpp"

namespace nebula::gateway::guardrails {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; }
bool is_alnum(char c) { return is_digit(c) || is_letter(c); }
bool is_hex(char c) { return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); }

/// Text up to the furthest place that a match may reach, with what stands around it.
struct Window {
    std::string_view text;
    std::size_t begin;  // of the match
    std::size_t limit;  // the match ends here at the latest

    char before() const { return begin == 0 ? ' ' : text[begin - 1]; }
    char at(std::size_t i) const { return i < text.size() ? text[i] : ' '; }
};

/// Where a match at the window's begin ends; 0: there is none.
using End = std::size_t (*)(const Window& window);

bool is_one_of(char c, std::string_view set) { return set.find(c) != std::string_view::npos; }
bool is_local(char c) { return is_alnum(c) || is_one_of(c, "._%+-"); }

// A domain of at least two labels behind '@', the last one of letters.
std::size_t end_of_domain(const Window& w, std::size_t at) {
    std::size_t end = 0, label = at;
    for (std::size_t i = at; i <= w.limit; ++i) {
        char c = i < w.limit ? w.at(i) : ' ';
        if (is_alnum(c) || c == '-') continue;
        bool is_good = i > label && w.text[label] != '-' && w.text[i - 1] != '-';
        if (!is_good) break;
        bool is_name = std::all_of(w.text.begin() + static_cast<std::ptrdiff_t>(label),
                                   w.text.begin() + static_cast<std::ptrdiff_t>(i), is_letter);
        if (label > at && is_name && i - label >= 2) end = i;
        if (c != '.') break;
        label = i + 1;
    }
    return end;
}

std::size_t end_of_email(const Window& w) {
    if (is_local(w.before()) || !is_local(w.at(w.begin))) return 0;
    std::size_t at = w.begin;
    while (at < w.limit && at - w.begin <= 64 && is_local(w.at(at))) ++at;
    if (at >= w.limit || w.at(at) != '@') return 0;
    return end_of_domain(w, at + 1);
}

/// Digits with at most so many separators between them: calls `visit(digits, end)` behind each digit.
template <class Visit>
void walk_digits(const Window& w, std::size_t at, std::string_view separators, int separators_max,
                 Visit visit) {
    std::size_t count = 0;
    while (at < w.limit) {
        for (int k = 0; count > 0 && k < separators_max && is_one_of(w.at(at), separators); ++k) ++at;
        if (at >= w.limit || !is_digit(w.at(at))) return;
        ++at;
        if (!visit(++count, at)) return;
    }
}

// "+" or "00" and 8 to 15 digits, or three groups as in North America.
std::size_t end_of_phone(const Window& w) {
    if (is_alnum(w.before()) || w.before() == '+' || w.before() == '_') return 0;
    std::size_t start = w.begin, most = 15;
    if (w.at(start) == '+') {
        ++start;
    } else if (w.at(start) == '0' && w.at(start + 1) == '0') {
        start += 2;
    } else {
        std::size_t at = start;
        bool has_bracket = w.at(at) == '(';
        if (has_bracket) ++at;
        auto digits = [&](std::size_t count) {
            for (std::size_t k = 0; k < count; ++k, ++at)
                if (at >= w.limit || !is_digit(w.at(at))) return false;
            return true;
        };
        auto separator = [&] { return at < w.limit && is_one_of(w.at(at), " .-") && ++at > 0; };
        if (!digits(3)) return 0;
        if (has_bracket && w.at(at++) != ')') return 0;
        bool is_separated = separator();
        if ((!is_separated && !has_bracket) || !digits(3) || !separator() || !digits(4)) return 0;
        return at > w.limit || is_alnum(w.at(at)) ? 0 : at;
    }
    std::size_t end = 0;
    if (w.at(start) == '0') return 0;
    walk_digits(w, start, " .-/()", 2, [&](std::size_t count, std::size_t at) {
        bool is_whole = !is_alnum(w.at(at));
        if (count >= 8 && is_whole) end = at;
        return count < most;
    });
    return end;
}

std::size_t end_of_card(const Window& w) {
    if (is_alnum(w.before()) || w.before() == '_' || w.at(w.begin) < '2' || w.at(w.begin) > '6') return 0;
    std::array<int, 19> digits{};
    std::size_t end = 0;
    walk_digits(w, w.begin, " -", 1, [&](std::size_t count, std::size_t at) {
        digits[count - 1] = w.text[at - 1] - '0';
        if (count >= 13 && !is_alnum(w.at(at))) {
            int sum = 0;
            for (std::size_t k = 0; k < count; ++k) {
                int digit = digits[count - 1 - k] * (k % 2 == 1 ? 2 : 1);
                sum += digit > 9 ? digit - 9 : digit;
            }
            if (sum % 10 == 0) end = at;
        }
        return count < digits.size();
    });
    return end;
}

int append_mod_97(int mod, char c) {
    if (is_digit(c)) return (mod * 10 + (c - '0')) % 97;
    return (mod * 100 + ((c | 0x20) - 'a' + 10)) % 97;
}

// Country, two check digits, 11 to 30 characters; spaces may stand between groups. ISO 13616: modulo 97 is 1.
std::size_t end_of_iban(const Window& w) {
    if (is_alnum(w.before()) || w.before() == '_') return 0;
    std::array<char, 4> head{};
    std::size_t end = 0, count = 0;
    int mod = 0;
    for (std::size_t at = w.begin; at < w.limit; ++at) {
        if (count >= 4 && w.at(at) == ' ') ++at;
        if (at >= w.limit || !is_alnum(w.at(at))) break;
        char c = w.text[at];
        if (count < 2 ? !is_letter(c) : count < 4 && !is_digit(c)) return 0;
        if (count < 4)
            head[count] = c;
        else
            mod = append_mod_97(mod, c);
        if (++count > 34) break;
        if (count < 15 || is_alnum(w.at(at + 1))) continue;
        int whole = mod;
        for (char first : head) whole = append_mod_97(whole, first);
        if (whole == 1) end = at + 1;
    }
    return end;
}

std::size_t end_of_ip(const Window& w) {
    char before = w.before();
    if (is_alnum(before) || before == '.' || before == ':' || before == '_') return 0;
    in6_addr address{};
    std::size_t end = w.begin;
    while (end < w.limit && (is_digit(w.at(end)) || w.at(end) == '.')) ++end;
    if (end > w.begin && w.at(end - 1) == '.') --end;
    std::string four(w.text.substr(w.begin, end - w.begin));
    bool is_four = std::ranges::count(four, '.') == 3 && inet_pton(AF_INET, four.c_str(), &address) == 1;
    if (is_four) return is_alnum(w.at(end)) || w.at(end) == '_' ? 0 : end;

    end = w.begin;
    while (end < w.limit && (is_hex(w.at(end)) || w.at(end) == '.' || w.at(end) == ':')) ++end;
    std::size_t stop = end;
    while (end > w.begin && (w.at(end - 1) == '.' || (w.at(end - 1) == ':' && w.at(end - 2) != ':'))) --end;
    if (end == stop && (is_alnum(w.at(end)) || w.at(end) == '_')) return 0;
    std::string word(w.text.substr(w.begin, end - w.begin));
    if (word.find(':') == std::string::npos) return 0;
    // Words of code look like short addresses: "a::b".
    bool is_likely = word.size() >= 6 && std::ranges::any_of(word, is_digit);
    return is_likely && inet_pton(AF_INET6, word.c_str(), &address) == 1 ? end : 0;
}

struct KeyForm {
    std::string_view prefix;
    std::size_t more;  // characters behind it at least
};
constexpr KeyForm key_forms[] = {
    {"sk-", 20},  {"sk_live_", 16}, {"sk_test_", 16}, {"rk_live_", 16},    {"pk_live_", 16}, {"ghp_", 30},
    {"gho_", 30}, {"ghs_", 30},     {"ghu_", 30},     {"github_pat_", 30}, {"glpat-", 20},   {"AKIA", 16},
    {"ASIA", 16}, {"AIza", 35},     {"xoxb-", 20},    {"xoxp-", 20},       {"hf_", 30},      {"npm_", 30},
};

std::size_t end_of_api_key(const Window& w) {
    char before = w.before();
    if (is_alnum(before) || before == '_' || before == '-') return 0;
    std::string_view rest = w.text.substr(w.begin, w.limit - w.begin);
    for (const KeyForm& form : key_forms) {
        if (!rest.starts_with(form.prefix)) continue;
        std::size_t end = form.prefix.size();
        while (end < rest.size() && (is_alnum(rest[end]) || rest[end] == '_' || rest[end] == '-')) ++end;
        if (end >= form.prefix.size() + form.more) return w.begin + end;
    }
    return 0;
}

class Personal final : public Matcher {
   public:
    constexpr Personal(std::string_view name, std::string_view kind, std::size_t reach, End end,
                       std::string_view firsts)
        : name_(name), kind_(kind), reach_(reach), end_(end), firsts_(firsts) {}

    std::string_view name() const { return name_; }
    std::string_view kind() const override { return kind_; }
    std::size_t reach() const override { return reach_ + 2; }  // with context behind it
    std::optional<Match> find(std::string_view text, std::size_t from, std::size_t until) const override {
        for (std::size_t at = from; at < until; ++at) {
            if (!may_begin(text[at])) continue;
            std::size_t end = end_({text, at, std::min(text.size(), at + reach_)});
            if (end > at) return Match{at, end};
        }
        return std::nullopt;
    }

   private:
    bool may_begin(char c) const { return is_alnum(c) || firsts_.find(c) != std::string_view::npos; }

    std::string_view name_, kind_;
    std::size_t reach_;
    End end_;
    std::string_view firsts_;  // besides letters and digits
};

const std::array personal{
    Personal("email", "EMAIL", 320, end_of_email, "._%+-"),
    Personal("phone", "PHONE", 40, end_of_phone, "+("),
    Personal("iban", "IBAN", 44, end_of_iban, ""),
    Personal("credit_card", "CARD", 40, end_of_card, ""),
    Personal("ip", "IP", 48, end_of_ip, ":"),
    Personal("api_key", "KEY", 512, end_of_api_key, ""),
};

}  // namespace

std::shared_ptr<const Matcher> make_personal(std::string_view entity) {
    for (const Personal& one : personal)
        if (one.name() == entity) return {std::shared_ptr<void>(), &one};
    return nullptr;
}

}  // namespace nebula::gateway::guardrails
