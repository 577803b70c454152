#include <algorithm>
#include <array>
#include <map>

#include "base/check.hpp"
#include "base/text.hpp"
#include "http/http.hpp"

namespace nebula::http {
namespace {

constexpr std::size_t method_count = 7;

struct Route {
    Handler handler;
    Dialect dialect = nullptr;
    std::string access;
    std::vector<std::string> names;  // of the parameters, in the order they stand in the pattern
};

struct Node {
    std::map<std::string, std::unique_ptr<Node>, std::less<>> literals;
    std::unique_ptr<Node> one;   // {name}
    std::unique_ptr<Node> rest;  // {name*}, always a leaf
    std::array<std::unique_ptr<Route>, method_count> routes;
};

std::size_t index_of(Method method) { return static_cast<std::size_t>(method); }

struct Search {
    Method method;
    std::vector<std::string_view> captured;
    const Route* found = nullptr;
    std::array<bool, method_count> other{};  // methods of this path that are not the one asked for
};

bool at_leaf(const Node& node, Search& search) {
    const Route* route = node.routes[index_of(search.method)].get();
    if (route == nullptr && search.method == Method::head) route = node.routes[index_of(Method::get)].get();
    if (route != nullptr) {
        search.found = route;
        return true;
    }
    for (std::size_t i = 0; i < method_count; ++i)
        if (node.routes[i]) search.other[i] = true;
    return false;
}

// `path` is what is left behind the slash. Literals first, then one segment, then the rest.
bool descend(const Node& node, std::string_view path, Search& search) {
    std::size_t slash = path.find('/');
    std::string_view segment = path.substr(0, slash);
    bool last = slash == std::string_view::npos;
    auto enter = [&](const Node& next) {
        return last ? at_leaf(next, search) : descend(next, path.substr(slash + 1), search);
    };
    auto literal = node.literals.find(segment);
    if (literal != node.literals.end() && enter(*literal->second)) return true;
    if (node.one && !segment.empty()) {
        search.captured.push_back(segment);
        if (enter(*node.one)) return true;
        search.captured.pop_back();
    }
    if (node.rest && !path.empty()) {
        search.captured.push_back(path);
        if (at_leaf(*node.rest, search)) return true;
        search.captured.pop_back();
    }
    return false;
}

void collect(const Node& node, const std::string& prefix, std::vector<Router::RouteInfo>& out) {
    for (std::size_t i = 0; i < method_count; ++i) {
        if (!node.routes[i]) continue;
        std::string pattern = prefix.empty() ? "/" : prefix;
        for (const std::string& name : node.routes[i]->names) {
            std::size_t hole = pattern.find("{}");
            std::size_t many = pattern.find("{*}");
            if (hole < many)
                pattern.insert(hole + 1, name);
            else
                pattern.insert(many + 1, name);
        }
        out.push_back({static_cast<Method>(i), std::move(pattern), node.routes[i]->access});
    }
    for (const auto& [name, next] : node.literals) collect(*next, prefix + "/" + name, out);
    if (node.one) collect(*node.one, prefix + "/{}", out);
    if (node.rest) collect(*node.rest, prefix + "/{*}", out);
}

bool is_below(std::string_view path, std::string_view prefix) {
    if (!path.starts_with(prefix)) return false;
    return path.size() == prefix.size() || prefix.ends_with('/') || path[prefix.size()] == '/';
}

// Where no dialect was set at all.
Response plain_dialect(const Error& error, RequestId) {
    Response response;
    response.status = status_of(error.code);
    response.content_type = "text/plain";
    response.body = error.message + "\n";
    return response;
}

}  // namespace

int status_of(Code code) {
    switch (code) {
        case Code::invalid_request:
            return 400;
        case Code::unauthenticated:
            return 401;
        case Code::payment_required:
            return 402;
        case Code::forbidden:
            return 403;
        case Code::not_found:
            return 404;
        case Code::method_not_allowed:
            return 405;
        case Code::conflict:
            return 409;
        case Code::payload_too_large:
            return 413;
        case Code::rate_limited:
            return 429;
        case Code::headers_too_large:
            return 431;
        case Code::cancelled:
            return 499;
        case Code::internal:
            return 500;
        case Code::upstream_failed:
            return 502;
        case Code::overloaded:
            return 503;
        case Code::timeout:
            return 504;
    }
    return 500;
}

struct Router::Impl {
    Node root;
    std::vector<std::pair<std::string, Dialect>> dialects;  // longest prefix first
};

Router::Router() : impl_(std::make_unique<Impl>()) {}
Router::~Router() = default;
Router::Router(Router&&) noexcept = default;

void Router::add(Method method, std::string_view pattern, Dialect dialect, Handler handler,
                 std::string access) {
    CHECK(pattern.starts_with('/'), "patterns are absolute paths");
    auto route = std::make_unique<Route>();
    route->handler = std::move(handler);
    route->dialect = dialect;
    route->access = std::move(access);
    Node* node = &impl_->root;
    bool more = true;
    for (std::string_view left = pattern.substr(1); more;) {
        std::size_t slash = left.find('/');
        std::string_view segment = left.substr(0, slash);
        more = slash != std::string_view::npos;
        if (more) left = left.substr(slash + 1);
        std::unique_ptr<Node>* next = nullptr;
        if (segment.starts_with('{') && segment.ends_with("*}")) {
            CHECK(!more, "{name*} takes the rest of the path");
            route->names.emplace_back(segment.substr(1, segment.size() - 3));
            next = &node->rest;
        } else if (segment.starts_with('{') && segment.ends_with('}')) {
            route->names.emplace_back(segment.substr(1, segment.size() - 2));
            next = &node->one;
        } else {
            next = &node->literals[std::string(segment)];
        }
        if (!*next) *next = std::make_unique<Node>();
        node = next->get();
    }
    auto& place = node->routes[index_of(method)];
    CHECK(place == nullptr, "one handler per method and pattern");
    place = std::move(route);
}

void Router::set_dialect(std::string_view prefix, Dialect dialect) {
    auto& all = impl_->dialects;
    std::erase_if(all, [prefix](const auto& entry) { return entry.first == prefix; });
    auto longer = [](const auto& entry, std::string_view text) { return entry.first.size() > text.size(); };
    all.insert(std::lower_bound(all.begin(), all.end(), prefix, longer), {std::string(prefix), dialect});
}

Router::Match Router::match(Method method, std::string_view path) const {
    Match match;
    Search search{.method = method, .captured = {}};
    if (path.starts_with('/')) descend(impl_->root, path.substr(1), search);
    if (search.found != nullptr) {
        match.path_known = true;
        match.handler = &search.found->handler;
        match.dialect = search.found->dialect;
        for (std::size_t i = 0; i < search.captured.size(); ++i)
            match.params.emplace_back(search.found->names[i], percent_decoded(search.captured[i]));
        return match;
    }
    for (std::size_t i = 0; i < method_count; ++i) {
        if (!search.other[i]) continue;
        match.path_known = true;
        match.allow.append(match.allow.empty() ? "" : ", ").append(method_name(static_cast<Method>(i)));
        if (static_cast<Method>(i) == Method::get && !search.other[index_of(Method::head)])
            match.allow += ", HEAD";
    }
    if (match.path_known && !search.other[index_of(Method::options)]) match.allow += ", OPTIONS";
    match.dialect = plain_dialect;
    for (const auto& [prefix, dialect] : impl_->dialects) {
        if (!is_below(path, prefix)) continue;
        match.dialect = dialect;
        break;
    }
    return match;
}

std::vector<Router::RouteInfo> Router::table() const {
    std::vector<RouteInfo> all;
    collect(impl_->root, "", all);
    std::ranges::sort(all, {}, [](const RouteInfo& route) { return std::pair(route.pattern, route.method); });
    return all;
}

std::vector<std::string> Router::routes() const {
    std::vector<std::string> all;
    for (const RouteInfo& route : table())
        all.push_back(std::string(method_name(route.method)) + " " + route.pattern);
    std::ranges::sort(all);
    return all;
}

}  // namespace nebula::http
