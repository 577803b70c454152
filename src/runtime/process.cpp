#include "runtime/process.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace nebula::runtime {
namespace {

constexpr std::size_t line_bytes_max = 4096;
constexpr int reads_per_turn = 16;  // a chatty runner must not keep the supervisor busy

void close_fd(int& fd) {
    if (fd >= 0) ::close(fd);
    fd = -1;
}

struct PipePair {
    int read = -1;
    int write = -1;
    ~PipePair() { close_fd(read), close_fd(write); }
    bool open() {
        int fds[2];
        if (::pipe2(fds, O_CLOEXEC) != 0) return false;
        read = fds[0];
        write = fds[1];
        return true;
    }
};

int take(int& fd) { return std::exchange(fd, -1); }

struct ChildPlan {
    char* const* argv;
    char* const* envp;
    int input;
    int output;
    int errors;
    int report;
    pid_t parent;
};

// Between fork and exec of a program with threads: system calls only, no memory, no locks.
[[noreturn]] void run_child(const ChildPlan& plan) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != plan.parent) ::_exit(127);  // the parent died before the line above
    struct sigaction standard{};
    standard.sa_handler = SIG_DFL;
    for (int number = 1; number < 32; ++number) ::sigaction(number, &standard, nullptr);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    // When memory runs out, the kernel shall take a runner before it takes us.
    int score = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score >= 0) {
        [[maybe_unused]] ssize_t ignored = ::write(score, "500", 3);
    }
    bool ok = ::dup2(plan.input, 0) == 0 && ::dup2(plan.output, 1) == 1 && ::dup2(plan.errors, 2) == 2;
    // Everything else closes at exec; the report pipe too, which tells the parent that exec worked.
    ::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
    if (ok) ::execve(plan.argv[0], plan.argv, plan.envp);
    int problem = errno;
    [[maybe_unused]] ssize_t ignored = ::write(plan.report, &problem, sizeof problem);
    ::_exit(127);
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
    std::vector<char*> out;
    for (const std::string& text : texts) out.push_back(const_cast<char*>(text.c_str()));
    out.push_back(nullptr);
    return out;
}

}  // namespace

std::string Process::Exit::text() const {
    if (!is_signal) return "exit status " + std::to_string(value);
    const char* name = ::sigabbrev_np(value);
    return "signal " + (name != nullptr ? "SIG" + std::string(name) : std::to_string(value));
}

Result<std::unique_ptr<Process>> Process::spawn(const std::vector<std::string>& command,
                                                const std::vector<std::string>& environment) {
    PipePair input, output, errors, report;
    auto failed = [&command](int number) {
        return fail(Code::upstream_failed, "the model's runner could not be started", {},
                    command.front() + ": " + std::strerror(number));
    };
    if (!input.open() || !output.open() || !errors.open() || !report.open()) return failed(errno);
    std::vector<char*> argv = pointers(command);
    std::vector<char*> envp = pointers(environment);
    ChildPlan plan{argv.data(),  envp.data(),  input.read, output.write,
                   errors.write, report.write, ::getpid()};
    // Signal handlers of ours must not run in the child.
    sigset_t all, before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = ::fork();
    if (pid == 0) run_child(plan);
    int fork_problem = errno;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0) return failed(fork_problem);
    ::setpgid(pid, pid);  // here too, so that it is done whoever comes first

    std::unique_ptr<Process> process(new Process);
    process->pid_ = pid;
    close_fd(report.write);
    int exec_problem = 0;
    ssize_t got = 0;
    do {
        got = ::read(report.read, &exec_problem, sizeof exec_problem);
    } while (got < 0 && errno == EINTR);
    if (got == sizeof exec_problem) return failed(exec_problem);  // the destructor reaps

    process->exit_fd_ = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));  // −1: exits are asked for
    process->input_fd_ = take(input.write);
    process->pipes_[0].fd = take(output.read);
    process->pipes_[1].fd = take(errors.read);
    for (const Pipe& pipe : process->pipes_) ::fcntl(pipe.fd, F_SETFL, O_NONBLOCK);
    return process;
}

Process::~Process() {
    if (!exit_) {
        kill();
        siginfo_t info{};
        while (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED) != 0 && errno == EINTR) {
        }
    }
    close_fd(exit_fd_);
    close_fd(input_fd_);
    for (Pipe& pipe : pipes_) close_fd(pipe.fd);
}

void Process::terminate() {
    close_fd(input_fd_);
    if (!exit_) ::kill(pid_, SIGTERM);
}

void Process::kill() {
    if (exit_) return;
    ::kill(-pid_, SIGKILL);
    ::kill(pid_, SIGKILL);
}

std::optional<Process::Exit> Process::try_reap() {
    if (exit_) return exit_;
    siginfo_t info{};
    int options = WEXITED | WNOHANG;
    int result = ::waitid(P_PID, static_cast<id_t>(pid_), &info, options | WNOWAIT);
    if (result == 0 && info.si_pid == 0) return std::nullopt;
    // While the dead child is not reaped its number cannot be given to another group.
    if (result == 0) {
        ::kill(-pid_, SIGKILL);
        ::waitid(P_PID, static_cast<id_t>(pid_), &info, options);
    }
    exit_ = result == 0 ? Exit{info.si_code != CLD_EXITED, info.si_status} : Exit{};
    return exit_;
}

void Process::read_lines(const Line& line) {
    read_pipe(pipes_[0], false, line);
    read_pipe(pipes_[1], true, line);
}

void Process::read_pipe(Pipe& pipe, bool is_stderr, const Line& line) {
    char buffer[4096];
    for (int i = 0; i < reads_per_turn && pipe.fd >= 0; ++i) {
        ssize_t got = ::read(pipe.fd, buffer, sizeof buffer);
        if (got < 0) break;  // nothing there
        if (got == 0) close_fd(pipe.fd);
        pipe.partial.append(buffer, static_cast<std::size_t>(got));
        std::size_t start = 0;
        for (std::size_t end; (end = pipe.partial.find('\n', start)) != std::string::npos; start = end + 1)
            if (end > start) line(is_stderr, std::string_view(pipe.partial).substr(start, end - start));
        pipe.partial.erase(0, start);
        bool is_last = got == 0 && !pipe.partial.empty();
        if (pipe.partial.size() < line_bytes_max && !is_last) continue;
        line(is_stderr, pipe.partial);
        pipe.partial.clear();
    }
}

std::int64_t Process::resident_bytes() const {
    std::string path = "/proc/" + std::to_string(pid_) + "/statm";
    std::FILE* file = std::fopen(path.c_str(), "re");
    if (file == nullptr) return 0;
    long long total = 0, resident = 0;
    int fields = std::fscanf(file, "%lld %lld", &total, &resident);
    std::fclose(file);
    return fields == 2 ? resident * ::sysconf(_SC_PAGESIZE) : 0;
}

}  // namespace nebula::runtime
