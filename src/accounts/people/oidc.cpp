#include "accounts/people/oidc.hpp"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <cstdlib>

#include "accounts/people/base64url.hpp"
#include "base/crypto.hpp"

namespace nebula::accounts {
namespace {

namespace json = boost::json;

constexpr std::size_t answer_bytes_max = 512 * 1024;
constexpr std::chrono::hours metadata_keep{1};

std::unexpected<Error> provider_failed(std::string detail) {
    return fail(Code::upstream_failed, "the sign-in provider did not answer as it should", {},
                std::move(detail));
}

std::optional<json::object> object_of(const std::string& text) {
    boost::system::error_code failed;
    json::value value = json::parse(text, failed);
    if (failed || !value.is_object()) return std::nullopt;
    return std::move(value.get_object());
}

std::string text_in(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

std::string url_encoded(std::string_view text) {
    static constexpr char digits[] = "0123456789ABCDEF";
    std::string out;
    for (char c : text) {
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                        c == '-' || c == '.' || c == '_' || c == '~';
        auto byte = static_cast<unsigned char>(c);
        if (is_plain)
            out += c;
        else
            out += {'%', digits[byte >> 4], digits[byte & 15]};
    }
    return out;
}

std::string without_slash(std::string text) {
    while (text.ends_with('/')) text.pop_back();
    return text;
}

Secret secret_in(const std::string& variable) {
    const char* value = variable.empty() ? nullptr : std::getenv(variable.c_str());
    return Secret(value == nullptr ? "" : value);
}

std::string pkce_challenge(const std::string& verifier) {
    Sha256 hash = sha256(verifier);
    return base64url({reinterpret_cast<const char*>(hash.bytes.data()), hash.bytes.size()});
}

/// Anyone may listen to plain HTTP, except on the machine itself.
bool is_safe(const std::string& url) {
    auto parsed = http::parse_url(url);
    return parsed &&
           (parsed->origin.tls || !parsed->origin.unix_path.empty() || parsed->origin.host == "127.0.0.1" ||
            parsed->origin.host == "localhost" || parsed->origin.host == "::1");
}

}  // namespace

OidcProvider::OidcProvider(const OidcSettings& settings, http::Client& client, const Clock& clock)
    : settings_(settings),
      client_secret_(secret_in(settings.client_secret_env)),
      client_(client),
      clock_(clock) {}

Async<Result<std::string>> OidcProvider::fetch(http::Method method, std::string url, std::string headers,
                                               std::string body) {
    auto parsed = http::parse_url(url);
    if (!parsed) co_return provider_failed("bad URL " + url);
    std::string_view piece = body;
    http::ClientRequest request;
    request.method = method;
    request.path = parsed->path + (url.ends_with('/') ? "/" : "");
    if (request.path.empty()) request.path = "/";
    request.headers = "accept: application/json\r\n" + headers;
    if (!body.empty()) request.body_pieces = std::span(&piece, 1);
    request.timeouts.first_byte = std::chrono::seconds(10);
    request.timeouts.idle = std::chrono::seconds(10);
    request.timeouts.total = std::chrono::seconds(20);
    auto response = co_await client_.send(parsed->origin, std::move(request), nullptr);
    if (!response) co_return provider_failed(response.error().detail);
    auto text = co_await (*response)->read_all(answer_bytes_max);
    if (!text) co_return provider_failed(text.error().detail);
    if ((*response)->status() != 200)
        co_return provider_failed("status " + std::to_string((*response)->status()));
    co_return std::move(*text);
}

Async<Result<std::string>> OidcProvider::get(std::string url) {
    return fetch(http::Method::get, std::move(url), std::string(), std::string());
}

Async<Result<OidcProvider::Metadata>> OidcProvider::metadata() {
    {
        std::lock_guard lock(mutex_);
        if (metadata_ && clock_.ticks() < metadata_->until) co_return *metadata_;
    }
    std::string address = without_slash(settings_.issuer) + "/.well-known/openid-configuration";
    if (!is_safe(address)) co_return provider_failed("the issuer must be an https URL");
    auto text = co_await get(std::move(address));
    if (!text) co_return fail(text.error());
    auto object = object_of(*text);
    if (!object) co_return provider_failed("the discovery document is malformed");
    // Somebody else's document would send our users, and their codes, elsewhere.
    if (text_in(*object, "issuer") != settings_.issuer) co_return provider_failed("another issuer");
    Metadata found{text_in(*object, "authorization_endpoint"), text_in(*object, "token_endpoint"),
                   text_in(*object, "jwks_uri"), true, clock_.ticks() + metadata_keep};
    if (found.authorization_endpoint.empty() || !is_safe(found.token_endpoint) || !is_safe(found.jwks_uri))
        co_return provider_failed("the discovery document lacks endpoints");
    const json::value* methods = object->if_contains("token_endpoint_auth_methods_supported");
    if (methods != nullptr && methods->is_array()) {
        auto is_basic = [](const json::value& v) {
            return v.is_string() && v.get_string() == "client_secret_basic";
        };
        found.takes_basic = std::ranges::any_of(methods->get_array(), is_basic);
    }
    std::lock_guard lock(mutex_);
    metadata_ = found;
    co_return found;
}

Async<Result<std::vector<Jwk>>> OidcProvider::keys(std::string key_id) {
    {
        std::lock_guard lock(mutex_);
        auto has_id = [&key_id](const Jwk& jwk) { return key_id.empty() || jwk.id == key_id; };
        bool is_known = clock_.ticks() < keys_until_ && std::ranges::any_of(keys_, has_id);
        if (is_known) co_return keys_;
    }
    auto about = co_await metadata();
    if (!about) co_return fail(about.error());
    auto text = co_await get(about->jwks_uri);
    if (!text) co_return fail(text.error());
    auto parsed = parse_jwks(*text);
    if (!parsed) co_return provider_failed("the key set is malformed");
    std::lock_guard lock(mutex_);
    keys_ = *parsed;
    keys_until_ = clock_.ticks() + metadata_keep;
    co_return std::move(*parsed);
}

Async<Result<std::string>> OidcProvider::authorization_url(Login login) {
    auto about = co_await metadata();
    if (!about) co_return fail(about.error());
    std::string scope;
    for (const std::string& word : settings_.scopes) scope += (scope.empty() ? "" : " ") + word;
    std::string url = about->authorization_endpoint;
    url += url.find('?') == std::string::npos ? '?' : '&';
    url += "response_type=code&client_id=" + url_encoded(settings_.client_id) +
           "&redirect_uri=" + url_encoded(login.redirect_url) + "&scope=" + url_encoded(scope) +
           "&state=" + url_encoded(login.state) + "&nonce=" + url_encoded(login.nonce) +
           "&code_challenge=" + pkce_challenge(login.verifier) + "&code_challenge_method=S256";
    co_return url;
}

Async<Result<IdToken>> OidcProvider::redeem(Login login, std::string code) {
    auto about = co_await metadata();
    if (!about) co_return fail(about.error());
    std::string body = "grant_type=authorization_code&code=" + url_encoded(code) +
                       "&redirect_uri=" + url_encoded(login.redirect_url) +
                       "&code_verifier=" + url_encoded(login.verifier) +
                       "&client_id=" + url_encoded(settings_.client_id);
    std::string headers = "content-type: application/x-www-form-urlencoded\r\n";
    if (!client_secret_.empty() && about->takes_basic)
        headers += "authorization: Basic " +
                   base64(url_encoded(settings_.client_id) + ":" + url_encoded(client_secret_.reveal())) +
                   "\r\n";
    else if (!client_secret_.empty())
        body += "&client_secret=" + url_encoded(client_secret_.reveal());
    auto text =
        co_await fetch(http::Method::post, about->token_endpoint, std::move(headers), std::move(body));
    if (!text) co_return fail(text.error());
    auto object = object_of(*text);
    std::string token = object ? text_in(*object, "id_token") : std::string();
    if (token.empty()) co_return provider_failed("the answer holds no ID token");
    auto signers = co_await keys(key_id_of(token));
    if (!signers) co_return fail(signers.error());
    IdTokenExpected expected{settings_.issuer, settings_.client_id, login.nonce};
    co_return verify_id_token(token, *signers, expected, clock_.now());
}

}  // namespace nebula::accounts
