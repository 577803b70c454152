// The client edges between strangers on both sides. Whatever a client sends, the request that comes out is
// JSON; whatever a provider sends, every line that goes to the client is JSON, and no piece of it is told
// twice when a stream starts anew. The first byte chooses the edge and what the rest is: a request, an
// answer, or lines of a stream.
#include <boost/json/parse.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gateway/anthropic/anthropic.hpp"
#include "gateway/chat_request.hpp"
#include "gateway/ollama/ollama.hpp"
#include "gateway/responses/responses.hpp"
#include "gateway/token_count.hpp"
#include "json_check.hpp"

namespace {

using namespace nebula;
using namespace nebula::gateway;
using fuzz::is_json, fuzz::require_json, fuzz::stop;

void require_stream(std::string_view out, bool is_lines) {
    while (!out.empty()) {
        std::size_t end = out.find('\n');
        if (end == std::string_view::npos) stop("a line without its end", out);
        std::string_view line = out.substr(0, end);
        out.remove_prefix(end + 1);
        if (is_lines) {
            require_json(std::string(line));
        } else if (line.starts_with("data: ")) {
            require_json(std::string(line.substr(6)));
        } else if (!line.empty() && !line.starts_with("event: ")) {
            stop("a line that is no part of an event", line);
        }
    }
}

std::unique_ptr<ClientEdge> make(unsigned which, const Clock& clock) {
    switch (which) {
        case 0:
            return anthropic::make_edge(RequestId{1});
        case 1:
            return ollama::make_edge(ollama::Kind::chat, clock);
        case 2:
            return ollama::make_edge(ollama::Kind::generate, clock);
        case 3:
            return ollama::make_edge(ollama::Kind::embed, clock);
        case 5:
            return ollama::make_edge(ollama::Kind::embeddings, clock);
        default:
            return responses::make_edge(RequestId{1}, clock, nullptr, true);
    }
}

// What every edge takes, so that streams have a request before them.
constexpr std::string_view plain =
    R"({"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"prompt":"x","input":"x"})";
constexpr std::string_view plain_response = R"({"model":"m","input":"x"})";

// What passes through is what it was, but for the model and a cap that the provider reads.
void fuzz_native(ClientEdge& edge, std::string_view text) {
    std::string padded(text);
    padded.reserve(padded.size() + 64);
    std::string_view body(padded.data(), text.size());
    auto native = edge.native(body);
    if (!native) {
        if (native.error().code != Code::invalid_request) stop("refused as another's fault", text);
        return;
    }
    Edits edits;
    edits.upstream_model = "up\"stream";
    edits.output_cap = 3;
    std::string told = edge.native_body(body, *native, edits);
    told.reserve(told.size() + 64);
    auto again = edge.native(told);
    if (!again || again->model != "up\"stream" || again->asked_output().value_or(9) > 3)
        stop("not as edited", told);
}

// What a provider of the same API says stays JSON when it is marked as ours.
void fuzz_marks(ClientEdge& edge, std::string_view text) {
    bool was_json = is_json(std::string(text));
    std::string answer = edge.native_answer(text), event;
    if (was_json && !answer.empty()) require_json(answer);
    if (was_json && edge.native_event(text, event)) require_json(event.substr(event.find("data: ") + 6));
}

void fuzz_request(ClientEdge& edge, unsigned which, std::string_view text) {
    auto chat = edge.request(text);
    if (edge.wire() != Wire::openai) fuzz_native(edge, text);
    if (which == 0) {
        auto countable = anthropic::to_countable_request(text);
        if (countable && estimate_prompt(*countable) < 1) stop("no tokens", text);
    }
    if (!chat) {
        if (chat.error().code != Code::invalid_request) stop("refused as another's fault", text);
        return;
    }
    require_json(*chat);
    std::string padded = *chat;
    padded.reserve(padded.size() + 64);
    (void)parse_request(padded, which == 3 || which == 5 ? Endpoint::embeddings : Endpoint::chat);
    auto answer = edge.answer(R"({"choices":[{"message":{"content":"x"}}],"data":[{"embedding":[1]}]})");
    if (!answer) stop("no answer", text);
    require_json(*answer);
}

void fuzz_stream(ClientEdge& edge, bool is_lines, std::string_view text) {
    std::string out;
    bool is_told = true;
    while (is_told && !text.empty()) {
        std::size_t end = std::min(text.find('\n'), text.size());
        std::string_view chunk = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (chunk == "again") {
            edge.restart();
            out.clear();
        } else {
            is_told = edge.chunk(chunk, out);
        }
    }
    out += is_told ? edge.end({.input = 5, .cached = 2, .output = 3})
                   : edge.broken({.code = Code::upstream_failed, .message = "broken \"off\""});
    require_stream(out, is_lines);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    if (size == 0) return 0;
    unsigned which = data[0] % 6;
    unsigned what = data[0] / 6 % 3;
    std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    FakeClock clock;
    auto edge = make(which, clock);
    if (what == 0) {
        fuzz_request(*edge, which, text);
        return 0;
    }
    if (!edge->request(which == 4 ? plain_response : plain)) stop("the plain request is refused", plain);
    if (what == 1) {
        auto answer = edge->answer(text);
        if (answer) require_json(*answer);
        fuzz_marks(*edge, text);
    } else if (which != 3 && which != 5) {  // embeddings do not stream
        fuzz_stream(*edge, which == 1 || which == 2, text);
    }
    return 0;
}
