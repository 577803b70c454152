#include "runtime/runtime.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <thread>

#include "base/log.hpp"
#include "base/text.hpp"
#include "runtime/command.hpp"
#include "runtime/test_support.hpp"

namespace nebula::runtime {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

std::mutex lines_mutex;
std::vector<std::string> lines;

void capture(std::string_view line) {
    std::lock_guard lock(lines_mutex);
    lines.emplace_back(line);
}
bool logged(std::string_view text) {
    std::lock_guard lock(lines_mutex);
    return std::ranges::any_of(lines,
                               [text](const std::string& l) { return l.find(text) != std::string::npos; });
}

std::string own_path() { return fs::read_symlink("/proc/self/exe").string(); }

std::vector<std::string> fake_command() {
    return {own_path(), "--gtest_also_run_disabled_tests", "--gtest_filter=FakeRunner.DISABLED_Serve",
            "--model={model}", "--socket={socket}"};
}

// Waits for a condition of another thread or process; the limit only ends a broken run.
template <class Condition>
bool eventually(Condition condition) {
    Ticks limit = SystemClock().ticks() + 10s;
    while (!condition()) {
        if (SystemClock().ticks() > limit) return false;
        ::usleep(2'000);  // style: allow: the condition is another process's
    }
    return true;
}

bool is_alive(pid_t pid) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/stat");
    std::string number, name, state;
    status >> number >> name >> state;
    return !state.empty() && state != "Z" && state != "X";
}

std::vector<pid_t> children() {
    std::vector<pid_t> found;
    for (const auto& task : fs::directory_iterator("/proc/self/task")) {
        std::ifstream file(task.path() / "children");
        for (pid_t pid = 0; file >> pid;) found.push_back(pid);
    }
    return found;
}

Async<Result<RunnerLease>> acquire_on(IoThread& thread, Runtime& runtime, std::string id, Ticks deadline) {
    co_await resume_on(thread);
    co_return co_await runtime.acquire(std::move(id), deadline);
}

Async<std::string> ask(IoThread& thread, http::Client& client, http::Origin origin, std::string path) {
    co_await resume_on(thread);
    http::ClientRequest request;
    request.method = http::Method::get;
    request.path = std::move(path);
    auto answer = co_await client.send(origin, std::move(request), nullptr);
    if (!answer) co_return "failed";
    auto body = co_await (*answer)->read_all(1000);
    co_return body ? *body : "failed";
}

template <class ClockType>
class Fixture : public testing::Test {
   protected:
    Fixture() {
        {
            std::lock_guard lock(lines_mutex);
            lines.clear();
        }
        log::set_sink_for_test(&capture);
        settings.models_dir = directory / "models";
        settings.command = fake_command();
        settings.restart_backoff = 60s;
        settings.restart_backoff_max = 200s;
        settings.memory_mb = 4'000;
        fs::create_directory(settings.models_dir);
    }
    ~Fixture() override {
        runtime.reset();
        client.reset();
        threads.stop();
        EXPECT_THAT(children(), testing::IsEmpty());
        log::set_sink_for_test(nullptr);
    }

    void add_model(const std::string& id) {
        test::write_file(settings.models_dir + "/" + id + ".gguf", test::small_model());
    }
    void start(std::vector<std::string> ids) {
        for (const std::string& id : ids) add_model(id);
        runtime = std::make_unique<Runtime>(settings, directory / "data", threads, *client, clock, metrics);
        runtime->scan();
        runtime->start();
    }
    Result<RunnerLease> acquire(const std::string& id, std::chrono::milliseconds patience = 30s) {
        return sync_wait(acquire_on(threads[0], *runtime, id, clock.ticks() + patience));
    }
    std::string ask(const RunnerLease& lease, const std::string& path) {
        return sync_wait(runtime::ask(threads[0], *client, lease.origin(), path));
    }
    pid_t pid_of(const RunnerLease& lease) {
        std::string text = ask(lease, "/pid");
        return text.starts_with("pid ") ? parse_int<pid_t>(text.substr(4)).value_or(-1) : -1;
    }
    std::int64_t in_state(const char* state) {
        return metrics.gauge("nebula_runtime_runners", "", {{"state", state}}).value();
    }
    std::uint64_t counted(const char* name) {
        return metrics.counter("nebula_runtime_" + std::string(name) + "_total", "").value();
    }

    ClockType clock;
    test::TempDir directory;
    RuntimeSettings settings;
    metrics::Registry metrics;
    IoThreads threads{clock, 1};
    std::unique_ptr<http::Client> client =
        std::make_unique<http::Client>(http::ClientSettings{}, threads, clock, metrics);
    std::unique_ptr<Runtime> runtime;
};
using RuntimeTest = Fixture<SystemClock>;
using RuntimeFakeTimeTest = Fixture<FakeClock>;

// The main path: a first use starts the runner, further ones share it, and its output reaches our log.
TEST_F(RuntimeTest, StartsARunnerOnFirstUseAndSharesIt) {
    ::setenv("NEBULA_TEST_API_KEY", "secret", 1);
    start({"good"});
    EXPECT_THAT(children(), testing::IsEmpty());
    auto first = acquire("good");
    ASSERT_TRUE(first) << first.error().message << first.error().detail;
    auto second = acquire("good");
    ASSERT_TRUE(second);
    EXPECT_EQ(pid_of(*first), pid_of(*second));
    EXPECT_THAT(children(), testing::ElementsAre(pid_of(*first)));
    EXPECT_EQ(counted("starts"), 1u);
    EXPECT_EQ(ask(*first, "/inherited"), "0");  // nothing of ours is open in there
    EXPECT_EQ(ask(*first, "/environment"), "clean");
    EXPECT_TRUE(eventually([] { return logged(R"("line":"loading good.gguf")"); }));
    EXPECT_TRUE(logged(R"("level":"warn","message":"runner says","model":"good","line":"a warning)"));
    ::unsetenv("NEBULA_TEST_API_KEY");
}

// A burst at a cold model must start one process, not one per request.
TEST_F(RuntimeTest, SharesOneStartAmongConcurrentUses) {
    start({"good"});
    std::atomic<int> served = 0;
    {
        std::vector<std::jthread> users;
        for (int i = 0; i < 20; ++i)
            users.emplace_back([&] {
                auto lease = acquire("good");
                if (lease) ++served;
            });
    }
    EXPECT_EQ(served, 20);
    EXPECT_EQ(counted("starts"), 1u);
}

// What is not there is told apart from what fails.
TEST_F(RuntimeTest, AnswersNotFoundForUnknownModels) {
    start({"good"});
    auto lease = acquire("other");
    ASSERT_FALSE(lease);
    EXPECT_EQ(lease.error().code, Code::not_found);
}

// A damaged model ends its runner at once; requests must hear so, then be refused fast instead of each
// starting one.
TEST_F(RuntimeTest, ReportsABadModelAndBacksOff) {
    start({"bad"});
    auto lease = acquire("bad");
    ASSERT_FALSE(lease);
    EXPECT_EQ(lease.error().code, Code::upstream_failed);
    EXPECT_THAT(lease.error().detail, testing::HasSubstr("exit status 3: cannot read the tensors"));
    EXPECT_EQ(lease.error().retry_after_ms, 60'000);
    auto again = acquire("bad");
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, Code::upstream_failed);
    EXPECT_GT(again.error().retry_after_ms, 50'000);
    EXPECT_EQ(counted("starts"), 1u);
    EXPECT_EQ(counted("crashes"), 1u);
    EXPECT_TRUE(eventually([&] { return in_state("backoff") == 1; }));
}

// A missing program is an installation fault: it must be said, not hang.
TEST_F(RuntimeTest, ReportsAMissingProgram) {
    settings.command = {"/does/not/exist"};
    start({"good"});
    auto lease = acquire("good");
    ASSERT_FALSE(lease);
    EXPECT_EQ(lease.error().code, Code::upstream_failed);
    EXPECT_THAT(lease.error().detail, testing::HasSubstr("/does/not/exist"));
}

// A model that never gets ready is ended after start_timeout; a caller's own deadline ends only his waiting.
TEST_F(RuntimeTest, TimesOutASlowStart) {
    settings.start_timeout = 600ms;
    start({"never"});
    auto hasty = acquire("never", 100ms);
    ASSERT_FALSE(hasty);
    EXPECT_EQ(hasty.error().code, Code::timeout);
    EXPECT_EQ(counted("crashes"), 0u);
    auto lease = acquire("never");
    ASSERT_FALSE(lease);
    EXPECT_EQ(lease.error().code, Code::timeout);
    EXPECT_EQ(counted("starts"), 1u);
    EXPECT_EQ(counted("crashes"), 1u);
}

// Stop must leave nothing behind, also when a runner ignores the polite way.
TEST_F(RuntimeTest, StopEndsEveryProcess) {
    start({"good", "other"});
    auto one = acquire("good");
    auto two = acquire("other");
    ASSERT_TRUE(one && two);
    pid_t first = pid_of(*one), second = pid_of(*two);
    ASSERT_GT(first, 0);
    ASSERT_GT(second, 0);
    Ticks before = SystemClock().ticks();
    runtime->stop();
    EXPECT_LT(SystemClock().ticks() - before, 2s);
    EXPECT_FALSE(is_alive(first));
    EXPECT_FALSE(is_alive(second));
    auto late = acquire("good");
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().code, Code::cancelled);
}

// SIGTERM ignored: SIGKILL after three seconds.
TEST_F(RuntimeTest, KillsAStubbornRunner) {
    start({"stubborn"});
    auto lease = acquire("stubborn");
    ASSERT_TRUE(lease);
    pid_t pid = pid_of(*lease);
    runtime->stop();
    EXPECT_FALSE(is_alive(pid));
}

// With room for one model only, the one that nobody uses makes place; one in use never does.
TEST_F(RuntimeTest, EvictsTheLeastRecentlyUsedModel) {
    settings.memory_mb = 128 + 30;  // a start is estimated at 128 MiB, a fat runner takes more than 40
    start({"fat1", "fat2"});
    pid_t first = -1;
    {
        auto lease = acquire("fat1");
        ASSERT_TRUE(lease) << lease.error().detail;
        first = pid_of(*lease);
        auto refused = acquire("fat2");
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, Code::overloaded);
        EXPECT_GT(refused.error().retry_after_ms, 0);
    }
    auto second = acquire("fat2");
    ASSERT_TRUE(second) << second.error().detail;
    EXPECT_FALSE(is_alive(first));
    EXPECT_EQ(counted("evictions"), 1u);
    EXPECT_TRUE(eventually([&] { return in_state("ready") == 1 && in_state("stopped") == 1; }));
    EXPECT_EQ(counted("crashes"), 0u);
}

// More than the whole budget can never run: say so at once.
TEST_F(RuntimeTest, RefusesAModelLargerThanTheBudget) {
    settings.memory_mb = 100;
    start({"good"});
    auto lease = acquire("good");
    ASSERT_FALSE(lease);
    EXPECT_EQ(lease.error().code, Code::overloaded);
    EXPECT_EQ(counted("starts"), 0u);
}

// The socket's path has a hard limit of 107 bytes, wherever the data directory is.
TEST_F(RuntimeTest, WorksWithALongDataDirectory) {
    add_model("good");
    std::string deep = directory / std::string(120, 'd');
    runtime = std::make_unique<Runtime>(settings, deep, threads, *client, clock, metrics);
    runtime->scan();
    runtime->start();
    auto lease = acquire("good");
    ASSERT_TRUE(lease);
    EXPECT_TRUE(lease->origin().unix_path.starts_with("/tmp/nebula-"));
    struct stat about{};
    ASSERT_EQ(::stat(fs::path(lease->origin().unix_path).parent_path().c_str(), &about), 0);
    EXPECT_EQ(about.st_mode & 0777, 0700u);
}

// Files come and go while we serve; a running model whose file vanished ends when nobody uses it.
TEST_F(RuntimeTest, FollowsTheDirectory) {
    start({"good"});
    add_model("late");
    ASSERT_EQ(runtime->scan().size(), 2u);
    pid_t pid = -1;
    {
        auto lease = acquire("late");
        ASSERT_TRUE(lease);
        pid = pid_of(*lease);
        fs::remove(settings.models_dir + "/late.gguf");
        runtime->scan();
        EXPECT_EQ(acquire("late").error().code, Code::not_found);
        EXPECT_TRUE(is_alive(pid));
    }
    EXPECT_TRUE(eventually([&] { return !is_alive(pid); }));
}

// A crash in use: fast refusals during the pause, then it is back without anybody asking; pauses double.
TEST_F(RuntimeFakeTimeTest, RestartsAfterACrashWithGrowingPauses) {
    settings.health_interval = 3'600s;
    start({"good"});
    pid_t before = -1;
    for (auto pause : {60s, 120s, 200s, 200s}) {
        {
            auto lease = acquire("good");
            ASSERT_TRUE(lease);
            EXPECT_NE(pid_of(*lease), before);
            before = pid_of(*lease);
            ask(*lease, "/crash");
        }
        ASSERT_TRUE(eventually([&] { return in_state("backoff") == 1; }));
        auto refused = acquire("good");
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, Code::upstream_failed);
        EXPECT_EQ(refused.error().retry_after_ms, std::chrono::milliseconds(pause).count());
        clock.advance(pause);
        ASSERT_TRUE(eventually([&] { return in_state("ready") == 1; }));
    }
    EXPECT_EQ(counted("crashes"), 4u);
    EXPECT_EQ(counted("starts"), 5u);
    EXPECT_TRUE(logged("signal SIGABRT"));
}

// Memory of an unused model comes back; one in use stays however long it takes.
TEST_F(RuntimeFakeTimeTest, UnloadsAnIdleModel) {
    settings.idle_unload = 600s;
    settings.health_interval = 3'600s * 24;
    start({"good"});
    pid_t pid = -1;
    {
        auto lease = acquire("good", 7'200s);
        ASSERT_TRUE(lease);
        pid = pid_of(*lease);
        clock.advance(1'000s);
        runtime->scan();  // wakes the supervisor
        EXPECT_TRUE(is_alive(pid));
    }
    clock.advance(599s);
    runtime->scan();
    EXPECT_TRUE(is_alive(pid));
    clock.advance(1s);
    runtime->scan();
    EXPECT_TRUE(eventually([&] { return !is_alive(pid) && in_state("stopped") == 1; }));
    EXPECT_EQ(counted("idle_unloads"), 1u);
    auto again = acquire("good");
    ASSERT_TRUE(again);
    EXPECT_NE(pid_of(*again), pid);
}

// Not a test: the process that the next one kills.
TEST_F(RuntimeTest, DISABLED_HoldsARunnerUntilKilled) {
    const char* report = std::getenv("NEBULA_RUNTIME_TEST_REPORT");
    if (report == nullptr) GTEST_SKIP() << "started by another test only";
    start({"good"});
    auto lease = acquire("good");
    ASSERT_TRUE(lease);
    test::write_file(std::string(report) + ".part", std::to_string(pid_of(*lease)));
    fs::rename(std::string(report) + ".part", report);
    while (true) ::pause();
}

// kill −9 of the server must not leave a model in memory for ever.
TEST(RuntimeProcessTest, NoRunnerSurvivesItsKilledParent) {
    test::TempDir directory;
    std::string report = directory / "pid";
    std::string program = own_path();
    ::setenv("NEBULA_RUNTIME_TEST_REPORT", report.c_str(), 1);
    ::setenv("NEBULA_TEST_TEMP", directory.path().c_str(), 1);
    const char* arguments[] = {program.c_str(), "--gtest_also_run_disabled_tests",
                               "--gtest_filter=RuntimeTest.DISABLED_HoldsARunnerUntilKilled", nullptr};
    pid_t parent = ::fork();
    if (parent == 0) {
        ::execv(program.c_str(), const_cast<char* const*>(arguments));
        ::_exit(127);
    }
    ::unsetenv("NEBULA_RUNTIME_TEST_REPORT");
    ::unsetenv("NEBULA_TEST_TEMP");
    ASSERT_TRUE(eventually([&] { return fs::exists(report); }));
    pid_t runner = -1;
    std::ifstream(report) >> runner;
    ASSERT_TRUE(is_alive(runner));
    ::kill(parent, SIGKILL);
    ::waitpid(parent, nullptr, 0);
    EXPECT_TRUE(eventually([&] { return !is_alive(runner); }));
}

// Which program runs models, in order; and that values are put in as whole arguments.
TEST(CommandTest, ChoosesTheProgram) {
    test::TempDir directory;
    CommandInput input{.model_path = "/m/{socket}.gguf",
                       .socket_path = "/s.sock",
                       .threads = 3,
                       .parallel = 2,
                       .context = 512};
    RuntimeSettings settings;
    settings.command = {"/bin/sh", "-c", "echo {model} {threads}{parallel} {context} {else}"};
    auto own = runner_command(settings, input);
    ASSERT_TRUE(own);
    EXPECT_THAT(*own, testing::ElementsAre("/bin/sh", "-c", "echo /m/{socket}.gguf 32 512 {else}"));

    std::string path = std::getenv("PATH") != nullptr ? std::getenv("PATH") : "";
    settings.command.clear();
    auto make_program = [&](const std::string& name, const std::string& text) {
        test::write_file(directory / name, text);
        fs::permissions(directory / name, fs::perms::owner_all);
    };
    ::setenv("PATH", directory.path().c_str(), 1);
    ::setenv("NEBULA_RUNNER_DIR", directory.path().c_str(), 1);
    EXPECT_FALSE(runner_command(settings, input));
    make_program("node", "#!/bin/sh\necho v18.19.0\n");
    EXPECT_FALSE(runner_command(settings, input));  // too old
    make_program("node", "#!/bin/sh\necho v20.1.0\n");
    auto bundled = runner_command(settings, input);
    ASSERT_TRUE(bundled);
    EXPECT_THAT(*bundled, testing::ElementsAre(directory / "node", directory / "runner.mjs", "--model",
                                               "/m/{socket}.gguf", "--socket", "/s.sock", "--threads", "3",
                                               "--parallel", "2", "--context", "512"));
    make_program("llama-server", "");
    auto server = runner_command(settings, input);
    ASSERT_TRUE(server);
    EXPECT_EQ(server->front(), directory / "llama-server");
    EXPECT_EQ(server->back(), "1024");  // of all sequences
    ::setenv("PATH", path.c_str(), 1);
    ::unsetenv("NEBULA_RUNNER_DIR");
}

// The bundled runner with the demonstration model, where both are there: the real thing becomes ready and
// stops.
TEST_F(RuntimeTest, RunsTheBundledRunner) {
    fs::path root = fs::path(__FILE__).parent_path().parent_path().parent_path();
    const char* other = std::getenv("NEBULA_TEST_MODEL");  // any GGUF file
    fs::path model = other != nullptr ? fs::path(other) : root / "models/nebula-nano.gguf";
    if (!fs::exists(model) || !fs::exists(root / "runtime/runner/node_modules/node-llama-cpp"))
        GTEST_SKIP() << "no demonstration model or runner here";
    ::setenv("NEBULA_RUNNER_DIR", (root / "runtime/runner").c_str(), 1);
    settings.command.clear();
    fs::create_symlink(model, settings.models_dir + "/nano.gguf");
    start({});
    auto lease = acquire("nano");
    ::unsetenv("NEBULA_RUNNER_DIR");
    ASSERT_TRUE(lease) << lease.error().message << " " << lease.error().detail;
    EXPECT_THAT(ask(*lease, "/v1/models"), testing::HasSubstr("\"data\""));
    Ticks before = SystemClock().ticks();
    runtime->stop();
    EXPECT_LT(SystemClock().ticks() - before, 2'500ms) << "SIGTERM should be enough";
}

}  // namespace
}  // namespace nebula::runtime
