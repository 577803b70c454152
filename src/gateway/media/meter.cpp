#include "gateway/media/meter.hpp"

#include <algorithm>

namespace nebula::gateway::media {
namespace {

// For providers that report no tokens although the model is paid for by them.
constexpr std::int64_t audio_tokens_per_second = 10;  // read; twice as many when spoken
constexpr std::int64_t characters_per_second = 15;    // spoken
constexpr std::int64_t tokens_per_image = 1'056;      // 1024x1024 of middling quality

bool has_token_price(const billing::Prices& prices) {
    return prices.input_per_m.value != 0 || prices.output_per_m.value != 0;
}

std::int64_t images_made(const Call& call) { return std::min(call.images, call.request.n); }

billing::TokenUsage estimated_tokens(const Call& call) {
    billing::TokenUsage usage;
    usage.input = call.likely_prompt();
    const EndpointInfo endpoint = info(call.endpoint);
    if (endpoint.has_output) {
        usage.output = estimate_tokens(call.content_bytes, call.content_events);
    } else if (endpoint.is_image) {
        usage.output = tokens_per_image * images_made(call);
    } else if (call.endpoint == Endpoint::speech) {
        usage.output = (call.request.characters * 2 * audio_tokens_per_second + characters_per_second - 1) /
                       characters_per_second;
    } else if (endpoint.is_media) {
        usage.input += call.request.seconds * audio_tokens_per_second;
        usage.output = estimate_tokens(call.content_bytes, call.content_events);
    }
    return usage;
}

}  // namespace

Nanos image_price(const Call& call, const catalog::Model& model) {
    const auto& prices = model.image_prices;
    if (prices.empty()) return model.prices.unit;
    auto known = [](const std::string& told, const std::string& asked) -> std::string_view {
        std::string_view word = told.empty() ? asked : told;
        return word == "auto" ? std::string_view() : word;
    };
    std::string_view size = known(call.image_size, call.request.size);
    std::string_view quality = known(call.image_quality, call.request.quality);
    Nanos most;
    for (const catalog::ImagePriceSettings& price : prices) {
        bool may_fit = (price.size.empty() || size.empty() || price.size == size) &&
                       (price.quality.empty() || quality.empty() || price.quality == quality);
        if (!may_fit) continue;
        most = std::max(most, price.price);
        bool fits = (price.size.empty() || !size.empty()) && (price.quality.empty() || !quality.empty());
        if (fits) return most;
    }
    return std::max(most, model.prices.unit);
}

void set_image_price(Call& call) {
    call.prices.unit = {};
    for (const auto& model : call.all_models())
        call.prices.unit = std::max(call.prices.unit, image_price(call, *model));
}

std::int64_t units_asked(const Call& call) {
    const std::string& unit = call.model->unit;
    if (unit.empty()) return 0;
    const EndpointInfo endpoint = info(call.endpoint);
    if (unit == "image") return endpoint.is_image ? call.request.n : 0;
    if (unit == "character") return call.request.characters;
    if (unit == "document") return call.request.documents;
    if (unit == "second") return call.request.seconds;
    if (unit == "tool_call") return call.request.tool_calls_max;
    return 0;
}

billing::TokenUsage worst_case(const Call& call) {
    const catalog::Model& model = *call.model;
    billing::TokenUsage most;
    if (has_token_price(call.prices)) {
        most.input = std::max(call.bounds.input_max, std::int64_t{1});
        most.output = model.max_output_tokens * call.request.n;
    }
    most.units = units_asked(call);
    return most;
}

Metered meter(const Call& call, billing::Outcome outcome) {
    Metered metered;
    const EndpointInfo endpoint = info(call.endpoint);
    bool is_broken = outcome == billing::Outcome::upstream_failed;
    bool is_reported = call.usage.state == ReportedUsage::State::good;
    // Where only units cost, tokens that nobody tells are nobody's business.
    bool needs_tokens = has_token_price(call.prices) || call.model->unit.empty();
    if (endpoint.is_media && is_broken && images_made(call) == 0) return metered;
    if (is_reported) {
        metered.usage = call.usage.usage;
    } else if (needs_tokens) {
        metered.usage = estimated_tokens(call);
        // Counted by the model's vocabulary: the texts are exact, the template around them is not known.
        if (call.counted_input >= 0)
            metered.usage.input = std::min(call.counted_input, call.bounds.input_max);
        if (call.counted_output >= 0)
            metered.usage.output = std::min(call.counted_output, call.bounds.output_max);
        metered.is_estimated = true;
    }
    metered.usage.units = units_asked(call);
    if (call.model->unit == "image" && outcome != billing::Outcome::client_left) {
        metered.usage.units = endpoint.is_image ? images_made(call) : 0;
    } else if (call.model->unit == "tool_call") {
        metered.usage.units = std::min(call.tool_calls(), metered.usage.units);
    } else if (call.model->unit == "second" && endpoint.is_media) {
        if (call.usage.seconds > 0)
            metered.usage.units = call.usage.seconds;
        else
            metered.is_estimated = true;
    }
    return metered;
}

}  // namespace nebula::gateway::media
