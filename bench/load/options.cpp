#include "load/options.hpp"

#include "common/args.hpp"

namespace nebula::bench {
namespace {

/// http://127.0.0.1:PORT[/path]; other hosts are refused so that nothing beyond this machine is ever loaded.
void parse_url(std::string_view url, LoadOptions& options) {
    std::string_view prefix = "http://127.0.0.1:";
    if (!url.starts_with(prefix)) throw UsageError("--url must be http://127.0.0.1:PORT[/path]");
    std::string_view rest = url.substr(prefix.size());
    std::uint32_t port = 0;
    std::size_t digits = 0;
    while (digits < rest.size() && digits < 5 && rest[digits] >= '0' && rest[digits] <= '9') {
        port = port * 10 + static_cast<std::uint32_t>(rest[digits++] - '0');
    }
    if (port == 0 || port > 65'535) throw UsageError("--url has no usable port");
    options.port = static_cast<std::uint16_t>(port);
    if (digits < rest.size()) options.path = rest.substr(digits);
}

}  // namespace

const char* usage_text() {
    return "usage: nebula_bench_load --url http://127.0.0.1:PORT[/path] [options]\n"
           "  --connections N      32; of them one request each is under way\n"
           "  --rate R             requests per second on a fixed schedule; without it each connection sends "
           "the\n"
           "                       next request when the last is answered\n"
           "  --warmup S --duration S   0.5 and 2 seconds\n"
           "  --stream             Server-Sent Events; --tokens N events each (50); --no-usage asks for no "
           "usage\n"
           "  --body-bytes N       pads the prompt\n"
           "  --idle               one request per connection, then hold them all for the duration\n"
           "  --abort-ratio F      share of requests that are deliberately abandoned\n"
           "  --key K  --header 'name: value'  --timeout S (10)  --seed N\n"
           "Prints `start` and `stop` around the measured time, then one JSON object.\n";
}

std::string LoadOptions::mode() const {
    if (is_idle) return "idle";
    return rate > 0 ? "open" : "closed";
}

std::string LoadOptions::request_text() const {
    std::string body = request_body(shape);
    std::string text = "POST " + path + " HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(port) + "\r\n";
    text += "User-Agent: nebula-bench/1\r\nAccept: */*\r\nContent-Type: application/json\r\n";
    if (!key.empty()) text += "Authorization: Bearer " + key + "\r\n";
    for (const std::string& header : headers) text += header + "\r\n";
    text += "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n";
    return text + body;
}

LoadOptions parse_load_options(int argc, const char* const* argv) {
    Args args(argc, argv);
    LoadOptions options;
    parse_url(args.text("--url", ""), options);
    options.connections = static_cast<std::uint32_t>(args.number("--connections", 32, 60'000));
    options.rate = args.decimal("--rate", 0);
    options.warmup_s = args.decimal("--warmup", 0.5);
    options.duration_s = args.decimal("--duration", 2);
    options.abort_ratio = args.decimal("--abort-ratio", 0);
    options.timeout_s = args.decimal("--timeout", 10);
    options.seed = args.number("--seed", 1, ~std::uint64_t{0});
    options.is_idle = args.flag("--idle");
    options.shape.is_streaming = args.flag("--stream");
    options.shape.wants_usage = options.shape.is_streaming && !args.flag("--no-usage");
    // Room for the fixed completion's 96 tokens, or exactly the events of a stream.
    std::uint64_t tokens = args.number("--tokens", options.shape.is_streaming ? 50 : 256, 9'999'999);
    options.shape.tokens = static_cast<std::uint32_t>(tokens);
    options.shape.body_bytes = args.number("--body-bytes", 0, 64 << 20);
    options.key = args.text("--key", "sk-bench-0000000000000000000000000000000000000000");
    options.headers = args.texts("--header");
    args.finish();
    if (options.connections == 0) throw UsageError("--connections must be at least 1");
    if (options.shape.is_streaming && options.shape.tokens == 0)
        throw UsageError("--tokens must be at least 1");
    if (options.is_idle && options.rate > 0) throw UsageError("--idle and --rate exclude each other");
    return options;
}

}  // namespace nebula::bench
