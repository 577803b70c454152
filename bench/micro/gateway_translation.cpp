// What one event of a stream costs the relay, without the network: finding it, translating it, metering it,
// and writing what the client gets. Each benchmark relays a stream of 200 events of the same 20-byte texts
// from one API to another; "events" is the rate, so its inverse is the CPU per event. The pass-through of
// OpenAI's API is what the others are compared with (docs/performance.md).
#include <benchmark/benchmark.h>

#include <memory>
#include <string>

#include "gateway/anthropic/anthropic.hpp"
#include "gateway/client_edge.hpp"
#include "gateway/completion.hpp"
#include "gateway/ollama/ollama.hpp"
#include "gateway/provider.hpp"
#include "gateway/responses/responses.hpp"
#include "http/sse.hpp"

namespace nebula::gateway {
namespace {

constexpr int events_per_stream = 200;
constexpr std::size_t piece_bytes = 4096;  // as the network delivers a busy stream
constexpr UsageBounds bounds{1'000'000, 1'000'000};
const char* const word = "twenty bytes of text";

std::string openai_stream() {
    std::string out;
    auto add = [&out](const std::string& choice, const std::string& more = "") {
        out += R"(data: {"id":"chatcmpl-0123456789","object":"chat.completion.chunk","created":1700000000,)"
               R"("model":"demo-model-1","choices":[)" +
               choice + "]" + more + "}\n\n";
    };
    add(R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null})");
    for (int i = 0; i < events_per_stream; ++i)
        add(R"({"index":0,"delta":{"content":")" + std::string(word) +
            R"("},"logprobs":null,"finish_reason":null})");
    add(R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"})");
    add("", R"(,"usage":{"prompt_tokens":7,"completion_tokens":200,"total_tokens":207})");
    return out + "data: [DONE]\n\n";
}

std::string messages_stream() {
    std::string out;
    auto add = [&out](const char* type, const std::string& members) {
        out += "event: " + std::string(type) + "\ndata: {\"type\":\"" + type + "\"" + members + "}\n\n";
    };
    add("message_start",
        R"(,"message":{"id":"msg_0123456789","type":"message","role":"assistant","content":[],)"
        R"("model":"demo-model-1","stop_reason":null,"usage":{"input_tokens":7,"output_tokens":1}})");
    add("content_block_start", R"(,"index":0,"content_block":{"type":"text","text":""})");
    for (int i = 0; i < events_per_stream; ++i)
        add("content_block_delta",
            R"(,"index":0,"delta":{"type":"text_delta","text":")" + std::string(word) + R"("})");
    add("content_block_stop", R"(,"index":0)");
    add("message_delta",
        R"(,"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":200})");
    add("message_stop", "");
    return out;
}

std::string ollama_stream() {
    std::string out;
    for (int i = 0; i < events_per_stream; ++i)
        out +=
            R"({"model":"demo-model-1","created_at":"2026-01-01T00:00:00.000000Z","message":{"role":"assistant",)"
            R"("content":")" +
            std::string(word) + "\"},\"done\":false}\n";
    return out +
           R"({"model":"demo-model-1","created_at":"2026-01-01T00:00:00.000000Z","message":{"role":"assistant",)"
           R"("content":""},"done":true,"done_reason":"stop","prompt_eval_count":7,"eval_count":200})"
           "\n";
}

std::string gemini_stream() {
    std::string out;
    for (int i = 0; i <= events_per_stream; ++i)
        out += R"(data: {"candidates":[{"content":{"parts":[{"text":")" + std::string(word) +
               R"("}],"role":"model"},)" + (i == events_per_stream ? R"("finishReason":"STOP",)" : "") +
               R"("index":0}],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":200,)"
               R"("totalTokenCount":207},"modelVersion":"demo-model-1","responseId":"r0123456789"})"
               "\n\n";
    return out;
}

// The relay's work on one stream (gateway/relay.cpp), from bytes to bytes.
class Stream {
   public:
    Stream(const Provider& provider, ClientEdge* client)
        : by_lines_(provider.streams_lines()),
          is_native_(client != nullptr && client->wire() == provider.wire() &&
                     provider.wire() != Wire::openai),
          client_(client),
          translator_(provider.translate(Endpoint::chat, "req_1", Time{})) {}

    bool push(std::string_view piece, std::string& out) {
        if (!(by_lines_ ? lines_.push(piece) : events_.push(piece))) return false;
        for (auto event = next(); !event.empty(); event = next()) {
            std::string_view data = by_lines_ ? event : http::sse_data(event, scratch_);
            if (!translator_) {
                if (!tell(data, event, out)) return false;
                continue;
            }
            told_.clear();
            if (!translator_->event(data, told_)) return false;
            for (std::size_t at = 0; at < told_.size();) {
                std::size_t end = told_.find('\n', at);
                if (!tell(std::string_view(told_).substr(at, end - at), {}, out)) return false;
                at = end + 1;
            }
            if (is_native_) out.append(event);
        }
        return true;
    }

   private:
    std::string_view next() { return by_lines_ ? lines_.next() : events_.next(); }

    bool tell(std::string_view data, std::string_view event, std::string& out) {
        Completion chunk = read_chunk(data, bounds);
        benchmark::DoNotOptimize(chunk);
        if (chunk.kind == Completion::Kind::malformed) return false;
        if (is_native_ || chunk.kind == Completion::Kind::done) return true;
        if (client_ != nullptr) return client_->chunk(data, out);
        if (event.empty())
            out.append("data: ").append(data).append("\n\n");
        else
            out.append(event);
        return true;
    }

    bool by_lines_, is_native_;
    ClientEdge* client_;
    std::unique_ptr<Translator> translator_;
    http::SseSplitter events_;
    http::LineSplitter lines_;
    std::string scratch_, told_;
};

using MakeClient = std::unique_ptr<ClientEdge> (*)(const Clock&);

void relay(benchmark::State& state, catalog::ProviderKind kind, std::string (*write)(), MakeClient make) {
    const std::string bytes = write();
    FakeClock clock;
    std::string out;
    for (auto _ : state) {
        std::unique_ptr<ClientEdge> client = make != nullptr ? make(clock) : nullptr;
        Stream stream(provider_of(kind), client.get());
        for (std::size_t at = 0; at < bytes.size(); at += piece_bytes) {
            out.clear();
            if (!stream.push(std::string_view(bytes).substr(at, piece_bytes), out)) {
                state.SkipWithError("the stream was refused");
                return;
            }
            benchmark::DoNotOptimize(out.data());
        }
    }
    state.counters["events"] =
        benchmark::Counter(static_cast<double>(events_per_stream) * static_cast<double>(state.iterations()),
                           benchmark::Counter::kIsRate);
}

std::unique_ptr<ClientEdge> messages_client(const Clock&) { return anthropic::make_edge(RequestId{1}); }
std::unique_ptr<ClientEdge> responses_client(const Clock& clock) {
    return responses::make_edge(RequestId{1}, clock);
}
std::unique_ptr<ClientEdge> ollama_client(const Clock& clock) {
    return ollama::make_edge(ollama::Kind::chat, clock);
}

using catalog::ProviderKind;
// A fixed number, so that callgrind's count of instructions can be divided:
//   valgrind --tool=callgrind nebula_micro_gateway --benchmark_filter=relay/NAME  # Ir / (iterations × 200
//   events)
constexpr int iterations = 500;
BENCHMARK_CAPTURE(relay, openai_to_openai, ProviderKind::openai, openai_stream, nullptr)
    ->Iterations(iterations);
BENCHMARK_CAPTURE(relay, openai_to_messages, ProviderKind::openai, openai_stream, messages_client)
    ->Iterations(iterations);
BENCHMARK_CAPTURE(relay, openai_to_responses, ProviderKind::openai, openai_stream, responses_client)
    ->Iterations(iterations);
BENCHMARK_CAPTURE(relay, openai_to_ollama, ProviderKind::openai, openai_stream, ollama_client)
    ->Iterations(iterations);
BENCHMARK_CAPTURE(relay, anthropic_to_messages_native, ProviderKind::anthropic, messages_stream,
                  messages_client)
    ->Iterations(iterations);
BENCHMARK_CAPTURE(relay, anthropic_to_openai, ProviderKind::anthropic, messages_stream, nullptr)
    ->Iterations(iterations);
BENCHMARK_CAPTURE(relay, anthropic_to_responses, ProviderKind::anthropic, messages_stream, responses_client)
    ->Iterations(iterations);
BENCHMARK_CAPTURE(relay, ollama_to_openai, ProviderKind::ollama, ollama_stream, nullptr)
    ->Iterations(iterations);
BENCHMARK_CAPTURE(relay, gemini_to_openai, ProviderKind::gemini, gemini_stream, nullptr)
    ->Iterations(iterations);
BENCHMARK_CAPTURE(relay, gemini_to_messages, ProviderKind::gemini, gemini_stream, messages_client)
    ->Iterations(iterations);

}  // namespace
}  // namespace nebula::gateway
