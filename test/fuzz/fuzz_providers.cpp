// The translators of providers between strangers on both sides. Whatever a client sends, the request that
// comes out is JSON or refused as the client's fault; whatever a provider sends, every line that comes out is
// one that the relay can meter and every client edge can read, and nothing follows [DONE]. The first byte
// chooses the kind and what the rest is: a request, an answer, or events one a line.
#include <array>
#include <boost/json/parse.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gateway/completion.hpp"
#include "gateway/provider.hpp"
#include "gateway/providers/openai/openai.hpp"
#include "json_check.hpp"

namespace {

using namespace nebula;
using namespace nebula::gateway;
using fuzz::require_json, fuzz::stop;

const Provider& provider_at(unsigned index) {
    if (index == 3) return openai::responses_provider();
    constexpr std::array kinds{catalog::ProviderKind::anthropic, catalog::ProviderKind::ollama,
                               catalog::ProviderKind::gemini};
    return provider_of(kinds[index]);
}
constexpr unsigned kinds_count = 4;
constexpr UsageBounds bounds{1'000'000, 1'000'000};

// What every kind takes, so that answers have a request before them.
constexpr std::string_view plain =
    R"({"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"prompt":"x","input":"x"})";

void fuzz_request(Translator& translator, std::string_view text) {
    auto body = translator.request(text);
    if (body)
        require_json(*body);
    else if (body.error().code != Code::invalid_request)
        stop("refused as another's fault", text);
}

void fuzz_answer(Translator& translator, Endpoint endpoint, std::string_view text) {
    auto answer = translator.answer(text);
    if (!answer) {
        if (answer.error().code != Code::upstream_failed) stop("refused as another's fault", text);
        return;
    }
    require_json(*answer);
    (void)read_answer(*answer, bounds, endpoint);
}

void fuzz_stream(Translator& translator, std::string_view text) {
    std::string out;
    while (!text.empty()) {
        std::size_t end = std::min(text.find('\n'), text.size());
        bool is_told = translator.event(text.substr(0, end), out);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (!is_told) break;
    }
    std::string_view lines = out;
    for (bool is_done = false; !lines.empty();) {
        std::size_t end = lines.find('\n');
        if (end == std::string_view::npos) stop("a line without its end", lines);
        std::string_view line = lines.substr(0, end);
        lines.remove_prefix(end + 1);
        if (is_done) stop("something behind [DONE]", line);
        is_done = line == "[DONE]";
        if (is_done) continue;
        require_json(std::string(line));
        if (read_chunk(line, bounds).kind == Completion::Kind::malformed) stop("no chunk", line);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    if (size == 0) return 0;
    const Provider& provider = provider_at(data[0] % kinds_count);
    unsigned what = data[0] / kinds_count % 3;
    bool is_embedding = data[0] >= 128 && provider.serves(Endpoint::embeddings);
    Endpoint endpoint = is_embedding ? Endpoint::embeddings : Endpoint::chat;
    std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    auto translator = provider.translate(endpoint, "req_1", Time{});
    if (what == 0) {
        fuzz_request(*translator, text);
        return 0;
    }
    bool takes_requests = provider.wire() != Wire::responses;  // but those in its own words
    if (takes_requests && !translator->request(plain)) stop("the plain request is refused", plain);
    if (what == 1)
        fuzz_answer(*translator, endpoint, text);
    else if (!is_embedding)  // they do not stream
        fuzz_stream(*translator, text);
    return 0;
}
