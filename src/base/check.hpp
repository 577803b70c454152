#pragma once
// CHECK(cond, "why it must hold") stays on in release. It throws, so the transaction rolls back and only that
// request fails. CHECK_FATAL aborts: only where going on could corrupt memory or money. Never CHECK what
// input can cause.

#include <stdexcept>

namespace nebula {

class CheckFailed : public std::logic_error {
   public:
    using std::logic_error::logic_error;
};

/// Logs with a stack and throws CheckFailed.
[[noreturn]] void check_failed(const char* expression, const char* why, const char* file, int line);
/// Logs with a stack and aborts.
[[noreturn]] void check_fatal(const char* expression, const char* why, const char* file, int line);

}  // namespace nebula

#define CHECK(cond, why)                                            \
    do {                                                            \
        if (!(cond)) [[unlikely]]                                   \
            ::nebula::check_failed(#cond, why, __FILE__, __LINE__); \
    } while (false)
#define CHECK_FATAL(cond, why)                                     \
    do {                                                           \
        if (!(cond)) [[unlikely]]                                  \
            ::nebula::check_fatal(#cond, why, __FILE__, __LINE__); \
    } while (false)
