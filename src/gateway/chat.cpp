#include "gateway/chat.hpp"

#include "base/log.hpp"
#include "gateway/media/meter.hpp"

namespace nebula::gateway {
namespace {

// Ends watching for the client when the handler leaves, however it leaves.
class Watch {
   public:
    Watch(Call& call) : exchange_(call.exchange) {
        exchange_.on_gone([&call] {
            call.is_client_gone = true;
            if (call.waiting != nullptr) call.waiting->leave();
            if (!call.model || call.disconnect() != catalog::Disconnect::drain) call.cancel_all();
        });
    }
    ~Watch() { exchange_.on_gone({}); }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

   private:
    http::Exchange& exchange_;
};

}  // namespace

Chat::Chat(const GatewaySettings& settings, Services services)
    : settings_(settings),
      services_(services),
      credit_request_price_(Nanos::parse(settings.credit_request_price).value_or(Nanos{Nanos::per_credit})),
      credit_batch_price_(Nanos::parse(settings.credit_batch_price).value_or(Nanos{2 * Nanos::per_credit})),
      upstreams_(services.clock, services.metrics),
      rails_(settings.guardrails, services.metrics, rail_problems_),
      cache_(settings.cache, services.clock, services.metrics),
      flights_(settings.cache, services.metrics),
      counting_(services.metrics),
      unauthenticated_(
          services.metrics.counter("nebula_unauthenticated_total", "Requests without a valid key.")),
      rate_limited_(
          services.metrics.counter("nebula_rate_limited_total", "Requests refused by a rate limit.")),
      unpaid_(services.metrics.counter("nebula_payment_required_total",
                                       "Requests that the balance did not pay for.")),
      notes_waiting_(
          services.metrics.gauge("nebula_guardrail_notes", "Hooks that are being told of streams.")) {
    for (std::size_t i = 0; i < endpoint_count; ++i)
        by_endpoint_[i] =
            &services.metrics.counter("nebula_endpoint_requests_total", "Admitted requests by endpoint.",
                                      {{"endpoint", info(static_cast<Endpoint>(i)).word}});
}

Chat::~Chat() {
    background_.close();
    notes_.close();
    background_.wait();
    notes_.wait();
}

Async<void> Chat::handle(http::Exchange& exchange, Endpoint endpoint, bool is_openrouter) {
    Call call(exchange);
    call.endpoint = endpoint;
    call.is_openrouter = is_openrouter;
    Observed observed(observer_, call);
    call.deadline = services_.clock.ticks() + settings_.request_timeout;
    auto admitted = co_await admit(call);
    if (!admitted) {
        co_await refuse(call, std::move(admitted.error()));
        co_return;
    }
    co_await follow(call);
}

Async<void> Chat::handle_client(http::Exchange& exchange, std::unique_ptr<ClientEdge> client,
                                Endpoint endpoint) {
    Call call(exchange);
    call.client = std::move(client);
    call.endpoint = endpoint;
    Observed observed(observer_, call);
    call.deadline = services_.clock.ticks() + settings_.request_timeout;
    auto admitted = co_await admit(call);
    if (!admitted) {
        co_await refuse(call, std::move(admitted.error()));
        co_return;
    }
    co_await follow(call);
}

Async<void> Chat::refuse(Call& call, Error error) {
    call.trail.fail(error.code, http::status_of(error.code));
    if (call.guard && call.guard->refusal) {
        co_await refuse_flagged(call, std::move(error));
        co_return;
    }
    co_await call.exchange.respond_error(std::move(error));
}

Async<void> Chat::follow(Call& call) {
    Watch watch(call);
    by_endpoint_[static_cast<std::size_t>(call.endpoint)]->add();
    co_await forward(call);
    auto took = services_.clock.ticks() - call.exchange.started();
    call.metrics->latency.observe_us(std::chrono::duration_cast<std::chrono::microseconds>(took).count());
}

Async<Result<void>> Chat::settle(Call& call, billing::Outcome outcome) {
    ModelMetrics& metrics = *call.metrics;
    if (call.model->tokenizer) co_await count_unreported(call);
    const auto [usage, is_estimated] = media::meter(call, outcome);
    if (info(call.endpoint).is_image) call.prices.unit = media::image_price(call, *call.model);
    auto produced = services_.clock.ticks() - call.exchange.started();
    call.trail.produced_us = std::chrono::duration_cast<std::chrono::microseconds>(produced).count();
    call.trail.outcome = outcome;
    call.trail.is_settled = true;
    if (call.trail.status == 0) call.trail.status = 200;
    if (call.usage.state == ReportedUsage::State::refused) metrics.usage_refused.add();
    if (is_estimated) metrics.usage_estimated.add();
    if (metrics.units != nullptr) metrics.units->add(static_cast<std::uint64_t>(usage.units));
    call.billed = usage;
    metrics.input_tokens.add(static_cast<std::uint64_t>(usage.input));
    metrics.output_tokens.add(static_cast<std::uint64_t>(usage.output));
    if (call.first_token_us > 0) metrics.first_token.observe_us(call.first_token_us);
    if (!call.key) co_return Result<void>();
    correct_rate(call, call.is_hit() ? 0 : usage.input + usage.output);

    auto took = services_.clock.ticks() - call.exchange.started();
    billing::UsageRecord record;
    record.id = call.exchange.id();
    record.account = call.key->account;
    record.key = call.key->id;
    record.model = call.model->id;
    record.provider = call.provider->name;
    record.usage = usage;
    if (usage.units > 0) record.unit = call.model->unit;
    if (info(call.endpoint).is_media) record.product = "gen_api";
    record.prices = call.prices;
    if (call.own_key) {
        constexpr std::int64_t per_ppm = Nanos::per_credit / 10'000;  // of a percentage
        record.byok_ppm = (settings_.byok_fee_percent.value + per_ppm - 1) / per_ppm;
        record.prices = billing::share_of(call.prices, record.byok_ppm);
    }
    record.is_estimated = is_estimated;
    record.is_streamed = call.request.stream;
    record.outcome = outcome;
    record.latency_us = std::chrono::duration_cast<std::chrono::microseconds>(took).count();
    record.started_at = services_.clock.now() - std::chrono::microseconds(record.latency_us);
    record.first_token_us = call.first_token_us;
    auto settled = co_await services_.billing.settle(std::move(call.hold), std::move(record));
    if (!settled) {
        LOG_ERROR("settlement failed", {"request", call.exchange.id().text()},
                  {"detail", settled.error().detail});
        call.trail.is_settled = false;
        call.trail.fail(settled.error().code, http::status_of(settled.error().code));
        co_return fail(std::move(settled.error()));
    }
    call.settled = *settled;
    co_return Result<void>();
}

ModelMetrics& Chat::metrics_of(const catalog::Model& of) {
    const std::string& model = of.id;
    {
        std::shared_lock lock(metrics_mutex_);
        auto found = model_metrics_.find(model);
        if (found != model_metrics_.end()) return *found->second;
    }
    std::unique_lock lock(metrics_mutex_);
    auto& slot = model_metrics_[model];
    if (slot) return *slot;
    metrics::Registry& registry = services_.metrics;
    auto requests = [&](const char* outcome) -> metrics::Counter& {
        return registry.counter("nebula_requests_total", "Chat requests by model and outcome.",
                                {{"model", model}, {"outcome", outcome}});
    };
    auto tokens = [&](const char* direction) -> metrics::Counter& {
        return registry.counter("nebula_tokens_total", "Tokens by model and direction.",
                                {{"model", model}, {"direction", direction}});
    };
    metrics::Labels label{{"model", model}};
    slot.reset(new ModelMetrics{
        .completed = requests("completed"),
        .refused = requests("refused"),
        .upstream_failed = requests("upstream_failed"),
        .client_left = requests("client_left"),
        .input_tokens = tokens("input"),
        .output_tokens = tokens("output"),
        .usage_estimated =
            registry.counter("nebula_usage_estimated_total", "Requests metered by a local estimate.", label),
        .usage_refused = registry.counter("nebula_usage_refused_total",
                                          "Usage reports of providers that cannot be true.", label),
        .fallbacks = registry.counter("nebula_fallbacks_total", "Attempts at a further route.", label),
        .units = of.unit.empty() ? nullptr
                                 : &registry.counter("nebula_units_total",
                                                     "Images, seconds, characters, documents by model.",
                                                     {{"model", model}, {"unit", of.unit}}),
        .latency = registry.histogram("nebula_request_seconds", "Whole request.", label),
        .first_token = registry.histogram("nebula_first_token_seconds", "Request to first content.", label),
    });
    return *slot;
}

}  // namespace nebula::gateway
