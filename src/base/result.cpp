#include "base/result.hpp"

namespace nebula {

const char* code_name(Code code) {
    switch (code) {
        case Code::invalid_request:
            return "invalid_request";
        case Code::unauthenticated:
            return "unauthenticated";
        case Code::forbidden:
            return "forbidden";
        case Code::not_found:
            return "not_found";
        case Code::method_not_allowed:
            return "method_not_allowed";
        case Code::conflict:
            return "conflict";
        case Code::payload_too_large:
            return "payload_too_large";
        case Code::headers_too_large:
            return "headers_too_large";
        case Code::payment_required:
            return "payment_required";
        case Code::rate_limited:
            return "rate_limited";
        case Code::overloaded:
            return "overloaded";
        case Code::upstream_failed:
            return "upstream_failed";
        case Code::timeout:
            return "timeout";
        case Code::cancelled:
            return "cancelled";
        case Code::internal:
            return "internal";
    }
    return "internal";
}

}  // namespace nebula
