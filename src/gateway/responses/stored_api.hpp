#pragma once
// Operations on stored responses: fetch, delete, list what one was made from, count tokens before asking.

#include "gateway/chat.hpp"
#include "records/stored_responses.hpp"

namespace nebula::gateway::responses {

class StoredApi {
   public:
    /// Both outlive it; without services.responses nothing is stored here.
    StoredApi(Chat& chat, const Services& services)
        : chat_(chat), services_(services), store_(services.responses) {}

    /// Below `base` ("/v1"): GET and DELETE /responses/{id}, GET …/input_items, POST …/cancel,
    /// POST /responses/input_tokens.
    void register_routes(http::Router& router, std::string_view base, http::Dialect dialect);

   private:
    using Key = std::shared_ptr<const accounts::Key>;
    using Answer = Async<Result<std::string>> (StoredApi::*)(http::Exchange& exchange, Key key);
    Async<void> serve(http::Exchange& exchange, Answer answer);
    Async<Result<std::string>> get(http::Exchange& exchange, Key key);
    Async<Result<std::string>> remove(http::Exchange& exchange, Key key);
    Async<Result<std::string>> input_items(http::Exchange& exchange, Key key);
    Async<Result<std::string>> cancel(http::Exchange& exchange, Key key);
    Async<Result<std::string>> input_tokens(http::Exchange& exchange, Key key);
    /// Of the path; not_found when it cannot be one.
    Result<RequestId> id_of(const http::Exchange& exchange, const Key& key) const;

    Chat& chat_;
    const Services& services_;
    records::StoredResponses* const store_;
};

}  // namespace nebula::gateway::responses
