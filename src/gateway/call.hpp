#pragma once
// State of one chat request on its way through the nine steps. Lives in the handler's coroutine, on one I/O
// thread.

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "accounts/accounts.hpp"
#include "billing/billing.hpp"
#include "catalog/catalog.hpp"
#include "gateway/cache/use.hpp"
#include "gateway/chat_request.hpp"
#include "gateway/client_edge.hpp"
#include "gateway/completion.hpp"
#include "gateway/guardrails/use.hpp"
#include "gateway/provider.hpp"
#include "gateway/routing/slot_queue.hpp"
#include "gateway/tokens/answer_tokens.hpp"
#include "gateway/trail.hpp"
#include "http/client.hpp"
#include "http/http.hpp"
#include "ratelimit/ratelimit.hpp"

namespace nebula::gateway {

/// Counters of one model; looked up once per request.
struct ModelMetrics {
    metrics::Counter& completed;
    metrics::Counter& refused;  // by us, after the model was known: limits, balance
    metrics::Counter& upstream_failed;
    metrics::Counter& client_left;
    metrics::Counter& input_tokens;
    metrics::Counter& output_tokens;
    metrics::Counter& usage_estimated;
    metrics::Counter& usage_refused;
    metrics::Counter& fallbacks;
    metrics::Counter* units = nullptr;  // of a model with a unit
    metrics::Histogram& latency;
    metrics::Histogram& first_token;
};

/// Which documented API the client speaks.
enum class Edge : std::uint8_t { openai, credits };

struct Call {
    explicit Call(http::Exchange& the_exchange) : exchange(the_exchange) {}
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    http::Exchange& exchange;
    Ticks deadline{};
    http::CancelToken cancel;
    bool is_client_gone = false;

    // Known after admission.
    std::shared_ptr<const accounts::Key> key;     // null: governance is off
    std::shared_ptr<const catalog::Model> model;  // the one that is asked now
    // It and those that may be asked when it fails, in order; empty when there are none.
    std::vector<std::shared_ptr<const catalog::Model>> models;
    ModelMetrics* metrics = nullptr;
    std::unique_ptr<ClientEdge> client;  // null: the client speaks OpenAI's API itself
    std::string translated;              // by the client edge, or from JSON to a form; `body` views it then
    std::string_view body;
    std::string form_type;  // of a form: its content type with the boundary
    ChatRequest request;
    // Of a client with a wire of its own.
    std::string_view client_body;
    std::unique_ptr<ChatRequest> native;
    std::optional<Error> untranslatable;  // only providers of the same wire can be asked
    UsageBounds bounds;
    std::optional<std::int64_t> output_cap;  // set when the balance pays for less than asked
    billing::Hold hold;
    Edge edge = Edge::openai;
    bool is_openrouter = false;  // answers tell what they cost
    Endpoint endpoint = Endpoint::chat;
    bool is_credit_batch = false;  // of the credit API: twice the price
    // Held by: the worst of all routes. Then what this request is charged by: those of the route.
    billing::Prices prices;
    std::shared_ptr<const billing::Terms> terms;  // of the account
    billing::Settled settled;
    ratelimit::Check checks[4];
    std::size_t check_count = 0;
    bool has_model_check = false;  // the last of them is the model's
    std::int64_t rate_tokens = 0;  // taken from the token limits so far
    Ticks rate_taken_at{};
    std::unique_ptr<CacheUse> cache;  // null: it is not asked for
    std::unique_ptr<GuardUse> guard;  // null: no rail applies

    // Known after forwarding.
    const catalog::Provider* provider = nullptr;  // the one that answers
    std::shared_ptr<const Secret> own_key;        // of the customer, for that provider; null: ours
    const Provider* kind = nullptr;               // of the provider of this attempt
    std::unique_ptr<Translator> translator;       // of this attempt; null: it speaks OpenAI's API
    bool is_native = false;                       // client and provider speak the same API, not OpenAI's
    bool is_sound = false;                        // the answer is bytes without any events in them
    ReportedUsage usage;
    billing::TokenUsage billed;  // what settle() recorded
    std::size_t content_bytes = 0;
    std::int64_t content_events = 0;
    std::unique_ptr<AnswerTokens> answer_tokens;           // of a stream; null: the model has no tokenizer
    std::int64_t counted_input = -1, counted_output = -1;  // by it, where no usage was told; -1: not
    std::string image_size, image_quality;                 // as the provider tells them
    std::int64_t images = 0;  // whole ones that the client got, or will with the last event
    std::int64_t first_token_us = 0;
    std::string usage_chunk;  // of an openrouter stream: told when the charge is known
    Trail trail;
    Error error;                               // of the last attempt
    const char* failure = nullptr;             // a bounded word for it; null: no route was left for another
    bool has_further_model = false;            // behind the one that is asked now
    routing::SlotWait* waiting = nullptr;      // for a provider's slot
    std::array<http::CancelToken*, 2> race{};  // of a stream that is asked of two routes at once

    /// What a stream may say before its first content. Some repeat the request first, as the Responses API
    /// does: twice, and perhaps with more escapes.
    std::size_t unsent_bytes_max() const { return 1024 * 1024 + (is_native ? 4 * client_body.size() : 0); }
    /// Whatever is being asked of providers ends.
    void cancel_all() {
        cancel.cancel();
        for (http::CancelToken* one : race)
            if (one != nullptr) one->cancel();
    }
    /// Says in the answer, just before it begins, whose key it was.
    void mark_own_key() {
        if (own_key) exchange.add_header("x-nebula-byok", "true");
    }
    /// By our list, what the answer cost the customer whose own key was used.
    Nanos upstream_cost() const { return billing::charge_of(prices, billed); }
    /// While others wait for the same answer it is read to its end, whatever the client does.
    catalog::Disconnect disconnect() const {
        return cache && cache->flight.has_followers() ? catalog::Disconnect::drain : model->disconnect;
    }
    /// Uses of tools that ran at the provider, as far as it has told.
    std::int64_t tool_calls() const { return translator ? translator->tool_calls() : 0; }
    /// The client got something that is worth money.
    bool has_delivered() const { return content_events > 0 || (is_native && tool_calls() > 0); }
    bool is_hit() const { return cache && cache->hit; }
    std::span<const std::shared_ptr<const catalog::Model>> all_models() const {
        return models.empty() ? std::span(&model, 1) : std::span(models);
    }
    /// Tokens of the prompt if nobody tells: 4 bytes each.
    std::int64_t likely_prompt() const {
        return std::max<std::int64_t>(1, static_cast<std::int64_t>(request.prompt_bytes / 4));
    }
};

/// Whose count of tokens a settled request was charged by: provider, runtime, bpe or estimate.
const char* tokenizer_of(const Call& call);

/// How a relayed stream ended.
struct StreamEnd {
    enum class Kind {
        done,    // [DONE] seen (or a clean end after a finish reason); `last_event` is still to be sent
        failed,  // `error` says why; Exchange::has_begun() whether the client has content already
        client_left,
    } kind = Kind::failed;
    std::string last_event = {};
    Error error = {};
};

/// Passes the upstream's events to the client until the stream ends, reading usage beside it. Nothing is sent
/// before the first content, so that another route can still be tried. `content_type` is the upstream's.
Async<StreamEnd> relay_stream(Call& call, http::ClientResponse& upstream, std::string content_type,
                              const Clock& clock);

}  // namespace nebula::gateway
