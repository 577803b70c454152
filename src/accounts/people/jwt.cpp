#include "accounts/people/jwt.hpp"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <memory>
#include <optional>

#include "accounts/people/base64url.hpp"
#include "base/check.hpp"
#include "base/crypto.hpp"

namespace nebula::accounts {
namespace {

namespace json = boost::json;

constexpr std::size_t token_bytes_max = 16 * 1024;
constexpr std::int64_t clock_difference_max = 60;  // seconds that two machines may disagree

template <auto Free>
struct Freed {
    template <class T>
    void operator()(T* thing) const {
        Free(thing);
    }
};
using PKey = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using PKeyContext = std::unique_ptr<EVP_PKEY_CTX, Freed<EVP_PKEY_CTX_free>>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, Freed<EVP_MD_CTX_free>>;
using ParamBuilder = std::unique_ptr<OSSL_PARAM_BLD, Freed<OSSL_PARAM_BLD_free>>;
using Params = std::unique_ptr<OSSL_PARAM, Freed<OSSL_PARAM_free>>;
using Number = std::unique_ptr<BIGNUM, Freed<BN_free>>;

const unsigned char* bytes_of(std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
}

std::unexpected<Error> refused(const char* why) {
    return fail(Code::unauthenticated, "the token is not valid or has expired", {}, why);
}

std::string hmac_sha256(std::string_view text, const Secret& key) {
    std::array<unsigned char, 32> mac{};
    unsigned size = mac.size();
    const std::string& bytes = key.reveal();
    CHECK(HMAC(EVP_sha256(), bytes.data(), static_cast<int>(bytes.size()), bytes_of(text), text.size(),
               mac.data(), &size) != nullptr,
          "hashing memory cannot fail");
    return {mac.begin(), mac.begin() + size};
}

std::optional<json::object> object_of(std::string_view text) {
    boost::system::error_code failed;
    json::parse_options options;
    options.max_depth = 8;
    json::value value = json::parse(text, failed, {}, options);
    if (failed || !value.is_object()) return std::nullopt;
    return std::move(value.get_object());
}

std::string text_in(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

std::int64_t seconds_in(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    if (value == nullptr) return 0;
    if (value->is_int64()) return value->get_int64();
    // Some providers write a fraction.
    constexpr double far_future = 1e12;
    return value->is_double() && value->get_double() >= 0 && value->get_double() < far_future
               ? static_cast<std::int64_t>(value->get_double())
               : 0;
}

std::vector<std::string> texts_in(const json::object& object, std::string_view name) {
    std::vector<std::string> texts;
    const json::value* value = object.if_contains(name);
    if (value == nullptr) return texts;
    if (value->is_string()) texts.emplace_back(value->get_string());
    if (value->is_array())
        for (const json::value& item : value->get_array())
            if (item.is_string()) texts.emplace_back(item.get_string());
    return texts;
}

struct Parts {
    std::string_view signed_text;
    json::object header;
    json::object payload;
    std::string signature;
};

std::optional<Parts> parts_of(std::string_view token) {
    std::size_t first = token.find('.');
    std::size_t last = token.rfind('.');
    if (token.size() > token_bytes_max || first == std::string_view::npos || first == last ||
        token.find('.', first + 1) != last)
        return std::nullopt;
    auto header = base64url_decoded(token.substr(0, first));
    auto payload = base64url_decoded(token.substr(first + 1, last - first - 1));
    auto signature = base64url_decoded(token.substr(last + 1));
    if (!header || !payload || !signature) return std::nullopt;
    auto header_object = object_of(*header);
    auto payload_object = object_of(*payload);
    if (!header_object || !payload_object) return std::nullopt;
    // Extensions that must be understood are none of ours.
    if (header_object->contains("crit")) return std::nullopt;
    return Parts{token.substr(0, last), std::move(*header_object), std::move(*payload_object),
                 std::move(*signature)};
}

std::int64_t seconds_of(Time now) { return to_micros(now) / 1'000'000; }

Number number_of(const std::string& bytes) {
    return Number(BN_bin2bn(bytes_of(bytes), static_cast<int>(bytes.size()), nullptr));
}

PKey key_from(const char* type, ParamBuilder& builder) {
    Params params(OSSL_PARAM_BLD_to_param(builder.get()));
    PKeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
    EVP_PKEY* key = nullptr;
    if (!params || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
        EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) != 1)
        return nullptr;
    return PKey(key);
}

PKey rsa_key(const Jwk& jwk) {
    constexpr std::size_t bytes_min = 256, bytes_max = 1024;  // 2,048 to 8,192 bits
    if (jwk.modulus.size() < bytes_min || jwk.modulus.size() > bytes_max || jwk.exponent.size() > 8)
        return nullptr;
    Number modulus = number_of(jwk.modulus), exponent = number_of(jwk.exponent);
    ParamBuilder builder(OSSL_PARAM_BLD_new());
    if (!OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus.get()) ||
        !OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, exponent.get()))
        return nullptr;
    return key_from("RSA", builder);
}

PKey ec_key(const Jwk& jwk) {
    if (jwk.x.size() != 32 || jwk.y.size() != 32) return nullptr;
    std::string point = "\x04" + jwk.x + jwk.y;
    ParamBuilder builder(OSSL_PARAM_BLD_new());
    if (!OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) ||
        !OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()))
        return nullptr;
    return key_from("EC", builder);
}

/// JSON Web Signatures hold the two numbers side by side, OpenSSL wants DER.
std::string der_signature(const std::string& raw) {
    if (raw.size() != 64) return {};
    std::unique_ptr<ECDSA_SIG, Freed<ECDSA_SIG_free>> signature(ECDSA_SIG_new());
    Number r = number_of(raw.substr(0, 32)), s = number_of(raw.substr(32));
    if (!signature || !r || !s || ECDSA_SIG_set0(signature.get(), r.get(), s.get()) != 1) return {};
    (void)r.release();
    (void)s.release();
    unsigned char* out = nullptr;
    int size = i2d_ECDSA_SIG(signature.get(), &out);
    if (size <= 0) return {};
    std::string der(reinterpret_cast<char*>(out), static_cast<std::size_t>(size));
    OPENSSL_free(out);
    return der;
}

bool is_signed_by(const Jwk& jwk, std::string_view algorithm, const Parts& parts) {
    // The key's type decides how it may be used, never the token alone.
    bool is_rsa = jwk.type == "RSA" && algorithm == "RS256";
    bool is_ec = jwk.type == "EC" && algorithm == "ES256";
    if ((!is_rsa && !is_ec) || (!jwk.algorithm.empty() && jwk.algorithm != algorithm)) return false;
    PKey key = is_rsa ? rsa_key(jwk) : ec_key(jwk);
    std::string signature = is_rsa ? parts.signature : der_signature(parts.signature);
    DigestContext context(EVP_MD_CTX_new());
    return key && !signature.empty() &&
           EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key.get()) == 1 &&
           EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(), bytes_of(parts.signed_text),
                            parts.signed_text.size()) == 1;
}

const char* claims_problem(const json::object& claims, const IdTokenExpected& expected, std::int64_t now) {
    if (text_in(claims, "iss") != expected.issuer) return "another issuer";
    std::vector<std::string> audience = texts_in(claims, "aud");
    if (std::ranges::find(audience, expected.client_id) == audience.end()) return "another audience";
    std::string party = text_in(claims, "azp");
    if ((audience.size() > 1 || !party.empty()) && party != expected.client_id) return "another party";
    if (seconds_in(claims, "exp") <= now - clock_difference_max) return "expired";
    if (seconds_in(claims, "iat") > now + clock_difference_max) return "issued in the future";
    if (seconds_in(claims, "nbf") > now + clock_difference_max) return "not valid yet";
    if (expected.nonce.empty() || !constant_time_equal(text_in(claims, "nonce"), expected.nonce))
        return "another nonce";
    if (text_in(claims, "sub").empty()) return "no subject";
    return nullptr;
}

}  // namespace

std::string sign_jwt(const JwtClaims& claims, const Secret& key) {
    json::array roles(claims.roles.begin(), claims.roles.end());
    json::array scopes(claims.scopes.begin(), claims.scopes.end());
    json::object payload{{"sub", claims.subject},   {"roles", roles},           {"scopes", scopes},
                         {"iat", claims.issued_at}, {"exp", claims.expires_at}, {"sid", claims.session}};
    std::string text =
        base64url(R"({"alg":"HS256","typ":"JWT"})") + "." + base64url(json::serialize(payload));
    return text + "." + base64url(hmac_sha256(text, key));
}

Result<JwtClaims> verify_jwt(std::string_view token, const Secret& key, Time now) {
    auto parts = parts_of(token);
    if (!parts) return refused("malformed");
    if (text_in(parts->header, "alg") != "HS256") return refused("another algorithm");
    if (!constant_time_equal(parts->signature, hmac_sha256(parts->signed_text, key)))
        return refused("bad signature");
    JwtClaims claims{text_in(parts->payload, "sub"),     texts_in(parts->payload, "roles"),
                     texts_in(parts->payload, "scopes"), seconds_in(parts->payload, "iat"),
                     seconds_in(parts->payload, "exp"),  text_in(parts->payload, "sid")};
    if (claims.expires_at <= seconds_of(now)) return refused("expired");
    if (claims.issued_at > seconds_of(now) + clock_difference_max) return refused("issued in the future");
    return claims;
}

Result<std::vector<Jwk>> parse_jwks(std::string_view json_text) {
    auto set = object_of(json_text);
    const json::value* keys = set ? set->if_contains("keys") : nullptr;
    if (keys == nullptr || !keys->is_array()) return refused("the key set is malformed");
    constexpr std::size_t keys_max = 100;
    std::vector<Jwk> all;
    for (const json::value& value : keys->get_array()) {
        if (!value.is_object() || all.size() >= keys_max) continue;
        const json::object& key = value.get_object();
        std::string use = text_in(key, "use");
        if (!use.empty() && use != "sig") continue;
        if (text_in(key, "kty") == "EC" && text_in(key, "crv") != "P-256") continue;
        auto bytes = [&key](std::string_view name) {
            return base64url_decoded(text_in(key, name)).value_or(std::string());
        };
        all.push_back({text_in(key, "kid"), text_in(key, "kty"), bytes("n"), bytes("e"), bytes("x"),
                       bytes("y"), text_in(key, "alg")});
    }
    return all;
}

std::string key_id_of(std::string_view token) {
    auto header = base64url_decoded(token.substr(0, token.find('.')));
    auto object = header ? object_of(*header) : std::nullopt;
    return object ? text_in(*object, "kid") : std::string();
}

Result<IdToken> verify_id_token(std::string_view token, const std::vector<Jwk>& keys,
                                const IdTokenExpected& expected, Time now) {
    auto parts = parts_of(token);
    if (!parts) return refused("malformed");
    std::string algorithm = text_in(parts->header, "alg");
    std::string id = text_in(parts->header, "kid");
    auto signs = [&](const Jwk& jwk) {
        return (id.empty() || jwk.id == id) && is_signed_by(jwk, algorithm, *parts);
    };
    if (std::ranges::none_of(keys, signs)) return refused("no key of the issuer signed it");
    if (const char* problem = claims_problem(parts->payload, expected, seconds_of(now)))
        return refused(problem);
    const json::value* verified = parts->payload.if_contains("email_verified");
    bool is_verified = verified != nullptr && ((verified->is_bool() && verified->get_bool()) ||
                                               (verified->is_string() && verified->get_string() == "true"));
    return IdToken{text_in(parts->payload, "sub"), text_in(parts->payload, "email"),
                   text_in(parts->payload, "name"), is_verified};
}

}  // namespace nebula::accounts
