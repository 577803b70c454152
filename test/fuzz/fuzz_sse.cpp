// The splitter must find the same events however the stream is cut, lose no byte, and keep to its limit.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "http/sse.hpp"

namespace {

using nebula::http::SseSplitter;

constexpr std::size_t event_bytes_max = 256;

void require(bool holds) {
    if (!holds) std::abort();
}

struct Outcome {
    std::vector<std::string> events;
    bool refused = false;
    bool pending = false;
};

/// Feeds `text` in pieces of lengths taken from `cuts`; each piece's memory is gone afterwards.
Outcome split(std::string_view text, std::string_view cuts) {
    Outcome outcome;
    SseSplitter splitter(event_bytes_max);
    std::size_t turn = 0;
    while (!text.empty() && !outcome.refused) {
        std::size_t size = text.size();
        if (!cuts.empty()) size = static_cast<unsigned char>(cuts[turn++ % cuts.size()]) % 40 + 1;
        std::string piece(text.substr(0, size));
        text.remove_prefix(piece.size());
        outcome.refused = !splitter.push(piece);
        for (auto event = splitter.next(); !event.empty(); event = splitter.next()) {
            require(event.size() <= event_bytes_max);
            outcome.events.emplace_back(event);
        }
    }
    // A limit passed while looking ahead is reported by the next push.
    if (!splitter.push({})) outcome.refused = true;
    outcome.pending = splitter.pending();
    return outcome;
}

bool has_blank_line_only_at_end(std::string_view event) {
    for (std::string_view blank : {"\n\n", "\r\r", "\n\r\n", "\r\n\n"}) {
        std::size_t at = event.find(blank);
        if (at != std::string_view::npos && at + blank.size() < event.size()) return false;
    }
    return event.ends_with('\n') || event.ends_with('\r');
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view input(reinterpret_cast<const char*>(data), size);
    std::string_view cuts = input.substr(0, input.size() < 8 ? 0 : 8);
    std::string_view text = input.substr(cuts.size());

    Outcome whole = split(text, {});
    Outcome cut = split(text, cuts);
    require(whole.refused == cut.refused);
    if (!whole.refused) require(whole.pending == cut.pending);
    // After a refusal the number of events delivered before it depends on the cuts, their content does not.
    std::size_t common = std::min(whole.events.size(), cut.events.size());
    if (!whole.refused) require(whole.events.size() == cut.events.size());
    std::size_t at = 0;
    std::string scratch;
    for (const auto& outcome : {whole, cut}) {
        at = 0;
        for (std::size_t i = 0; i < outcome.events.size(); ++i) {
            const std::string& event = outcome.events[i];
            if (i < common) require(event == whole.events[i]);
            require(text.substr(at, event.size()) == event);
            require(has_blank_line_only_at_end(event));
            at += event.size();
            require(nebula::http::sse_data(event, scratch).size() <= event.size());
            require(nebula::http::sse_event_name(event).size() <= event.size());
        }
        if (!outcome.refused) require(outcome.pending == (at < text.size()));
    }
    return 0;
}
