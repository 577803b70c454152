#pragma once
// Local models: finds *.gguf files and, for each model in use, starts and supervises one runner process that
// speaks OpenAI HTTP on a unix socket. A runner's crash or a bad file cannot take this process down, and no
// runner outlives it.

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "async/async.hpp"
#include "async/io_thread.hpp"
#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "base/settings.hpp"
#include "http/client.hpp"

namespace nebula::runtime {

struct RuntimeSettings {  // [runtime]
    std::string models_dir = "./models";
    /// Program and arguments; {model} {socket} {threads} {parallel} {context} are replaced. Empty =
    /// llama-server on PATH, else the bundled runner.
    std::vector<std::string> command;
    std::int64_t threads = 0;    // 0 = cores − 1, at least 1
    std::int64_t parallel = 4;   // sequences per runner
    std::int64_t context = 0;    // tokens of one sequence; 0 = what the model was trained for, at most 8192
    std::int64_t memory_mb = 0;  // budget of all runners together; 0 = half of the machine
    std::chrono::milliseconds start_timeout{60'000};
    std::chrono::milliseconds idle_unload{600'000};  // 0 = never
    std::chrono::milliseconds health_interval{5'000};
    std::chrono::milliseconds restart_backoff{500};  // doubles up to restart_backoff_max
    std::chrono::milliseconds restart_backoff_max{30'000};
    void describe(settings::Visitor& v);
};

/// Facts from the file's GGUF header.
struct ModelFile {
    std::string id;  // file name without .gguf
    std::string path;
    std::int64_t file_bytes = 0;
    std::int64_t context_length = 0;  // as served: never more than RuntimeSettings::context allows
    std::string architecture;
};
/// What scan() of a Runtime with these settings would find; for commands that start no runtime. Blocks.
std::vector<ModelFile> find_model_files(const RuntimeSettings& settings);
/// Reads the header's metadata. Error: invalid_request (not a GGUF file, damaged).
Result<ModelFile> read_model_file(const std::string& path);

/// Use of a running runner; keeps it from being unloaded. Move-only.
class RunnerLease {
   public:
    RunnerLease() = default;
    RunnerLease(RunnerLease&&) noexcept;
    RunnerLease& operator=(RunnerLease&&) noexcept;
    ~RunnerLease();
    const http::Origin& origin() const;
    explicit operator bool() const { return runner_ != nullptr; }

   private:
    friend class Runtime;
    struct Shared;
    std::shared_ptr<Shared> runner_;
};

/// Thread-safe.
class Runtime {
   public:
    Runtime(const RuntimeSettings& settings, std::string data_dir, IoThreads& threads, http::Client& client,
            const Clock& clock, metrics::Registry& metrics);
    ~Runtime();
    /// Scans the models directory (files that cannot be read are logged and left out).
    std::vector<ModelFile> scan();
    void start();
    void stop();  // TERM, then KILL; waits for every child

    /// Starts the runner if needed and waits until it is healthy. Errors: not_found, timeout, upstream_failed
    /// (it crashed while starting or is in back-off), overloaded (does not fit the memory budget beside those
    /// in use).
    Async<Result<RunnerLease>> acquire(std::string model_id, Ticks deadline);

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nebula::runtime
