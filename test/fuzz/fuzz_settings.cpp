// The configuration file is an operator's text: whatever it says, every mistake is a message and never a
// crash; and what explain() prints can be read back.
#include <string_view>

#include "app/settings.hpp"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    nebula::app::AppSettings settings;
    auto describe = [&settings](nebula::settings::Visitor& v) { settings.describe(v); };
    auto problems = nebula::settings::load(text, describe);
    if (!problems.empty()) return 0;
    std::string explained = nebula::settings::explain(describe);
    nebula::app::AppSettings again;
    auto describe_again = [&again](nebula::settings::Visitor& v) { again.describe(v); };
    auto problems_again = nebula::settings::load(explained, describe_again);
    if (!problems_again.empty()) __builtin_trap();
    return 0;
}
