#include "runtime/runtime.hpp"

#include "runtime/model_files.hpp"
#include "runtime/supervisor.hpp"

namespace nebula::runtime {

void RuntimeSettings::describe(settings::Visitor& v) {
    v.field({.name = "models_dir", .help = "Directory of *.gguf files; each is served under its file name."},
            models_dir);
    v.field(
        {.name = "command",
         .help =
             "Program and arguments that serve a model; {model} {socket} {threads} {parallel} {context} are "
             "replaced. Empty: llama-server on PATH, else the bundled runner."},
        command);
    v.field({.name = "threads", .help = "Threads of a runner; 0: cores less one.", .max = 1024}, threads);
    v.field({.name = "parallel", .help = "Requests that a runner works on at once.", .min = 1, .max = 1024},
            parallel);
    v.field(
        {.name = "context",
         .help =
             "Tokens of prompt and answer of one request; 0: what the model was trained for, at most 8192.",
         .max = 100'000'000},
        context);
    v.field({.name = "memory_mb",
             .help = "Memory of all runners together, in MiB; 0: half of the machine's.",
             .max = std::int64_t{1} << 40},
            memory_mb);
    v.field({.name = "start_timeout_ms", .help = "How long a model may take to load.", .min = 1},
            start_timeout);
    v.field({.name = "idle_unload_ms", .help = "Unused for so long, a model leaves memory; 0: never."},
            idle_unload);
    v.field({.name = "health_interval_ms",
             .help = "How often a running model is asked whether it is well.",
             .min = 1},
            health_interval);
    v.field({.name = "restart_backoff_ms",
             .help = "Pause after a crash; doubles with each further one.",
             .min = 1},
            restart_backoff);
    v.field({.name = "restart_backoff_max_ms", .help = "Longest pause after a crash.", .min = 1},
            restart_backoff_max);
}

struct RunnerLease::Shared {
    explicit Shared(std::shared_ptr<RunnerShared> of) : runner(std::move(of)) {}
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;
    ~Shared() {
        runner->touch();
        --runner->leases;
    }
    std::shared_ptr<RunnerShared> runner;
};

RunnerLease::RunnerLease(RunnerLease&&) noexcept = default;
RunnerLease& RunnerLease::operator=(RunnerLease&&) noexcept = default;
RunnerLease::~RunnerLease() = default;
const http::Origin& RunnerLease::origin() const { return runner_->runner->origin; }

struct Runtime::Impl {
    std::string models_dir;
    std::int64_t context;
    Supervisor supervisor;
};

Runtime::Runtime(const RuntimeSettings& settings, std::string data_dir, IoThreads& threads,
                 http::Client& client, const Clock& clock, metrics::Registry& metrics)
    : impl_(new Impl{
          settings.models_dir, settings.context, {settings, data_dir, threads, client, clock, metrics}}) {}

Runtime::~Runtime() = default;

std::vector<ModelFile> Runtime::scan() {
    std::vector<FoundFile> found = find_files(impl_->models_dir);
    std::vector<ModelFile> files;
    for (FoundFile& one : found) {
        one.file.context_length = served_context(impl_->context, one.file.context_length);
        files.push_back(one.file);
    }
    impl_->supervisor.set_files(std::move(found));
    return files;
}

void Runtime::start() { impl_->supervisor.start(); }
void Runtime::stop() { impl_->supervisor.stop(); }

std::vector<ModelFile> find_model_files(const RuntimeSettings& settings) {
    std::vector<ModelFile> files;
    for (FoundFile& one : find_files(settings.models_dir)) {
        one.file.context_length = served_context(settings.context, one.file.context_length);
        files.push_back(std::move(one.file));
    }
    return files;
}

Async<Result<RunnerLease>> Runtime::acquire(std::string model_id, Ticks deadline) {
    auto waiter = std::make_shared<Waiter>();  // shared: the supervisor and this frame, whoever goes last
    waiter->deadline = deadline;
    auto runner = impl_->supervisor.try_acquire(model_id, waiter);
    if (runner && *runner == nullptr) runner = co_await waiter->done;
    if (!runner) co_return fail(runner.error());
    RunnerLease lease;
    lease.runner_ = std::make_shared<RunnerLease::Shared>(std::move(*runner));
    co_return lease;
}

}  // namespace nebula::runtime
