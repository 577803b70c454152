// nebula_bench_upstream: the fake model provider of the benchmark. Prints where it listens, then serves until
// SIGTERM.

#include <cstdio>
#include <exception>

#include "common/args.hpp"
#include "common/net.hpp"
#include "upstream/server.hpp"

namespace {

constexpr const char* usage =
    "usage: nebula_bench_upstream [--port N] [--interval-ms D] [--first-byte-delay-ms D] [--events N] "
    "[--seed N]\n";

}  // namespace

int main(int argc, char** argv) {
    using namespace nebula::bench;
    try {
        Args args(argc, argv);
        if (args.flag("--help")) return std::fputs(usage, stdout) < 0;
        UpstreamOptions options;
        options.port = static_cast<std::uint16_t>(args.number("--port", 0, 65'535));
        options.interval_ns = static_cast<std::int64_t>(args.decimal("--interval-ms", 20) * 1e6);
        options.first_byte_delay_ns =
            static_cast<std::int64_t>(args.decimal("--first-byte-delay-ms", 0) * 1e6);
        options.default_events = static_cast<std::uint32_t>(args.number("--events", 50, 9'999'999));
        options.seed = args.number("--seed", 1, ~std::uint64_t{0});
        args.finish();
        catch_stop_signals();
        raise_fd_limit();
        use_precise_timers();
        UpstreamServer server(options);
        std::printf("listening on http://127.0.0.1:%u\n", server.port());
        std::fflush(stdout);
        server.run();
    } catch (const UsageError& error) {
        std::fprintf(stderr, "%s\n%s", error.what(), usage);
        return 2;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "nebula_bench_upstream: %s\n", error.what());
        return 1;
    }
    return 0;
}
