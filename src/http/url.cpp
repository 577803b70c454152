#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/text.hpp"
#include "http/client_impl.hpp"

namespace nebula::http {
namespace {

constexpr std::size_t unix_path_max = 107;  // sockaddr_un

bool printable(std::string_view text) {
    for (char byte : text) {
        auto c = static_cast<unsigned char>(byte);
        if (c <= 0x20 || c >= 0x7f || c == '"' || c == '<' || c == '>' || c == '\\') return false;
    }
    return true;
}

bool is_name(std::string_view host) {
    if (host.empty() || host.size() > 253) return false;
    for (char c : host) {
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
        if (!plain) return false;
    }
    return host.front() != '.' && host.front() != '-';
}

bool is_ipv6(const std::string& host) {
    in6_addr bytes;
    return ::inet_pton(AF_INET6, host.c_str(), &bytes) == 1;
}

/// "/v1/" and "/v1" are the same base.
Result<std::string> clean_path(std::string_view path) {
    if (!printable(path) || path.find_first_of("?#") != std::string_view::npos)
        return fail(Code::invalid_request, "the URL's path must be plain, without query or fragment");
    while (path.ends_with('/')) path.remove_suffix(1);
    return std::string(path);
}

Result<ParsedUrl> parse_unix(std::string_view rest) {
    ParsedUrl parsed;
    std::size_t colon = rest.find(":/");
    std::string_view socket = rest.substr(0, colon);
    if (!socket.starts_with('/') || socket.size() > unix_path_max ||
        socket.find('\0') != std::string_view::npos)
        return fail(Code::invalid_request, "unix: needs an absolute socket path of at most 107 bytes");
    parsed.origin.host = "localhost";
    parsed.origin.unix_path = socket;
    auto path = clean_path(colon == std::string_view::npos ? std::string_view() : rest.substr(colon + 1));
    if (!path) return fail(path.error());
    parsed.path = std::move(*path);
    return parsed;
}

}  // namespace

void append_key(const Origin& origin, std::string& text) {
    text.append(origin.tls ? "s" : "p").append(origin.host).push_back('\0');
    text.append(std::to_string(origin.port)).push_back('\0');
    text.append(origin.unix_path).push_back('\0');
    text.append(origin.ca_file);
}

std::string Origin::key() const {
    std::string text;
    append_key(*this, text);
    return text;
}

Result<ParsedUrl> parse_url(std::string_view url) {
    constexpr std::string_view plain = "http://", secure = "https://", local = "unix:";
    if (equals_ignore_case(url.substr(0, local.size()), local)) return parse_unix(url.substr(local.size()));
    ParsedUrl parsed;
    parsed.origin.tls = equals_ignore_case(url.substr(0, secure.size()), secure);
    if (!parsed.origin.tls && !equals_ignore_case(url.substr(0, plain.size()), plain))
        return fail(Code::invalid_request, "the URL must begin with http://, https:// or unix:/");
    url.remove_prefix(parsed.origin.tls ? secure.size() : plain.size());

    std::size_t authority_end = url.find_first_of("/?#");
    std::string_view authority = url.substr(0, authority_end);
    auto path =
        clean_path(authority_end == std::string_view::npos ? std::string_view() : url.substr(authority_end));
    if (!path) return fail(path.error());
    parsed.path = std::move(*path);
    if (authority.find('@') != std::string_view::npos)
        return fail(Code::invalid_request, "the URL must not contain a user name or password");

    std::string_view port;
    bool has_port = false;
    if (authority.starts_with('[')) {
        std::size_t close = authority.find(']');
        if (close == std::string_view::npos)
            return fail(Code::invalid_request, "the URL's address lacks its ']'");
        parsed.origin.host = to_lower(authority.substr(1, close - 1));
        std::string_view behind = authority.substr(close + 1);
        if (!is_ipv6(parsed.origin.host) || (!behind.empty() && behind.front() != ':'))
            return fail(Code::invalid_request, "the URL's host is not an address or a name");
        has_port = !behind.empty();
        if (has_port) port = behind.substr(1);
    } else {
        std::size_t colon = authority.find(':');
        parsed.origin.host = to_lower(authority.substr(0, colon));
        if (!is_name(parsed.origin.host))
            return fail(Code::invalid_request, "the URL's host is not an address or a name");
        has_port = colon != std::string_view::npos;
        if (has_port) port = authority.substr(colon + 1);
    }
    parsed.origin.port = parsed.origin.tls ? 443 : 80;
    if (has_port) {
        auto number = parse_int<std::uint16_t>(port);
        if (!number || *number == 0) return fail(Code::invalid_request, "the URL's port must be 1 to 65535");
        parsed.origin.port = *number;
    }
    return parsed;
}

}  // namespace nebula::http
