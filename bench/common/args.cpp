#include "common/args.hpp"

#include <charconv>
#include <cstdlib>

namespace nebula::bench {

Args::Args(int argc, const char* const* argv) {
    for (int i = 1; i < argc; ++i) words_.push_back({argv[i]});
}

bool Args::flag(std::string_view name) {
    for (Word& word : words_) {
        if (word.text != name) continue;
        word.used = true;
        return true;
    }
    return false;
}

std::vector<std::string> Args::texts(std::string_view name) {
    std::vector<std::string> values;
    for (std::size_t i = 0; i < words_.size(); ++i) {
        if (words_[i].used || words_[i].text != name) continue;
        if (i + 1 == words_.size()) throw UsageError(std::string(name) + " needs a value");
        words_[i].used = words_[i + 1].used = true;
        values.push_back(words_[i + 1].text);
    }
    return values;
}

std::string Args::text(std::string_view name, std::string_view fallback) {
    std::vector<std::string> values = texts(name);
    return values.empty() ? std::string(fallback) : values.back();
}

std::uint64_t Args::number(std::string_view name, std::uint64_t fallback, std::uint64_t max) {
    std::string value = text(name, "");
    if (value.empty()) return fallback;
    std::uint64_t result = 0;
    auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
    if (error != std::errc{} || end != value.data() + value.size() || result > max) {
        throw UsageError(std::string(name) + " takes a whole number up to " + std::to_string(max));
    }
    return result;
}

double Args::decimal(std::string_view name, double fallback) {
    std::string value = text(name, "");
    if (value.empty()) return fallback;
    char* end = nullptr;
    double result = std::strtod(value.c_str(), &end);
    if (end != value.c_str() + value.size() || !(result >= 0 && result < 1e12)) {
        throw UsageError(std::string(name) + " takes a decimal number of at least 0");
    }
    return result;
}

void Args::finish() const {
    for (const Word& word : words_) {
        if (!word.used) throw UsageError("unknown argument " + word.text);
    }
}

}  // namespace nebula::bench
