#pragma once
// HTTP edge of API keys in three dialects. Private to this module.

#include "accounts/teams.hpp"
#include "accounts/teams/edge.hpp"
#include "accounts/teams/key_json.hpp"

namespace nebula::accounts {

class KeyApi {
   public:
    KeyApi(store::Db& db, Accounts& accounts, const Clock& clock)
        : db_(db), accounts_(accounts), clock_(clock) {}
    void set_key_usage(KeyUsageOf usage) { usage_of_ = std::move(usage); }
    void register_routes(http::Router& router, Guard& guard);

    // Platform, OpenRouter and console.
    Answer list(http::Exchange& exchange, Caller caller, KeyStyle style);
    Answer create(http::Exchange& exchange, Caller caller, KeyStyle style);
    Answer get(http::Exchange& exchange, Caller caller, KeyStyle style);
    Answer change(http::Exchange& exchange, Caller caller, KeyStyle style);
    Answer remove(http::Exchange& exchange, Caller caller, KeyStyle style);
    /// OpenRouter's GET /key: the calling key.
    Answer own(http::Exchange& exchange, Caller caller);

    // Credit API.
    Answer list_credits(http::Exchange& exchange, Caller caller);
    Answer create_credits(http::Exchange& exchange, Caller caller);
    Answer remove_credits(http::Exchange& exchange, Caller caller);

   private:
    struct Located {
        Key key;
        Caller acting;  // the caller, acting for the account that the key belongs to
    };
    /// By id or hash, in the own account or one of the caller's teams; not_found otherwise.
    Async<Result<Located>> locate(Caller caller, std::string id, Permission needed);
    /// The caller acting for the team that the body names, if any.
    Async<Result<Caller>> acting(Caller caller, std::string team);
    Async<Result<std::vector<KeyView>>> views(Caller caller, std::optional<AccountId> only);
    Async<Result<KeyView>> view(Key key);
    Async<Result<KeyUsage>> usage(AccountId account, KeyId key);
    Answer regenerate(Located located, http::Fields fields, KeyStyle style);
    KeyStyle style_for(const Caller& caller, KeyStyle style) const;

    store::Db& db_;
    Accounts& accounts_;
    const Clock& clock_;
    KeyUsageOf usage_of_;
};

}  // namespace nebula::accounts
