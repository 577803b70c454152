#pragma once
// The chat endpoint: architecture's nine steps in order.

#include <array>
#include <map>
#include <memory>
#include <shared_mutex>
#include <string>

#include "async/task_group.hpp"
#include "gateway/call.hpp"
#include "gateway/gateway.hpp"
#include "gateway/guardrails/ask.hpp"
#include "gateway/observer.hpp"
#include "gateway/tokens/counting.hpp"
#include "gateway/upstreams.hpp"

namespace nebula::gateway {

class Chat {
   public:
    Chat(const GatewaySettings& settings, Services services);
    ~Chat();

    /// `is_openrouter`: answers tell what they cost, as OpenRouter's do.
    Async<void> handle(http::Exchange& exchange, Endpoint endpoint, bool is_openrouter = false);
    /// The same for clients of another API; errors in the route's dialect.
    Async<void> handle_client(http::Exchange& exchange, std::unique_ptr<ClientEdge> client,
                              Endpoint endpoint = Endpoint::chat);
    /// The same life with the credit API's words: a price per request, exact bodies.
    Async<void> handle_credits(http::Exchange& exchange);
    /// Anthropic's count_tokens. count_tokens.cpp
    Async<void> count_tokens(http::Exchange& exchange);
    /// The key of the request; null without error when governance is off.
    Async<Result<std::shared_ptr<const accounts::Key>>> authenticate(http::Exchange& exchange);
    /// For what is public: null, too, when none is sent or it is not good.
    Async<Result<std::shared_ptr<const accounts::Key>>> authenticate_if_sent(http::Exchange& exchange);
    const Upstreams& upstreams() const { return upstreams_; }
    Counting& counting() { return counting_; }

   private:
    enum class Attempt {
        answered,
        try_next,
        next_model,  // other routes of this model would do no better
        skipped,     // was not asked: breaker, or it wants to be left alone
        full,        // was not asked: no free slot
    };

    // Steps 2 to 5: chat_admit.cpp
    Async<Result<void>> admit(Call& call);
    Result<void> check_rights(const Call& call, const catalog::Model& model) const;
    // Which models: chat_models.cpp
    Result<void> read_routing(Call& call) const;
    Result<void> choose_models(Call& call);
    Result<std::shared_ptr<const catalog::Model>> find_model(const std::string& id, routing::Found& routing,
                                                             const char* member) const;
    void drop_forbidden(Call& call) const;
    void set_prices(Call& call) const;
    void ask(Call& call, std::shared_ptr<const catalog::Model> model);
    Async<bool> enter_model(Call& call, const catalog::Model& model);
    Async<Result<void>> take_rate(Call& call);
    std::size_t list_limits(Call& call) const;
    static ratelimit::Check model_check(const Call& call, const catalog::Model& model);
    /// Replaces the estimate that take_rate() took by what was used.
    void correct_rate(Call& call, std::int64_t used);
    Async<Result<void>> take_hold(Call& call);
    void lower_cap(Call& call, std::int64_t asked, std::int64_t prompt_max) const;
    Result<void> check_ip(http::Exchange& exchange, ratelimit::Kind kind, std::int64_t rpm);
    Async<Result<std::shared_ptr<const accounts::Key>>> authenticate_person(http::Exchange& exchange);
    /// Largest counts that can be true; again when the prompt has changed.
    static void bound(Call& call);
    /// Rights, limits, rails, cache, money: in this order, so that what is refused took nothing of the next.
    Async<Result<void>> admit_paying(Call& call);
    Async<Result<void>> admit_count(Call& call);
    Async<bool> count_at(Call& call, const catalog::Route& route);
    // Credit API: credits_edge.cpp
    Async<void> refuse_credits(Call& call, Error error);
    static std::string with_credits(const Call& call, std::string_view answer);

    // The cache: chat_cached.cpp
    Result<void> look_up(Call& call);
    void use_entry(Call& call, std::shared_ptr<const CacheEntry> entry);
    Async<Result<void>> share(Call& call);
    Async<Result<void>> hold_for_hit(Call& call);
    Async<bool> answer_cached(Call& call);
    void keep_answer(Call& call);

    // Guard rails: chat_guarded.cpp
    void find_rails(Call& call) const;
    /// A request that a rail refuses, in its dialect.
    static Async<void> refuse_flagged(Call& call, Error error);
    Result<void> judge(Call& call) const;
    Async<Result<void>> guard_request(Call& call);
    static void tell_matched(Call& call);
    static void rail_failed(Call& call, const guardrails::Rail& rail, const Error& error);
    Async<Result<std::string>> post(Call* call, http::Origin origin, std::string path, std::string headers,
                                    std::string body, const guardrails::Rail& rail);
    Async<void> moderate(Call& call, const guardrails::Rail& rail);
    Async<Result<std::string>> ask_moderation(Call& call, const guardrails::Rail& rail);
    Async<Result<guardrails::HookAnswer>> call_hook(Call* call, const guardrails::Rail& rail,
                                                    std::string body);
    static std::string hook_body(const Call& call, const guardrails::Rail& rail, std::string_view stage,
                                 std::string_view body);
    Async<void> ask_hook(Call& call, const guardrails::Rail& rail);
    static Result<void> replace_request(Call& call, std::string body);
    Async<Result<std::string>> guard_answer(Call& call, std::string_view whole);
    void tell_hooks(Call& call);
    Async<void> tell_hook(const guardrails::Rail& rail, std::string body);

    static Result<void> translate(Call& call);
    static Result<ChatRequest> parse_upload(Call& call);
    /// A request that was not admitted.
    Async<void> refuse(Call& call, Error error);
    /// Everything behind admission.
    Async<void> follow(Call& call);
    // Step 6: chat_route.cpp
    Async<void> forward(Call& call);
    routing::Candidates plan_routes(const Call& call) const;
    /// The same with the customer's own keys for providers, in the order of own, ours, own fallbacks.
    /// own_keys.cpp
    routing::Candidates with_own_keys(const Call& call, routing::Candidates order) const;
    Async<bool> try_routes(Call& call, const routing::Candidates& order);
    Async<bool> try_full_routes(Call& call, const routing::Candidates& full);
    Async<Attempt> attempt(Call& call, const catalog::Route& route);
    // Two routes at once: chat_hedge.cpp
    struct Runner;
    struct Race;
    bool may_hedge(const Call& call, const catalog::Route& route) const;
    Async<Attempt> attempt_hedged(Call& call, const catalog::Route& route, const catalog::Route& other,
                                  bool& is_other_tried);
    Async<Runner*> run_race(Call& call, Race& race, const catalog::Route& other);
    void enter_second(Call& call, Race& race, const catalog::Route& other);
    void start(Call& call, Race& race, Runner& runner);
    Async<void> open_stream(Call& call, Race& race, Runner& runner);
    void count_hedge(const char* result);
    void note_loser(Call& call, Runner& runner, bool is_outrun);
    Async<Attempt> run_trial(Call& call, Trial& trial, Slot slot);
    void note_fallback(Call& call);
    static Async<void> respond_failure(Call& call);
    bool is_over(const Call& call) const;
    // Step 7: chat_forward.cpp
    Async<Attempt> ask_route(Call& call, Trial& trial, Slot slot);
    /// From the head of the answer on.
    Async<Attempt> take_answer(Call& call, Trial& trial, std::unique_ptr<http::ClientResponse> answer);
    /// A failure that the provider is to blame for.
    static void fail_trial(Call& call, Trial& trial, const char* reason = nullptr);
    Async<Attempt> answer_json(Call& call, http::ClientResponse& upstream, Trial& trial);
    Async<Attempt> answer_stream(Call& call, std::unique_ptr<http::ClientResponse> upstream, Trial& trial);
    Async<StreamEnd> relay_sound(Call& call, http::ClientResponse& upstream);  // media/chat_media.cpp
    Async<Attempt> answer_refusal(Call& call, http::ClientResponse& upstream, Trial& trial);
    Attempt note_status(Call& call, const http::ClientResponse& upstream, Trial& trial);
    /// What stands between this call and a provider of that kind.
    void speak(Call& call, const Provider& kind) const;
    /// The translator and the provider's body of this attempt; empty: the client's bytes are edited in place.
    Result<std::string> prepare(Call& call, const catalog::Route& route) const;
    Async<Result<std::unique_ptr<http::ClientResponse>>> send(Call& call, const catalog::Route& route,
                                                              const http::Origin& origin, std::string body,
                                                              http::CancelToken* cancel);
    Async<void> break_stream(Call& call, Error error);
    Async<void> finish_stream(Call& call, std::string last_event);
    static Async<std::string> end_native(Call& call, std::string last_event);
    Async<void> read_rest(std::unique_ptr<http::ClientResponse> upstream);

    // Tokens that nobody told: tokens/chat_tokens.cpp
    static void begin_counting(Call& call);
    Async<void> count_answer(Call& call, std::string_view answer);
    Async<void> count_unreported(Call& call);
    // Steps 8 and 9.
    Async<Result<void>> settle(Call& call, billing::Outcome outcome);

    ModelMetrics& metrics_of(const catalog::Model& model);

    const GatewaySettings& settings_;
    Services services_;
    Observer observer_{services_};
    const Nanos credit_request_price_, credit_batch_price_;
    Upstreams upstreams_;
    std::vector<std::string> rail_problems_;  // none: they were checked when the settings were read
    const guardrails::Rails rails_;
    ResponseCache cache_;
    Flights flights_;
    Counting counting_;
    std::shared_mutex metrics_mutex_;
    std::map<std::string, std::unique_ptr<ModelMetrics>, std::less<>> model_metrics_;
    metrics::Counter& unauthenticated_;
    metrics::Counter& rate_limited_;
    metrics::Counter& unpaid_;
    std::array<metrics::Counter*, endpoint_count> by_endpoint_{};
    TaskGroup background_{"gateway"};
    metrics::Gauge& notes_waiting_;
    TaskGroup notes_{"guardrail hooks"};
};

}  // namespace nebula::gateway
