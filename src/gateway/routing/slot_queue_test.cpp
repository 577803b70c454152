#include "gateway/routing/slot_queue.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <semaphore>

#include "async/io_thread.hpp"
#include "async/task_group.hpp"

namespace nebula::gateway::routing {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;

// An I/O thread, a provider with `slots` slots, and who got one.
class Scene {
   public:
    explicit Scene(int slots) : free(slots) {}
    ~Scene() {
        on_loop([this] {
            for (auto& wait : waits_) wait->leave();
        });
        run();
    }

    // There, and waits until it is done.
    void on_loop(std::move_only_function<void()> work) {
        std::binary_semaphore done(0);
        threads[0].post([&] {
            work();
            done.release();
        });
        done.acquire();
    }

    // Asks for a slot; notes "name" when it is granted, "name full" and so on else.
    SlotWait& ask(std::string name, std::uint64_t account, std::int64_t queue_max = 100) {
        waits_.push_back(std::make_unique<SlotWait>(queue, account));
        group_.spawn(threads[0], wait_for(*waits_.back(), std::move(name), queue_max));
        run();
        return *waits_.back();
    }
    void give_back() {
        ++free;
        queue.slot_free();
        run();
    }
    void pass(std::chrono::microseconds time) {
        clock.advance(time);
        on_loop([this] { threads[0].fire_deadlines(); });
        run();
    }

    FakeClock clock;
    IoThreads threads{clock, 1};
    metrics::Registry metrics;
    int free;
    SlotQueue queue{[this](std::int64_t) { return free > 0 && free-- > 0; }, "p", metrics};
    std::vector<std::string> got;

   private:
    // What was posted before, and what that posted, has run.
    void run() {
        for (int i = 0; i < 3; ++i) on_loop([] {});
    }
    Async<void> wait_for(SlotWait& wait, std::string name, std::int64_t queue_max) {
        Turn turn = co_await wait.run(queue_max, 1, clock.ticks() + 10s);
        const char* words[] = {"", " full", " timeout", " left"};
        got.push_back(name + words[static_cast<int>(turn)]);
    }

    std::vector<std::unique_ptr<SlotWait>> waits_;
    TaskGroup group_{"test"};
};

// An account with a thousand requests must not keep one with a single request waiting for all of them.
TEST(SlotQueue, AccountsTakeTurns) {
    Scene scene(0);
    for (const char* name : {"a1", "a2", "a3", "a4"}) scene.ask(name, 1);
    scene.ask("b1", 2);
    scene.ask("c1", 3);
    scene.ask("c2", 3);
    EXPECT_TRUE(scene.got.empty());
    for (int i = 0; i < 7; ++i) scene.give_back();
    EXPECT_THAT(scene.got, ElementsAre("a1", "b1", "c1", "a2", "c2", "a3", "a4"));
    EXPECT_FALSE(scene.queue.is_waited_for());
}

TEST(SlotQueue, AFreeSlotIsTakenAtOnce) {
    Scene scene(1);
    scene.ask("a", 1);
    EXPECT_THAT(scene.got, ElementsAre("a"));
    EXPECT_EQ(scene.free, 0);
}

// At the bound the newest of the account with the longest line gives way; who has that line is refused.
TEST(SlotQueue, IsBoundedAndFullForTheGreedyFirst) {
    Scene scene(0);
    for (const char* name : {"a1", "a2", "a3"}) scene.ask(name, 1, 3);
    scene.ask("a4", 1, 3);
    EXPECT_THAT(scene.got, ElementsAre("a4 full"));
    scene.ask("b1", 2, 3);
    EXPECT_THAT(scene.got, ElementsAre("a4 full", "a3 full"));
    scene.ask("c1", 3, 3);
    EXPECT_THAT(scene.got, ElementsAre("a4 full", "a3 full", "a2 full"));
    scene.ask("d1", 4, 3);
    EXPECT_EQ(scene.got.back(), "d1 full") << "nobody has more than one";
    scene.ask("e1", 5, 0);
    EXPECT_EQ(scene.got.back(), "e1 full") << "no queue at all";
    for (int i = 0; i < 3; ++i) scene.give_back();
    EXPECT_THAT(scene.got,
                ElementsAre("a4 full", "a3 full", "a2 full", "d1 full", "e1 full", "a1", "b1", "c1"));
}

TEST(SlotQueue, WhoLeavesOrIsLateGivesUpItsPlace) {
    Scene scene(0);
    SlotWait& first = scene.ask("a", 1);
    scene.ask("b", 2);
    scene.on_loop([&first] { first.leave(); });
    scene.pass(1s);
    EXPECT_THAT(scene.got, ElementsAre("a left"));
    scene.pass(20s);
    EXPECT_THAT(scene.got, ElementsAre("a left", "b timeout"));
    scene.give_back();
    EXPECT_EQ(scene.free, 1) << "nobody takes a slot that nobody waits for";
}

}  // namespace
}  // namespace nebula::gateway::routing
