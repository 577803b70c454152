#include "base/check.hpp"

#include <execinfo.h>

#include <cstdlib>
#include <string>

#include "base/log.hpp"

namespace nebula {
namespace {

std::string stack_text() {
    void* frames[32];
    int count = backtrace(frames, 32);
    char** names = backtrace_symbols(frames, count);
    std::string text;
    for (int i = 2; names != nullptr && i < count; ++i) {
        text += names[i];
        text += '|';
    }
    free(names);  // allocated by backtrace_symbols with malloc
    return text;
}

}  // namespace

void check_failed(const char* expression, const char* why, const char* file, int line) {
    LOG_ERROR("check failed", {"expression", expression}, {"why", why}, {"file", file}, {"line", line},
              {"stack", stack_text()});
    throw CheckFailed(std::string(expression) + ": " + why);
}

void check_fatal(const char* expression, const char* why, const char* file, int line) {
    LOG_ERROR("fatal check failed", {"expression", expression}, {"why", why}, {"file", file}, {"line", line},
              {"stack", stack_text()});
    std::abort();
}

}  // namespace nebula
