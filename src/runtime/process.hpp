#pragma once
// One child process with its pipes. Private to runtime. One thread: the one that called spawn(), which must
// live as long as the child, because the kernel ends the child with that thread (PR_SET_PDEATHSIG).

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace nebula::runtime {

class Process {
   public:
    struct Exit {
        bool is_signal = false;
        int value = 0;  // exit status or signal number
        std::string text() const;
    };
    using Line = std::function<void(bool is_stderr, std::string_view line)>;

    /// Starts `command` (an absolute path or a name on PATH, then arguments) in its own process group, with
    /// nothing of ours open but three pipes. Error: upstream_failed.
    static Result<std::unique_ptr<Process>> spawn(const std::vector<std::string>& command,
                                                  const std::vector<std::string>& environment);
    /// Kills and reaps what still runs.
    ~Process();
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;

    pid_t pid() const { return pid_; }
    /// To poll() for: exit, standard output, standard error. −1 when there is none (any more).
    int exit_fd() const { return exit_fd_; }
    int output_fd() const { return pipes_[0].fd; }
    int error_fd() const { return pipes_[1].fd; }

    void terminate();  // asks: closes standard input, SIGTERM
    void kill();       // the whole group
    /// Null while it runs. Ends what is left of its group.
    std::optional<Exit> try_reap();
    /// Whole lines that are there; longer ones in pieces. Does not wait.
    void read_lines(const Line& line);
    std::int64_t resident_bytes() const;

   private:
    struct Pipe {
        int fd = -1;
        std::string partial = {};
    };
    Process() = default;
    void read_pipe(Pipe& pipe, bool is_stderr, const Line& line);

    pid_t pid_ = -1;
    int exit_fd_ = -1;
    int input_fd_ = -1;
    Pipe pipes_[2];
    std::optional<Exit> exit_;
};

}  // namespace nebula::runtime
