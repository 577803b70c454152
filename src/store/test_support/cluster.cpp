#include "store/test_support/cluster.hpp"

#include <fcntl.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pwd.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <vector>

namespace nebula::store::test_support {
namespace {

constexpr const char* programs = "/usr/lib/postgresql/15/bin";
constexpr int start_timeout_ms = 60'000;

// The keeper: makes the cluster, starts it, says so, then waits until the other end of its standard input
// closes, which the kernel does however the test process ends, and removes everything. Durability is not what
// these tests look at, so the server need not wait for the disk.
constexpr const char* keeper_script = R"SH(
folder="$1"; programs="$2"; as=""
[ "$(id -u)" = 0 ] && as="/usr/sbin/runuser -u postgres --"
$as "$programs/initdb" -D "$folder/data" -U nebula -A trust -E UTF8 --locale=C --no-sync \
  >"$folder/log" 2>&1 || exit 1
$as "$programs/pg_ctl" -D "$folder/data" -l "$folder/server.log" -w -t 50 start -o "-c listen_addresses='' \
  -c unix_socket_directories='$folder' -c fsync=off -c full_page_writes=off -c max_connections=200 \
  -c shared_buffers=32MB -c max_wal_size=256MB -c autovacuum=off" >>"$folder/log" 2>&1 </dev/null || exit 1
echo ready
read -r _
$as "$programs/pg_ctl" -D "$folder/data" -m immediate stop >>"$folder/log" 2>&1
rm -rf "$folder"
)SH";

[[noreturn]] void give_up(const std::string& what) {
    throw std::runtime_error("PostgreSQL for tests: " + what);
}

/// A folder that the server's user may write in, with a path short enough for a socket (107 bytes).
std::string make_folder() {
    std::string base = std::filesystem::temp_directory_path().string();
    if (base.size() > 60) base = "/tmp";
    std::string folder = base + "/nebula-pg-XXXXXX";
    if (mkdtemp(folder.data()) == nullptr) give_up("no temporary folder in " + base);
    if (geteuid() != 0) return folder;
    const passwd* user = getpwnam("postgres");
    if (user == nullptr || chown(folder.c_str(), user->pw_uid, user->pw_gid) != 0)
        give_up("the user postgres is missing; install postgresql-15");
    return folder;
}

std::string read_file(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

/// True when the keeper said "ready" in time.
bool wait_until_ready(int from) {
    std::string said;
    while (said.find("ready") == std::string::npos) {
        pollfd wait{from, POLLIN, 0};
        if (poll(&wait, 1, start_timeout_ms) <= 0) return false;
        char buffer[64];
        ssize_t got = read(from, buffer, sizeof buffer);
        if (got <= 0) return false;
        said.append(buffer, static_cast<std::size_t>(got));
    }
    return true;
}

struct ConnectionFinish {
    void operator()(PGconn* connection) const { PQfinish(connection); }
};
struct ResultClear {
    void operator()(PGresult* result) const { PQclear(result); }
};

void run_sql(const std::string& url, const std::string& text) {
    std::unique_ptr<PGconn, ConnectionFinish> connection(PQconnectdb(url.c_str()));
    std::unique_ptr<PGresult, ResultClear> result(PQexec(connection.get(), text.c_str()));
    if (PQresultStatus(result.get()) != PGRES_COMMAND_OK) give_up(PQerrorMessage(connection.get()));
}

}  // namespace

Cluster& Cluster::instance() {
    static Cluster cluster;
    return cluster;
}

Cluster::Cluster() : folder_(make_folder()) { start(); }

void Cluster::start() {
    if (access((std::string(programs) + "/initdb").c_str(), X_OK) != 0)
        give_up(std::string("not found in ") + programs + "; install postgresql-15");
    int input[2];
    int output[2];
    if (pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0) give_up("no pipe");

    // The server refuses to run as root; the keeper may, and must be able to remove the folder.
    std::vector<std::string> words = {"/bin/sh", "-c", keeper_script, "keeper", folder_, programs};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);

    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, input[0], 0);
    posix_spawn_file_actions_adddup2(&files, output[1], 1);
    posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    // A session of its own, so that an interrupt typed at the tests does not end the keeper before it has
    // cleaned up.
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    pid_t pid = -1;
    int problem = posix_spawn(&pid, argv[0], &files, &attributes, argv.data(), environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    close(input[0]);
    close(output[1]);
    alive_ = input[1];
    keeper_ = pid;
    bool is_ready = problem == 0 && wait_until_ready(output[0]);
    close(output[0]);
    if (!is_ready)
        give_up("did not start:\n" + read_file(folder_ + "/log") + read_file(folder_ + "/server.log"));
}

Cluster::~Cluster() {
    close(alive_);
    int status = 0;
    while (waitpid(keeper_, &status, 0) < 0 && errno == EINTR) {
    }
}

std::string Cluster::create_database() {
    static std::atomic<int> number{0};
    std::string name = "test_" + std::to_string(++number);
    run_sql(url("postgres"), "CREATE DATABASE " + name);
    return name;
}

void Cluster::drop_database(const std::string& name) noexcept {
    try {
        run_sql(url("postgres"), "DROP DATABASE " + name + " WITH (FORCE)");
    } catch (const std::exception&) {
        // The cluster goes away soon, and everything with it.
    }
}

std::string Cluster::url(const std::string& database) const {
    return "postgres://nebula@/" + database + "?host=" + folder_;
}

}  // namespace nebula::store::test_support
