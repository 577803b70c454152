// Sound on its way from a provider to a client: piece by piece, whatever its form, never held whole.
#include "base/log.hpp"
#include "base/text.hpp"
#include "gateway/chat.hpp"
#include "gateway/media/media.hpp"

namespace nebula::gateway {
namespace media {
namespace {

std::string word_of(std::string_view content_type) {
    return to_lower(trim(content_type.substr(0, content_type.find(';'))));
}

}  // namespace

bool is_text_answer(Endpoint endpoint, std::string_view content_type) {
    if (endpoint != Endpoint::transcriptions && endpoint != Endpoint::translations) return false;
    std::string word = word_of(content_type);
    return (word.starts_with("text/") && word != "text/event-stream" && word != "text/html") ||
           word == "application/x-subrip";
}

bool is_sound(std::string_view content_type) {
    std::string word = word_of(content_type);
    return !word.starts_with("text/") && word != "application/json";
}

}  // namespace media

// Nothing is sent before the first piece, so that another route can still be tried.
Async<StreamEnd> Chat::relay_sound(Call& call, http::ClientResponse& upstream) {
    auto broken = [](const char* detail) {
        return Error{
            .code = Code::upstream_failed, .message = "the provider's answer broke off", .detail = detail};
    };
    std::string type(upstream.header("content-type").value_or("application/octet-stream"));
    if (!media::is_sound(type))
        co_return StreamEnd{.error = {.code = Code::upstream_failed,
                                      .message = "the provider sent no sound",
                                      .detail = "wrong content-type"}};
    // Then a cut could not be told from the end.
    if (upstream.ends_with_connection()) co_return StreamEnd{.error = broken("answer without a length")};
    while (true) {
        auto piece = co_await upstream.read();
        if (!piece) {
            bool is_left = piece.error().code == Code::cancelled && call.is_client_gone;
            if (is_left) co_return StreamEnd{.kind = StreamEnd::Kind::client_left};
            co_return StreamEnd{.error = std::move(piece.error())};
        }
        if (piece->empty()) break;
        if (call.content_events++ == 0) {
            auto waited = services_.clock.ticks() - call.exchange.started();
            call.first_token_us = std::chrono::duration_cast<std::chrono::microseconds>(waited).count();
        }
        call.content_bytes += piece->size();
        if (!call.is_client_gone) {
            if (!call.exchange.has_begun()) {
                call.mark_own_key();
                call.exchange.begin_stream(200, type);
            }
            auto written = co_await call.exchange.write(*piece);
            if (!written) call.is_client_gone = true;
        }
        if (call.is_client_gone && call.disconnect() != catalog::Disconnect::drain)
            co_return StreamEnd{.kind = StreamEnd::Kind::client_left};
    }
    if (call.content_events == 0) co_return StreamEnd{.error = broken("answer without a byte")};
    co_return StreamEnd{.kind = StreamEnd::Kind::done};
}

}  // namespace nebula::gateway
