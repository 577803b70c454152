#pragma once
// An OpenID Connect provider: discovery, keys, exchange of the code. Private to this module.

#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "accounts/people.hpp"
#include "accounts/people/jwt.hpp"
#include "http/client.hpp"

namespace nebula::accounts {

/// Thread-safe; its coroutines run on I/O threads (they use the HTTP client). What the provider tells of
/// itself is kept for an hour, its keys too; an unknown key id asks anew: that takes a
/// code that the provider has just accepted.
class OidcProvider {
   public:
    OidcProvider(const OidcSettings& settings, http::Client& client, const Clock& clock);

    bool is_on() const { return !settings_.issuer.empty(); }
    struct Login {
        std::string state;
        std::string nonce;
        std::string verifier;  // PKCE
        std::string redirect_url;
    };
    /// Where the browser goes.
    Async<Result<std::string>> authorization_url(Login login);
    /// Who came back with `code`.
    Async<Result<IdToken>> redeem(Login login, std::string code);

   private:
    struct Metadata {
        std::string authorization_endpoint;
        std::string token_endpoint;
        std::string jwks_uri;
        bool takes_basic = true;
        Ticks until;
    };
    Async<Result<Metadata>> metadata();
    Async<Result<std::vector<Jwk>>> keys(std::string key_id);
    Async<Result<std::string>> get(std::string url);
    Async<Result<std::string>> fetch(http::Method method, std::string url, std::string headers,
                                     std::string body);

    const OidcSettings settings_;
    const Secret client_secret_;
    http::Client& client_;
    const Clock& clock_;
    std::mutex mutex_;  // of what follows; never held across a wait
    std::optional<Metadata> metadata_;
    std::vector<Jwk> keys_;
    Ticks keys_until_{};
};

}  // namespace nebula::accounts
