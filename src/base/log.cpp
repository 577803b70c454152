#include "base/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "base/clock.hpp"
#include "base/text.hpp"

namespace nebula::log {
namespace {

constexpr std::size_t value_bytes_max = 512;
constexpr std::uint32_t lines_per_second_max = 20;

// The log is process-wide: everything writes to the one standard error.
std::atomic<Level> threshold{Level::info};
std::atomic<void (*)(std::string_view)> test_sink{nullptr};

spdlog::logger& stderr_logger() {
    static const auto logger = [] {
        auto made =
            std::make_shared<spdlog::logger>("nebula", std::make_shared<spdlog::sinks::stderr_sink_mt>());
        made->set_pattern("%v");
        return made;
    }();
    return *logger;
}

const char* level_name(Level level) {
    switch (level) {
        case Level::debug:
            return "debug";
        case Level::info:
            return "info";
        case Level::warn:
            return "warn";
        case Level::error:
            return "error";
        case Level::off:
            return "off";
    }
    return "off";
}

// Counts lines of one site per second; true when this one may be written.
bool admit(Site& site, std::int64_t second, std::uint32_t& suppressed) {
    if (site.window.exchange(second, std::memory_order_relaxed) != second) {
        site.written.store(1, std::memory_order_relaxed);
        suppressed = site.suppressed.exchange(0, std::memory_order_relaxed);
        return true;
    }
    if (site.written.fetch_add(1, std::memory_order_relaxed) < lines_per_second_max) return true;
    site.suppressed.fetch_add(1, std::memory_order_relaxed);
    return false;
}

}  // namespace

Field::Field(std::string_view field_name, std::string_view text) : name(field_name) {
    value = json_string(text.substr(0, value_bytes_max));
}

bool enabled(Level level) { return level >= threshold.load(std::memory_order_relaxed); }
void set_level(Level level) { threshold = level; }

bool parse_level(std::string_view text, Level& out) {
    for (Level level : {Level::debug, Level::info, Level::warn, Level::error, Level::off}) {
        if (text != level_name(level)) continue;
        out = level;
        return true;
    }
    return false;
}

void set_sink_for_test(void (*sink)(std::string_view line)) { test_sink = sink; }

void write(Site& site, Level level, std::string_view message, std::initializer_list<Field> fields) {
    Time now = SystemClock().now();
    std::uint32_t suppressed = 0;
    if (!admit(site, to_micros(now) / 1'000'000, suppressed)) return;
    std::string line =
        R"({"time":")" + to_iso8601(now) + R"(","level":")" + level_name(level) + R"(","message":)";
    line += json_string(message);
    for (const Field& field : fields) {
        line += ',';
        line += json_string(field.name);
        line += ':';
        line += field.value;
    }
    if (suppressed != 0) line += R"(,"suppressed":)" + std::to_string(suppressed);
    line += '}';
    if (auto sink = test_sink.load()) return sink(line);
    stderr_logger().log(spdlog::level::critical, "{}", line);
}

}  // namespace nebula::log
