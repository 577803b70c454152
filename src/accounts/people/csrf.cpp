#include "accounts/people/csrf.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace nebula::accounts {
namespace {

bool is_token(std::string_view text) {
    auto good = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.';
    };
    return !text.empty() && std::ranges::all_of(text, good);
}

/// Forms (and scripts of other sites without asking first) send three types only, or none.
bool no_form_sends(std::string_view content_type) {
    std::string type = to_lower(trim(content_type.substr(0, content_type.find(';'))));
    std::size_t slash = type.find('/');
    if (slash == std::string::npos || !is_token(std::string_view(type).substr(0, slash)) ||
        !is_token(std::string_view(type).substr(slash + 1)))
        return false;
    return type != "application/x-www-form-urlencoded" && type != "multipart/form-data" &&
           type != "text/plain";
}

bool is_own_origin(std::string_view origin, std::string_view host) {
    for (std::string_view scheme : {"https://", "http://"})
        if (origin.starts_with(scheme)) return equals_ignore_case(origin.substr(scheme.size()), host);
    return false;  // "null" and whatever else
}

}  // namespace

bool changes_something(http::Method method) {
    return method != http::Method::get && method != http::Method::head && method != http::Method::options;
}

bool is_from_this_site(const http::RequestHead& head) {
    if (auto site = head.header("sec-fetch-site")) return *site == "same-origin" || *site == "none";
    if (auto origin = head.header("origin")) {
        auto host = head.header("host");
        return host && !host->empty() && is_own_origin(*origin, *host);
    }
    auto type = head.header("content-type");
    return type && no_form_sends(*type);
}

}  // namespace nebula::accounts
