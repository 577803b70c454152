#pragma once
// HTTP edge of customers' provider keys: OpenRouter's /api/v1/byok and the console. Private to catalog.

#include "catalog/provider_keys.hpp"
#include "http/json_api.hpp"

namespace nebula::catalog {

/// Lives as long as the router.
class ProviderKeyApi {
   public:
    explicit ProviderKeyApi(ProviderKeys& keys) : keys_(keys) {}
    void register_routes(http::Router& router, accounts::Guard& guard);

   private:
    using Answer = Async<Result<http::Response>>;
    using Operation = Answer (ProviderKeyApi::*)(http::Exchange& exchange, accounts::Caller caller);
    Async<void> serve(http::Exchange& exchange, accounts::Caller caller, Operation operation);

    Answer list(http::Exchange& exchange, accounts::Caller caller);
    Answer create(http::Exchange& exchange, accounts::Caller caller);
    Answer show(http::Exchange& exchange, accounts::Caller caller);
    Answer change(http::Exchange& exchange, accounts::Caller caller);
    Answer remove(http::Exchange& exchange, accounts::Caller caller);
    Async<Result<ProviderKey>> named(http::Exchange& exchange, AccountId account);
    bool is_provider(std::string_view name) const;

    ProviderKeys& keys_;
};

}  // namespace nebula::catalog
