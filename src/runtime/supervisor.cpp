#include "runtime/supervisor.hpp"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/crypto.hpp"
#include "base/text.hpp"
#include "runtime/command.hpp"
#include "runtime/supervisor_counters.hpp"

namespace nebula::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t waiters_max = 10'000;         // of one model
constexpr std::size_t socket_path_bytes_max = 107;  // sockaddr_un
constexpr std::size_t socket_name_bytes = 12 + 5 + 1;
constexpr std::size_t last_line_bytes_max = 300;

// Half of the memory that this machine or our control group has.
std::int64_t default_budget() {
    std::int64_t bytes = std::int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
    std::ifstream limit("/sys/fs/cgroup/memory.max");
    std::string text;
    if (limit >> text)
        if (auto group = parse_int<std::int64_t>(text); group && *group > 0) bytes = std::min(bytes, *group);
    return bytes / 2;
}

bool is_private_directory(const std::string& path) {
    struct stat about{};
    return ::lstat(path.c_str(), &about) == 0 && S_ISDIR(about.st_mode) && about.st_uid == ::geteuid() &&
           (about.st_mode & 077) == 0;
}

bool sounds_bad(std::string_view line) {
    std::string lower = to_lower(line.substr(0, 512));
    return lower.find("error") != std::string::npos || lower.find("fail") != std::string::npos ||
           lower.find("warn") != std::string::npos || lower.find("fatal") != std::string::npos;
}

}  // namespace

Supervisor::Supervisor(const RuntimeSettings& settings, const std::string& data_dir, IoThreads& threads,
                       http::Client& client, const Clock& clock, metrics::Registry& metrics)
    : settings_(settings),
      data_dir_(data_dir),
      threads_(threads),
      client_(client),
      clock_(clock),
      counters_(std::make_unique<Counters>(metrics)),
      budget_bytes_(settings.memory_mb > 0 ? settings.memory_mb << 20 : default_budget()),
      runner_threads_(settings.threads > 0
                          ? settings.threads
                          : std::max<std::int64_t>(1, std::int64_t{std::thread::hardware_concurrency()} - 1)),
      wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    counters_->budget.set(budget_bytes_);
    prepare_socket_directory();
}

Supervisor::~Supervisor() {
    stop();
    ::close(wake_fd_);
    if (is_socket_directory_ours_) ::rmdir(socket_directory_.c_str());
}

// In the data directory, else (its path is too long for a socket, or it cannot be written) in a fresh
// temporary one.
void Supervisor::prepare_socket_directory() {
    std::error_code failed;
    fs::path wanted = fs::absolute(data_dir_, failed) / "run";
    fs::create_directories(wanted, failed);
    ::chmod(wanted.c_str(), 0700);
    if (wanted.string().size() + socket_name_bytes <= socket_path_bytes_max &&
        is_private_directory(wanted.string()) && ::access(wanted.c_str(), W_OK) == 0) {
        socket_directory_ = wanted.string();
        return;
    }
    char made[] = "/tmp/nebula-XXXXXX";
    if (::mkdtemp(made) == nullptr) {
        LOG_ERROR("no directory for runner sockets", {"wanted", wanted.string()},
                  {"reason", std::strerror(errno)});
        return;
    }
    socket_directory_ = made;
    is_socket_directory_ours_ = true;
}

std::string Supervisor::socket_path(const std::string& model_path) const {
    Sha256 digest = sha256(model_path);
    return socket_directory_ + "/" + to_hex(std::span(digest.bytes).first(6)) + ".sock";
}

void Supervisor::set_files(std::vector<FoundFile> files) {
    {
        std::lock_guard lock(mutex_);
        for (auto& [id, runner] : runners_) runner->is_gone = true;
        for (FoundFile& found : files) {
            auto& runner = runners_[found.file.id];
            if (runner == nullptr) {
                runner = std::make_unique<Runner>();
                runner->shared = std::make_shared<RunnerShared>();
                runner->shared->clock = &clock_;
                runner->shared->origin.host = "localhost";
                runner->shared->origin.unix_path = socket_path(found.file.path);
            } else if (found.modified_ns != runner->found.modified_ns ||
                       found.file.file_bytes != runner->found.file.file_bytes) {
                runner->is_stale = true;
                runner->crashes = 0;  // another file, another chance
                runner->backoff_until = Ticks{};
            }
            runner->found = std::move(found);
            runner->is_gone = false;
        }
        // A running supervisor removes them itself: it may be using them.
        if (!is_started_) std::erase_if(runners_, [](const auto& entry) { return entry.second->is_gone; });
    }
    wake();
}

void Supervisor::start() {
    std::lock_guard lock(mutex_);
    if (is_started_) return;
    is_started_ = true;
    thread_ = std::jthread([this] { run(); });
}

void Supervisor::stop() {
    {
        std::lock_guard lock(mutex_);
        is_stopping_ = true;
    }
    wake();
    if (thread_.joinable()) thread_.join();
    probes_.close();
    probes_.wait();
}

Result<std::shared_ptr<RunnerShared>> Supervisor::try_acquire(const std::string& id,
                                                              std::shared_ptr<Waiter> waiter) {
    {
        std::lock_guard lock(mutex_);
        if (!is_started_ || is_stopping_) return fail(Code::cancelled, "the server is shutting down");
        auto found = runners_.find(id);
        if (found == runners_.end() || found->second->is_gone)
            return fail(Code::not_found, "there is no model file of this name", "model");
        Runner& runner = *found->second;
        Ticks now = clock_.ticks();
        if (runner.state == State::ready) {
            ++runner.shared->leases;
            runner.shared->touch();
            return runner.shared;
        }
        if (runner.state == State::backoff && now < runner.backoff_until) {
            auto rest = std::chrono::ceil<std::chrono::milliseconds>(runner.backoff_until - now);
            return fail(Error{.code = Code::upstream_failed,
                              .message = "the model's runner ended unexpectedly and is not started again yet",
                              .param = "",
                              .detail = "back-off: " + runner.last_line,
                              .retry_after_ms = static_cast<int>(rest.count())});
        }
        if (runner.waiters.size() >= waiters_max)
            return fail(Code::overloaded, "too many requests wait for this model");
        runner.waiters.push_back(std::move(waiter));
    }
    wake();
    return nullptr;
}

void Supervisor::wake() {
    std::uint64_t one = 1;
    [[maybe_unused]] ssize_t ignored = ::write(wake_fd_, &one, sizeof one);
}

void Supervisor::run() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, nullptr);  // signals are for the program's own handlers
    ::pthread_setname_np(::pthread_self(), "supervisor");
    while (true) {
        bool goes_on = false;
        std::vector<Runner*> to_spawn;
        {
            std::lock_guard lock(mutex_);
            goes_on = turn();
            for (auto& [id, runner] : runners_)
                if (std::exchange(runner->needs_spawn, false)) to_spawn.push_back(runner.get());
        }
        for (Runner* runner : to_spawn) spawn(*runner);  // stays alive: only this thread removes runners
        deliver();
        if (!goes_on) return;
        if (to_spawn.empty()) wait_for_events();
    }
}

bool Supervisor::turn() {
    Ticks now = clock_.ticks();
    for (auto& [id, runner] : runners_) step(*runner, now);
    std::erase_if(runners_, [](const auto& entry) {
        return entry.second->is_gone && entry.second->process == nullptr && entry.second->waiters.empty();
    });
    update_gauges();
    if (!is_stopping_) return true;
    return std::ranges::any_of(runners_, [](const auto& entry) { return entry.second->process != nullptr; });
}

void Supervisor::update_gauges() {
    std::array<std::int64_t, state_count> states{};
    std::int64_t memory = 0, leases = 0;
    for (const auto& [id, runner] : runners_) {
        ++states[static_cast<std::size_t>(runner->state)];
        memory += runner->memory_bytes;
        leases += runner->shared->leases;
    }
    for (std::size_t i = 0; i < state_count; ++i) counters_->states[i]->set(states[i]);
    counters_->memory.set(memory);
    counters_->leases.set(leases);
}

// Resuming may run other code, so never under the mutex.
void Supervisor::deliver() {
    for (Delivery& delivery : std::exchange(deliveries_, {}))
        delivery.waiter->done.set(std::move(delivery.result));
}

void Supervisor::spawn(Runner& runner) {
    CommandInput input;
    {
        std::lock_guard lock(mutex_);
        input = {.model_path = runner.found.file.path,
                 .socket_path = runner.shared->origin.unix_path,
                 .threads = runner_threads_,
                 .parallel = settings_.parallel,
                 .context = runner.found.file.context_length};
    }
    ::unlink(input.socket_path.c_str());  // of a process that could not clean up
    Result<std::unique_ptr<Process>> process = nullptr;
    auto command = runner_command(settings_, input);
    if (command)
        process = Process::spawn(*command, runner_environment());
    else
        process = fail(command.error());
    std::lock_guard lock(mutex_);
    if (process) {
        runner.process = std::move(*process);
        LOG_INFO("runner started", {"model", runner.found.file.id}, {"program", command->front()},
                 {"pid", runner.process->pid()});
        return;
    }
    LOG_ERROR("runner cannot be started", {"model", runner.found.file.id},
              {"reason", process.error().detail});
    counters_->crashes.add();
    handle_failure(runner, process.error(), false, clock_.ticks());
}

void Supervisor::log_output(Runner& runner) {
    runner.process->read_lines([&runner](bool is_stderr, std::string_view line) {
        if (is_stderr) runner.last_line = line.substr(0, last_line_bytes_max);
        auto level = is_stderr && sounds_bad(line) ? log::Level::warn : log::Level::info;
        if (log::enabled(level))
            log::write(runner.log_site, level, "runner says",
                       {{"model", runner.found.file.id}, {"line", line}});
    });
}

void Supervisor::wait_for_events() {
    constexpr int busy_ms = 50, watching_ms = 500, forever = -1;
    std::vector<pollfd> fds = {{wake_fd_, POLLIN, 0}};
    std::vector<Runner*> running;
    int timeout = forever;
    auto at_most = [&timeout](int ms) { timeout = timeout == forever ? ms : std::min(timeout, ms); };
    {
        std::lock_guard lock(mutex_);
        for (auto& [id, runner] : runners_) {
            bool is_settled = runner->state == State::ready || runner->state == State::stopped;
            if (!runner->waiters.empty() || (!is_settled && runner->process != nullptr)) at_most(busy_ms);
            if (runner->state == State::ready || runner->restarts) at_most(watching_ms);
            if (runner->process == nullptr) continue;
            running.push_back(runner.get());
            for (int fd :
                 {runner->process->exit_fd(), runner->process->output_fd(), runner->process->error_fd()})
                fds.push_back({fd, POLLIN, 0});
        }
    }
    if (::poll(fds.data(), fds.size(), timeout) <= 0) return;
    std::uint64_t count = 0;
    [[maybe_unused]] ssize_t ignored = ::read(wake_fd_, &count, sizeof count);
    std::lock_guard lock(mutex_);  // log_output reads what set_files() may replace
    for (Runner* runner : running) log_output(*runner);
}

void Supervisor::begin_probe(Runner& runner, std::chrono::milliseconds timeout) {
    runner.is_probing = true;
    probes_.spawn(threads_[0],
                  probe(runner.found.file.id, runner.shared->origin, runner.generation, timeout));
}

Async<void> Supervisor::probe(std::string id, http::Origin origin, std::uint64_t generation,
                              std::chrono::milliseconds timeout) {
    http::ClientRequest request;
    request.method = http::Method::get;
    request.path = "/health";
    request.timeouts = {.connect = timeout, .first_byte = timeout, .idle = timeout, .total = timeout};
    int status = 0;
    auto answer = co_await client_.send(origin, std::move(request), nullptr);
    if (answer) {
        status = (*answer)->status();
        auto body =
            co_await (*answer)->read_all(64 * 1024);  // to its end, so that the connection is used again
        if (!body) status = 0;
    }
    {
        std::lock_guard lock(mutex_);
        auto found = runners_.find(id);
        if (found == runners_.end() || found->second->generation != generation) co_return;
        found->second->is_probing = false;
        found->second->has_probe_result = true;
        found->second->probe_status = status;
    }
    wake();
}

}  // namespace nebula::runtime
