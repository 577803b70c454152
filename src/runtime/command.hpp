#pragma once
// Which program runs a model, and with what. Private to runtime.

#include <string>
#include <vector>

#include "base/result.hpp"
#include "runtime/runtime.hpp"

namespace nebula::runtime {

struct CommandInput {
    std::string model_path;
    std::string socket_path;
    std::int64_t threads = 1;
    std::int64_t parallel = 1;
    std::int64_t context = 0;  // of one sequence
};

/// settings.command, else llama-server on PATH, else the bundled runner; placeholders replaced, program as a
/// path. Error: upstream_failed (there is none; `detail` says what was looked for).
Result<std::vector<std::string>> runner_command(const RuntimeSettings& settings, const CommandInput& input);
/// What a runner gets to see of our environment: nothing that may hold a key.
std::vector<std::string> runner_environment();
/// Full path of a program on PATH ("" when there is none); a name with a slash is taken as it is.
std::string find_program(const std::string& name);

}  // namespace nebula::runtime
