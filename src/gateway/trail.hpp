#pragma once
// What a request leaves behind for those who observe it (request log, traces, metrics) while it passes
// through the gateway. Filled on the request's way, read once at its end.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "billing/billing.hpp"
#include "catalog/catalog.hpp"
#include "telemetry/telemetry.hpp"

namespace nebula::gateway {

/// One try at one provider.
struct AttemptNote {
    std::string provider = {};
    std::string upstream_model = {};
    int status = 0;                 // of the provider's answer; 0: none came
    const char* failure = nullptr;  // word of the code; null: it answered
    bool is_byok = false;           // asked with the customer's own key
    Ticks started{};
    Ticks ended{};
    telemetry::SpanId span = 0;  // where the request is traced
};

struct Trail {
    static constexpr std::size_t attempts_max = 8;  // kept; the last place is the last attempt's
    static constexpr std::size_t id_bytes_max = 200;

    std::optional<telemetry::Trace> trace;  // empty: not traced
    const char* api = "openai";             // whose words the client speaks
    AttemptNote first_attempt;
    std::vector<AttemptNote> further_attempts;  // most requests have none: ten thousand wait as streams
    std::size_t attempt_count = 0;
    std::size_t told_attempt = 0;  // place of the one that attempt() is about
    int status = 0;                // of our answer; 0: none was given
    const char* error = nullptr;   // word of the code that ended it badly
    billing::Outcome outcome = billing::Outcome::completed;
    bool is_settled = false;
    std::string upstream_id;         // the provider's id of its answer
    std::string finish_reason;       // as the provider told it
    std::int64_t produced_us = 0;    // from arrival to the last byte of the provider
    std::size_t kept_bytes_max = 0;  // of a body; 0: bodies are not kept
    std::string output;              // then: the answer, or the chunks of a stream, one a line
    bool is_output_too_large = false;

    std::size_t last_attempt() const {
        return attempt_count == 0 ? 0 : std::min(attempt_count, attempts_max) - 1;
    }
    AttemptNote& attempt() { return told_attempt == 0 ? first_attempt : further_attempts[told_attempt - 1]; }
    const AttemptNote& attempt() const { return attempt_at(told_attempt); }
    const AttemptNote& attempt_at(std::size_t i) const {
        return i == 0 ? first_attempt : further_attempts[i - 1];
    }
    void begin_attempt(const catalog::Route& route, Ticks now) {
        if (++attempt_count > 1 && attempt_count <= attempts_max) further_attempts.emplace_back();
        told_attempt = last_attempt();
        attempt() = {.provider = route.provider->name, .started = now};
        if (trace) attempt().upstream_model = route.upstream_model;
        if (trace) attempt().span = telemetry::Trace::new_span();
    }
    void end_attempt(Ticks now, const Error* error_of_it) {
        attempt().ended = now;
        if (error_of_it != nullptr) attempt().failure = code_name(error_of_it->code);
    }
    void fail(Code why, int with_status) {
        error = code_name(why);
        status = with_status;
    }
    /// Before the first byte of another provider's answer.
    void restart() {
        upstream_id.clear();
        finish_reason.clear();
        output.clear();
        is_output_too_large = false;
    }
    /// `raw_id` and `raw_finish` are JSON strings with their quotes, or empty.
    void note(std::string_view raw_id, std::string_view raw_finish) {
        if (upstream_id.empty() && raw_id.size() > 2 && raw_id.size() <= id_bytes_max)
            upstream_id = raw_id.substr(1, raw_id.size() - 2);
        if (raw_finish.size() > 2 && raw_finish.size() <= id_bytes_max)
            finish_reason = raw_finish.substr(1, raw_finish.size() - 2);
    }
    void keep_output(std::string_view piece) {
        if (kept_bytes_max == 0 || is_output_too_large) return;
        if (output.size() + piece.size() + 1 > kept_bytes_max) {
            is_output_too_large = true;
            output.clear();
            return;
        }
        output.append(piece) += '\n';
    }
};

}  // namespace nebula::gateway
