// The runner that the tests of this module supervise: this very program, started again with a filter. What it
// does depends on the name of the model file. It ignores the end of its standard input, so that only the
// supervisor's means end it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace nebula::runtime {
namespace {

int inherited_fds = 0;  // beyond the three standard ones

std::string argument(const std::string& name) {
    std::ifstream file("/proc/self/cmdline", std::ios::binary);
    std::string all((std::istreambuf_iterator<char>(file)), {});
    std::string wanted = name + "=";
    for (std::size_t at = 0; at < all.size();) {
        std::string one = all.c_str() + at;
        if (one.starts_with(wanted)) return one.substr(wanted.size());
        at += one.size() + 1;
    }
    return "";
}

int listen_on(const std::string& path) {
    int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || ::listen(fd, 64) != 0)
        ::_exit(9);
    return fd;
}

std::string answer_to(const std::string& request, const std::string& model) {
    if (request.starts_with("GET /crash ")) ::abort();
    std::string status = "200 OK";
    std::string body =
        request.starts_with("GET /health ") ? "{\"status\":\"ok\"}" : "pid " + std::to_string(::getpid());
    if (request.starts_with("GET /inherited ")) body = std::to_string(inherited_fds);
    if (request.starts_with("GET /environment "))
        body = std::string(std::getenv("NEBULA_TEST_API_KEY") == nullptr ? "clean" : "leaked");
    if (model.starts_with("never")) status = "503 Service Unavailable";
    return "HTTP/1.1 " + status + "\r\ncontent-length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

[[noreturn]] void serve(int listener, const std::string& model) {
    std::vector<pollfd> fds = {{listener, POLLIN, 0}};
    while (true) {
        ::poll(fds.data(), fds.size(), -1);
        for (std::size_t i = 1; i < fds.size(); ++i) {
            if (fds[i].revents == 0) continue;
            char buffer[8192];
            ssize_t got = ::read(fds[i].fd, buffer, sizeof buffer);
            std::string answer =
                got > 0 ? answer_to(std::string(buffer, static_cast<std::size_t>(got)), model) : "";
            if (got > 0 && ::write(fds[i].fd, answer.data(), answer.size()) > 0) continue;
            ::close(fds[i].fd);
            fds[i].fd = -1;
        }
        if (fds[0].revents != 0)
            fds.push_back({::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), POLLIN, 0});
    }
}

// Not a test: what the supervisor of the other tests runs.
TEST(FakeRunner, DISABLED_Serve) {
    std::string path = argument("--model");
    std::string model = path.substr(path.rfind('/') + 1);
    if (path.empty()) GTEST_SKIP() << "started by other tests only";
    for (int fd = 3; fd < 1024; ++fd) inherited_fds += ::fcntl(fd, F_GETFD) == -1 ? 0 : 1;
    std::fprintf(stdout, "loading %s\n", model.c_str());
    std::fprintf(stderr, "a warning on standard error\n");
    if (model.starts_with("bad")) {
        std::fprintf(stderr, "cannot read the tensors\n");
        ::_exit(3);
    }
    if (model.starts_with("stubborn")) ::signal(SIGTERM, SIG_IGN);
    std::vector<char> memory;
    if (model.starts_with("fat")) memory.assign(40 << 20, 'x');
    std::fflush(stdout);
    serve(listen_on(argument("--socket")), model);
}

}  // namespace
}  // namespace nebula::runtime
