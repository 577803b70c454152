#pragma once
// Expected failures are values. See reference in ARCHITECTURE.md, "Errors".

#include <expected>
#include <string>
#include <utility>

namespace nebula {

/// What went wrong, independent of any wire dialect. Each dialect maps every code in one exhaustive switch.
enum class Code {
    invalid_request,     // the caller must change the request; `param` names the field
    unauthenticated,     // no key, or not a valid one
    forbidden,           // valid key, not allowed
    not_found,           // missing, or somebody else's
    method_not_allowed,  // the path exists, the method does not
    conflict,            // same idempotency key with other content, or a name already taken
    payload_too_large,   // body above the limit
    headers_too_large,   // head above the limit
    payment_required,    // the balance pays for nothing
    rate_limited,        // a rate limit; `retry_after` says when to come back
    overloaded,          // our own bound reached (connections, queues); try again soon
    upstream_failed,     // the provider failed, cut, or answered nonsense
    timeout,             // a deadline passed: `detail` says which
    cancelled,           // the caller left or we are shutting down
    internal,            // ours to fix
};

/// Stable lower-case word of a code, for logs and metrics.
const char* code_name(Code code);

struct Error {
    Code code = Code::internal;
    std::string message;      // safe to show to the caller; says what to change
    std::string param = {};   // offending request field, when there is one
    std::string detail = {};  // for our log only, never serialized
    int retry_after_ms = 0;   // for rate_limited and overloaded: when to try again; 0 = unknown
    int upstream_status = 0;  // HTTP status of the provider behind upstream_failed, 0 = none
};

template <class T>
using Result = std::expected<T, Error>;

/// `return fail(Code::not_found, "model not found", "model");`
inline std::unexpected<Error> fail(Code code, std::string message, std::string param = {},
                                   std::string detail = {}) {
    return std::unexpected(Error{code, std::move(message), std::move(param), std::move(detail)});
}
inline std::unexpected<Error> fail(Error error) { return std::unexpected(std::move(error)); }

}  // namespace nebula
