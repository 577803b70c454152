#include "async/async.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "async/blocking_pool.hpp"
#include "async/completion.hpp"
#include "async/io_thread.hpp"
#include "async/task_group.hpp"
#include "base/log.hpp"

namespace nebula {
namespace {

// Tells when it dies, so that tests see the order of unwinding.
struct Witness {
    std::vector<std::string>* log;
    std::string name;
    ~Witness() { log->push_back("~" + name); }
};

Async<int> add(int a, int b) { co_return a + b; }

Async<int> failing(std::vector<std::string>* log) {
    Witness inner{log, "inner"};
    log->push_back("throw");
    throw std::runtime_error("boom");
    co_return 0;
}

Async<int> outer(std::vector<std::string>* log) {
    Witness witness{log, "outer"};
    try {
        co_return co_await failing(log);
    } catch (const std::runtime_error&) {
        log->push_back("catch");
        throw;
    }
}

Async<std::unique_ptr<int>> make_pointer() { co_return std::make_unique<int>(7); }

Async<int> deep(int levels) {
    if (levels == 0) co_return 0;
    int below = co_await deep(levels - 1);
    co_return below + 1;
}

[[maybe_unused]] Async<int> loop_of_ready_awaits(int count) {
    int sum = 0;
    for (int i = 0; i < count; ++i) sum += co_await add(0, 1);
    co_return sum;
}

// The plain case, with values that can only be moved.
TEST(AsyncTest, GivesItsValueToWhoWaits) {
    EXPECT_EQ(sync_wait(add(2, 3)), 5);
    EXPECT_EQ(*sync_wait(make_pointer()), 7);
}

// Frames unwind innermost first, as functions do; holders of resources rely on it.
TEST(AsyncTest, UnwindsExceptionsInsideOut) {
    std::vector<std::string> log;
    EXPECT_THROW(sync_wait(outer(&log)), std::runtime_error);
    EXPECT_EQ(log, (std::vector<std::string>{"throw", "~inner", "catch", "~outer"}));
}

// A coroutine that nobody awaits must not run nor leak.
TEST(AsyncTest, IsLazyAndDestroyedUnstarted) {
    std::vector<std::string> log;
    {
        [[maybe_unused]] Async<int> never = failing(&log);
    }
    EXPECT_TRUE(log.empty());
}

// Symmetric transfer keeps the stack flat however many awaits complete at once.
TEST(AsyncTest, DoesNotGrowTheStack) {
    EXPECT_EQ(sync_wait(deep(20'000)), 20'000);
#if !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
    EXPECT_EQ(sync_wait(loop_of_ready_awaits(1'000'000)), 1'000'000);
#endif
}

Async<void> hop(IoThreads& threads, std::atomic<int>& right) {
    for (std::size_t i = 0; i < 10; ++i) {
        IoThread& target = threads[i % threads.size()];
        co_await resume_on(target);
        if (IoThread::current() == &target) ++right;
    }
}

// Connections stay on their thread: resume_on must really go there.
TEST(IoThreadTest, ResumesWhereAsked) {
    SystemClock clock;
    IoThreads threads(clock, 2);
    std::atomic<int> right = 0;
    sync_wait(hop(threads, right));
    EXPECT_EQ(right, 10);
}

Async<void> nap(IoThread& thread, const Clock& clock, std::chrono::milliseconds length, Ticks& woke) {
    co_await resume_on(thread);
    co_await sleep_until(clock.ticks() + length);
    woke = clock.ticks();
}

// The one use of the real clock here: the tick starts by itself and does not fire early.
TEST(IoThreadTest, SleepsUntilTheTime) {
    SystemClock clock;
    IoThreads threads(clock, 1);
    Ticks started = clock.ticks();
    Ticks woke{};
    sync_wait(nap(threads[0], clock, std::chrono::milliseconds(60), woke));
    EXPECT_GE(woke - started, std::chrono::milliseconds(60));
}

Async<void> wait_for(Completion<int>& gate, std::atomic<int>& sum) {
    int value = co_await gate;
    sum += value;
}
Async<void> explode() {
    throw std::runtime_error("boom");
    co_return;
}

// stop() of every service relies on this: closed groups take nothing new, and wait() means all is done.
TEST(TaskGroupTest, WaitsForAllAndRefusesAfterClose) {
    log::set_level(log::Level::off);
    SystemClock clock;
    IoThreads threads(clock, 1);
    std::atomic<int> sum = 0;
    std::vector<std::unique_ptr<Completion<int>>> gates;
    {
        TaskGroup group("test");
        for (int i = 0; i < 20; ++i) {
            gates.push_back(std::make_unique<Completion<int>>());
            EXPECT_TRUE(group.spawn(threads[0], wait_for(*gates.back(), sum)));
        }
        EXPECT_TRUE(group.spawn(threads[0], explode()));
        group.close();
        EXPECT_FALSE(group.spawn(threads[0], explode()));
        for (auto& gate : gates) gate->set(1);
        group.wait();
        EXPECT_EQ(sum, 20);
        EXPECT_EQ(group.size(), 0u);
    }
    log::set_level(log::Level::info);
}

Async<Result<int>> run_in_pool(IoThread& thread, BlockingPool& pool, bool& came_back) {
    co_await resume_on(thread);
    auto work = []() -> Result<int> { return IoThread::current() == nullptr ? 42 : 0; };
    auto result = co_await pool.run(work);
    came_back = IoThread::current() == &thread;
    co_return result;
}

// Blocking work leaves the I/O thread and its answer returns there.
TEST(BlockingPoolTest, RunsElsewhereAndComesBack) {
    SystemClock clock;
    IoThreads threads(clock, 1);
    BlockingPool pool(2, 10);
    bool came_back = false;
    auto result = sync_wait(run_in_pool(threads[0], pool, came_back));
    ASSERT_TRUE(result);
    EXPECT_EQ(*result, 42);
    EXPECT_TRUE(came_back);
}

Async<Result<int>> throwing_in_pool(BlockingPool& pool) {
    auto work = []() -> Result<int> { throw std::runtime_error("disk gone"); };
    co_return co_await pool.run(work);
}

// A broken database throws in the pool; the request that waits must see it.
TEST(BlockingPoolTest, CarriesExceptions) {
    BlockingPool pool(1, 10);
    EXPECT_THROW(sync_wait(throwing_in_pool(pool)), std::runtime_error);
}

Async<Result<int>> quick_in_pool(BlockingPool& pool) {
    auto work = []() -> Result<int> { return 1; };
    co_return co_await pool.run(work);
}

// A full queue answers at once instead of growing.
TEST(BlockingPoolTest, RefusesWhenFull) {
    std::latch started(1), release(1);
    std::atomic<int> ran = 0;
    {
        BlockingPool pool(1, 2);
        ASSERT_TRUE(pool.submit([&] { started.count_down(), release.wait(); }));
        started.wait();
        ASSERT_TRUE(pool.submit([&] { ++ran; }));
        ASSERT_TRUE(pool.submit([&] { ++ran; }));
        EXPECT_FALSE(pool.submit([&] { ++ran; }));
        auto refused = sync_wait(quick_in_pool(pool));
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, Code::overloaded);
        EXPECT_EQ(pool.queued(), 2u);
        release.count_down();
    }
    EXPECT_EQ(ran, 2);  // the destructor finishes what was accepted
}

Async<int> await_on(IoThread& thread, Completion<int>& value, std::atomic<bool>& is_right_thread) {
    co_await resume_on(thread);
    int got = co_await value;
    if (IoThread::current() != &thread) is_right_thread = false;
    co_return got;
}

// Setter and waiter race at every point: the value must arrive exactly once, on the waiter's thread.
TEST(CompletionTest, SurvivesTheRaceOfSetterAndWaiter) {
    SystemClock clock;
    IoThreads threads(clock, 1);
    std::atomic<bool> is_right_thread = true;
    std::atomic<Completion<int>*> current = nullptr;
    constexpr int rounds = 5'000;
    std::jthread setter([&] {
        for (int i = 0; i < rounds; ++i) {
            Completion<int>* value = nullptr;
            while ((value = current.exchange(nullptr)) == nullptr) std::this_thread::yield();
            value->set(i);
        }
    });
    for (int i = 0; i < rounds; ++i) {
        Completion<int> value;
        current = &value;
        ASSERT_EQ(sync_wait(await_on(threads[0], value, is_right_thread)), i);
    }
    EXPECT_TRUE(is_right_thread);
}

Async<int> await_plain(Completion<int>& value) {
    int got = co_await value;
    co_return got;
}

// The committer resumes many waiters with one wake-up: the handle comes back instead of running.
TEST(CompletionTest, HandsTheWaiterBackWhenDeferred) {
    Completion<int> early;
    IoThread* thread = nullptr;
    EXPECT_FALSE(early.set_deferred(3, thread));
    EXPECT_EQ(sync_wait(await_plain(early)), 3);

    SystemClock clock;
    IoThreads threads(clock, 1);
    Completion<int> late;
    std::atomic<int> got = 0;
    std::latch suspended(1);
    TaskGroup group("test");
    threads[0].post([&] {
        group.spawn(threads[0], wait_for(late, got));  // runs at once, up to its await
        suspended.count_down();
    });
    suspended.wait();
    auto handle = late.set_deferred(4, thread);
    ASSERT_TRUE(handle);
    EXPECT_EQ(thread, &threads[0]);
    EXPECT_EQ(got, 0);
    thread->post_resume({handle});
    group.wait();
    EXPECT_EQ(got, 4);
}

}  // namespace
}  // namespace nebula
