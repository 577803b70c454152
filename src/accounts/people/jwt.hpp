#pragma once
// JSON Web Tokens: our own (HS256), and the ID tokens of OpenID Connect providers (RS256, ES256). Whatever is
// wrong gives one answer; the reason stands in Error::detail. Private to this module.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"

namespace nebula::accounts {

struct JwtClaims {
    std::string subject;  // e-mail address
    std::vector<std::string> roles;
    std::vector<std::string> scopes;
    std::int64_t issued_at = 0;  // seconds since 1970
    std::int64_t expires_at = 0;
    std::string session;  // "ses_…"
};
std::string sign_jwt(const JwtClaims& claims, const Secret& key);
/// Only HS256, whatever the header says otherwise; expired and not yet valid ones are refused.
Result<JwtClaims> verify_jwt(std::string_view token, const Secret& key, Time now);

/// One public key of a provider's JWKS.
struct Jwk {
    std::string id;
    std::string type;       // "RSA" | "EC"
    std::string modulus;    // bytes, RSA
    std::string exponent;   // bytes, RSA
    std::string x, y;       // bytes, EC on P-256
    std::string algorithm;  // may be empty
};
/// Keys that sign; others in the set are left out.
Result<std::vector<Jwk>> parse_jwks(std::string_view json_text);

struct IdTokenExpected {
    std::string issuer;
    std::string client_id;
    std::string nonce;
};
struct IdToken {
    std::string subject;
    std::string email;
    std::string name;
    bool is_email_verified = false;
};
/// "kid" of the header, to find out whether the set of keys must be asked for anew.
std::string key_id_of(std::string_view token);
Result<IdToken> verify_id_token(std::string_view token, const std::vector<Jwk>& keys,
                                const IdTokenExpected& expected, Time now);

}  // namespace nebula::accounts
