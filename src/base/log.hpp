#pragma once
// One event per line on standard error, as JSON: constant message, data as fields.
//   LOG_INFO("charge posted", {"account", id.text()}, {"nanos", amount.value});
// error = someone must act, warn = degraded but served, info = state changes, debug = off by default.
// Never keys, tokens, bodies or prompts. Values are cut at 512 bytes. One call site writes at most 20 lines a
// second; what it suppressed is added to its next line as "suppressed".

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace nebula::log {

enum class Level { debug, info, warn, error, off };

struct Field {
    std::string_view name;
    std::string value;  // already JSON
    Field(std::string_view field_name, std::string_view text);
    Field(std::string_view field_name, const char* text) : Field(field_name, std::string_view(text)) {}
    Field(std::string_view field_name, const std::string& text) : Field(field_name, std::string_view(text)) {}
    Field(std::string_view field_name, bool flag) : name(field_name), value(flag ? "true" : "false") {}
    template <class Int>
        requires(std::is_integral_v<Int> && !std::is_same_v<Int, bool>)
    Field(std::string_view field_name, Int number) : name(field_name), value(std::to_string(number)) {}
    Field(std::string_view field_name, double number) : name(field_name), value(std::to_string(number)) {}
};

/// Per call site; bounds what a hot error path can write.
struct Site {
    std::atomic<std::int64_t> window{0};
    std::atomic<std::uint32_t> written{0};
    std::atomic<std::uint32_t> suppressed{0};
};

bool enabled(Level level);
void set_level(Level level);
bool parse_level(std::string_view text, Level& out);
void write(Site& site, Level level, std::string_view message, std::initializer_list<Field> fields);
/// Tests capture lines instead of writing them; an empty function restores standard error.
void set_sink_for_test(void (*sink)(std::string_view line));

}  // namespace nebula::log

#define NEBULA_LOG(level, message, ...)                                           \
    do {                                                                          \
        if (::nebula::log::enabled(level)) {                                      \
            static ::nebula::log::Site nebula_log_site;                           \
            ::nebula::log::write(nebula_log_site, level, message, {__VA_ARGS__}); \
        }                                                                         \
    } while (false)
#define LOG_DEBUG(...) NEBULA_LOG(::nebula::log::Level::debug, __VA_ARGS__)
#define LOG_INFO(...) NEBULA_LOG(::nebula::log::Level::info, __VA_ARGS__)
#define LOG_WARN(...) NEBULA_LOG(::nebula::log::Level::warn, __VA_ARGS__)
#define LOG_ERROR(...) NEBULA_LOG(::nebula::log::Level::error, __VA_ARGS__)
