// nebula_bench_load: one measurement against one address. Prints `start`, `stop` and a line of JSON.

#include <cstdio>
#include <exception>
#include <string>

#include "common/args.hpp"
#include "load/options.hpp"
#include "load/runner.hpp"

int main(int argc, char** argv) {
    using namespace nebula::bench;
    for (int i = 1; i < argc; ++i) {
        if (std::string_view(argv[i]) == "--help") return std::fputs(usage_text(), stdout) < 0;
    }
    try {
        LoadOptions options = parse_load_options(argc, argv);
        catch_stop_signals();
        raise_fd_limit();
        use_precise_timers();
        auto announce = [](const char* word) {
            std::puts(word);
            std::fflush(stdout);
        };
        LoadRunner runner(options, announce);
        Results results = runner.run();
        std::puts(to_json(options, results).c_str());
    } catch (const UsageError& error) {
        std::fprintf(stderr, "%s\n%s", error.what(), usage_text());
        return 2;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "nebula_bench_load: %s\n", error.what());
        return 1;
    }
    return 0;
}
