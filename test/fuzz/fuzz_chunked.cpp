// Our chunk decoder beside Beast's: where both finish, the same body and the same end; where only one does, a
// reason listed here. Every split of the input gives the same result.
#include <boost/beast/http.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "http/parser.hpp"

namespace {

namespace beast_http = boost::beast::http;
using namespace nebula::http;

struct Result {
    bool done = false;
    bool bad = false;
    std::string body;
    std::size_t used = 0;
};

[[noreturn]] void disagree(const char* what, std::string_view text) {
    std::fprintf(stderr, "disagreement: %s\n%.*s\n", what, static_cast<int>(text.size()), text.data());
    std::abort();
}

Result decode(std::string_view text, std::size_t piece) {
    Result result;
    ChunkDecoder decoder;
    for (std::size_t at = 0; at < text.size(); at += piece) {
        std::string_view input = text.substr(at, piece);
        while (!input.empty()) {
            std::size_t before = input.size();
            ChunkDecoder::Step step = decoder.next(input);
            result.used += before - input.size();
            result.body += step.data;
            if (step.state == ChunkDecoder::State::done) {
                result.done = true;
                return result;
            }
            if (step.state == ChunkDecoder::State::bad) {
                result.bad = true;
                return result;
            }
            if (step.state == ChunkDecoder::State::data && step.data.empty())
                disagree("an empty piece", text);
        }
    }
    return result;
}

Result beast_decode(std::string_view text) {
    constexpr std::string_view head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    beast_http::request_parser<beast_http::string_body> parser;
    parser.body_limit(boost::none);
    parser.eager(true);
    std::string whole(head);
    whole += text;
    Result result;
    std::size_t at = 0;
    while (!parser.is_done()) {
        boost::beast::error_code problem;
        std::size_t used = parser.put(boost::asio::buffer(whole.data() + at, whole.size() - at), problem);
        at += used;
        // An eager parser has taken all it can; asked again without more input it asserts.
        if (problem && problem != beast_http::error::need_more) result.bad = true;
        if (problem || used == 0) break;
    }
    result.done = parser.is_done() && !result.bad;
    result.body = parser.get().body();
    result.used = at > head.size() ? at - head.size() : 0;
    return result;
}

// Beast reads extensions by their grammar and trailers as header fields; we read over both. Where those are
// in play, accepting is a matter of taste, framing is not.
bool has_extension_or_trailer(std::string_view text) {
    return text.find(';') != std::string_view::npos || text.find(':') != std::string_view::npos;
}

// What Beast lets pass and we do not: space around a size, more than 16 digits of it, folded trailers.
bool is_chosen_strictness(std::string_view text) {
    return text.find(' ') != std::string_view::npos || text.find('\t') != std::string_view::npos ||
           text.find("00000000000000000") != std::string_view::npos || has_extension_or_trailer(text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    if (size < 1) return 0;
    std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    Result ours = decode(text, std::max<std::size_t>(text.size(), 1));
    for (std::size_t piece : {std::size_t{1}, std::size_t{data[0]} + 1}) {
        Result again = decode(text, piece);
        if (again.done != ours.done || again.bad != ours.bad || again.body != ours.body ||
            again.used != ours.used)
            disagree("split changes the result", text);
    }
    Result theirs = beast_decode(text);
    if (ours.done && theirs.done) {
        if (ours.body != theirs.body) disagree("body", text);
        if (ours.used != theirs.used) disagree("where it ends", text);
    } else if (ours.done && !has_extension_or_trailer(text.substr(0, ours.used))) {
        disagree("Beast does not accept", text);
    } else if (theirs.done && !is_chosen_strictness(text)) {
        disagree("we do not accept", text);
    }
    return 0;
}
