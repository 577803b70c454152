#pragma once
// Command line flags of the benchmark programs: `--name value` and bare `--name`.

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace nebula::bench {

/// A wrong command line. The text is meant for the person who typed it.
struct UsageError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Flags are asked for by name; finish() then refuses what nobody asked for, so that a mistyped flag is an
/// error and not a silently different measurement. Every getter throws UsageError for a missing or malformed
/// value.
class Args {
   public:
    Args(int argc, const char* const* argv);

    /// True when the bare flag is present.
    bool flag(std::string_view name);
    std::string text(std::string_view name, std::string_view fallback);
    /// Every value of a flag that may be repeated, in order.
    std::vector<std::string> texts(std::string_view name);
    std::uint64_t number(std::string_view name, std::uint64_t fallback, std::uint64_t max);
    /// A decimal number of at least 0, for seconds, rates and ratios.
    double decimal(std::string_view name, double fallback);
    void finish() const;

   private:
    struct Word {
        std::string text;
        bool used = false;
    };
    std::vector<Word> words_;
};

}  // namespace nebula::bench
