#include "runtime/command.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "base/text.hpp"

extern char** environ;

namespace nebula::runtime {
namespace {

namespace fs = std::filesystem;

constexpr int node_major_min = 20;
constexpr std::int64_t context_min = 64;  // what the bundled runner accepts

std::string environment_value(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : "";
}

std::string with_values(std::string text, const CommandInput& input) {
    const std::array<std::pair<std::string_view, std::string>, 5> values = {{
        {"{model}", input.model_path},
        {"{socket}", input.socket_path},
        {"{threads}", std::to_string(input.threads)},
        {"{parallel}", std::to_string(input.parallel)},
        {"{context}", std::to_string(input.context)},
    }};
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
        auto hit = std::ranges::find_if(values, [&](const auto& value) {
            return text.compare(at, value.first.size(), value.first) == 0;
        });
        if (hit == values.end()) {
            out += text[at++];
        } else {
            out += hit->second;
            at += hit->first.size();
        }
    }
    return out;
}

std::string find_runner_directory() {
    std::error_code ignored;
    std::string told = environment_value("NEBULA_RUNNER_DIR");
    if (!told.empty()) return told;
    fs::path program = fs::read_symlink("/proc/self/exe", ignored);
    fs::path home = program.parent_path();
    for (const fs::path& place :
         {home / "../runtime/runner", home / "../share/nebula/runner", fs::path("runtime/runner")})
        if (fs::exists(place / "runner.mjs", ignored)) return fs::weakly_canonical(place, ignored).string();
    return "";
}

// "v20.11.1" → 20; asks the program itself, once per start of a runner.
int node_major(const std::string& node) {
    std::string quoted;
    for (char c : node) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    std::FILE* pipe = ::popen(("'" + quoted + "' --version 2>/dev/null").c_str(), "re");
    if (pipe == nullptr) return 0;
    char version[32] = {};
    std::size_t got = std::fread(version, 1, sizeof version - 1, pipe);
    ::pclose(pipe);
    std::string_view text(version, got);
    if (!text.starts_with('v')) return 0;
    text.remove_prefix(1);
    return parse_int<int>(text.substr(0, text.find('.'))).value_or(0);
}

std::string find_node(const std::string& runner_directory) {
    std::string told = environment_value("NEBULA_NODE");
    if (!told.empty()) return find_program(told);
    std::string on_path = find_program("node");
    if (!on_path.empty() && node_major(on_path) >= node_major_min) return on_path;
    std::string own = runner_directory + "/node_modules/node/bin/node";
    return ::access(own.c_str(), X_OK) == 0 ? own : "";
}

}  // namespace

std::string find_program(const std::string& name) {
    if (name.find('/') != std::string::npos) return ::access(name.c_str(), X_OK) == 0 ? name : "";
    std::string path = environment_value("PATH");
    for (std::string_view directory : split(path, ':')) {
        if (directory.empty()) continue;
        std::string candidate = std::string(directory) + "/" + name;
        std::error_code ignored;
        if (::access(candidate.c_str(), X_OK) == 0 && fs::is_regular_file(candidate, ignored))
            return candidate;
    }
    return "";
}

Result<std::vector<std::string>> runner_command(const RuntimeSettings& settings, const CommandInput& input) {
    auto missing = [](std::string detail) {
        return fail(Code::upstream_failed, "this server has no program to run models with", {},
                    std::move(detail));
    };
    if (!settings.command.empty()) {
        std::vector<std::string> command;
        for (const std::string& part : settings.command) command.push_back(with_values(part, input));
        std::string program = find_program(command[0]);
        if (program.empty()) return missing("runtime.command: " + command[0] + " is not a program");
        command[0] = program;
        return command;
    }
    if (std::string server = find_program("llama-server"); !server.empty()) {
        // Its -c counts all sequences together.
        return std::vector<std::string>{server,
                                        "-m",
                                        input.model_path,
                                        "--host",
                                        input.socket_path,
                                        "-t",
                                        std::to_string(input.threads),
                                        "-np",
                                        std::to_string(input.parallel),
                                        "-c",
                                        std::to_string(input.context * input.parallel)};
    }
    std::string directory = find_runner_directory();
    if (directory.empty())
        return missing("no runtime.command, no llama-server on PATH, no bundled runner (NEBULA_RUNNER_DIR)");
    std::string node = find_node(directory);
    if (node.empty()) return missing("the bundled runner needs Node 20 or later (NEBULA_NODE, PATH)");
    return std::vector<std::string>{node,         directory + "/runner.mjs",
                                    "--model",    input.model_path,
                                    "--socket",   input.socket_path,
                                    "--threads",  std::to_string(input.threads),
                                    "--parallel", std::to_string(input.parallel),
                                    "--context",  std::to_string(std::max(input.context, context_min))};
}

std::vector<std::string> runner_environment() {
    constexpr std::string_view names[] = {"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "NODE_OPTIONS"};
    constexpr std::string_view prefixes[] = {"LC_",  "LD_",   "GGML_", "LLAMA_", "CUDA_",  "NVIDIA_",
                                             "HIP_", "ROCR_", "ROCM_", "HSA_",   "VK_",    "OMP_",
                                             "KMP_", "MKL_",  "ASAN_", "TSAN_",  "UBSAN_", "PYENV_"};
    std::vector<std::string> kept;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        std::string_view text = *entry;
        std::string_view name = text.substr(0, text.find('='));
        bool is_secret =
            name.find("KEY") != std::string_view::npos || name.find("TOKEN") != std::string_view::npos;
        bool is_kept =
            std::ranges::find(names, name) != std::end(names) ||
            std::ranges::any_of(prefixes, [name](std::string_view p) { return name.starts_with(p); });
        if (is_kept && !is_secret) kept.emplace_back(text);
    }
    return kept;
}

}  // namespace nebula::runtime
