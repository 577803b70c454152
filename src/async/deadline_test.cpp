#include "async/deadline.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <random>
#include <vector>

namespace nebula {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds late_max{100};

struct Node {
    Node(DeadlineWheel& wheel, const Ticks& clock) : now(clock), deadline(wheel, &Node::fired, this) {}
    static void fired(void* self) {
        auto& node = *static_cast<Node*>(self);
        ++node.count;
        node.at = node.now;
    }
    const Ticks& now;
    int count = 0;
    Ticks at{};
    Deadline deadline;
};

class DeadlineTest : public testing::Test {
   protected:
    void step(milliseconds by) {
        now += by;
        wheel.advance(now);
    }
    Ticks now = Ticks(std::chrono::hours(1));
    DeadlineWheel wheel{now};
};

// Early would cut a healthy client, much later would keep a dead one: every distance, also beyond one turn.
TEST_F(DeadlineTest, FiresNeverEarlyAndAtMostATickOrTwoLate) {
    for (int distance : {0, 1, 49, 50, 51, 99, 100, 1'000, 12'749, 12'750, 12'800, 12'801, 30'000, 600'000}) {
        Node node(wheel, now);
        Ticks due = now + milliseconds(distance);
        node.deadline.arm(due);
        while (node.count == 0 && now < due + milliseconds(1'000)) step(milliseconds(7));
        ASSERT_EQ(node.count, 1) << distance;
        EXPECT_GE(node.at, due) << distance;
        EXPECT_LE(node.at, due + late_max) << distance;
        EXPECT_FALSE(node.deadline.armed());
    }
    EXPECT_TRUE(wheel.empty());
}

// Most arms move a deadline later (a byte arrived): the old time must not fire.
TEST_F(DeadlineTest, ForgetsTheEarlierTimeWhenMovedLater) {
    Node node(wheel, now);
    Ticks due = now + milliseconds(500);
    node.deadline.arm(due);
    for (int i = 0; i < 50; ++i) {
        step(milliseconds(100));
        due = now + milliseconds(500);
        node.deadline.arm(due);
        ASSERT_EQ(node.count, 0);
        ASSERT_EQ(wheel.size(), 1u);
    }
    while (node.count == 0) step(milliseconds(10));
    EXPECT_GE(node.at, due);
    EXPECT_LE(node.at, due + late_max);
}

// A drain brings deadlines forward.
TEST_F(DeadlineTest, FiresAtTheEarlierTimeWhenMovedEarlier) {
    Node node(wheel, now);
    node.deadline.arm(now + std::chrono::hours(1));
    step(milliseconds(20));
    Ticks due = now + milliseconds(300);
    node.deadline.arm(due);
    while (node.count == 0) step(milliseconds(10));
    EXPECT_GE(node.at, due);
    EXPECT_LE(node.at, due + late_max);
}

// Disarming and dying both leave the wheel.
TEST_F(DeadlineTest, NeverFiresAfterDisarmOrDestruction) {
    Node stays(wheel, now);
    stays.deadline.arm(now + milliseconds(100));
    {
        Node dies(wheel, now);
        dies.deadline.arm(now + milliseconds(100));
    }
    Node disarmed(wheel, now);
    disarmed.deadline.arm(now + milliseconds(100));
    disarmed.deadline.disarm();
    disarmed.deadline.disarm();
    for (int i = 0; i < 20; ++i) step(milliseconds(50));
    EXPECT_EQ(stays.count, 1);
    EXPECT_EQ(disarmed.count, 0);
}

struct Group {
    std::vector<std::unique_ptr<Deadline>> nodes;
    DeadlineWheel* wheel = nullptr;
    Ticks now;
    int fired = 0;
};

// A timed-out connection destroys itself and its neighbours from inside the callback.
TEST_F(DeadlineTest, AllowsDestroyingAnyNodeInsideACallback) {
    Group group{.nodes = {}, .wheel = &wheel, .now = now};
    for (int i = 0; i < 10; ++i) {
        group.nodes.push_back(std::make_unique<Deadline>(
            wheel,
            [](void* context) {
                auto& all = *static_cast<Group*>(context);
                ++all.fired;
                all.nodes.clear();
            },
            &group));
        group.nodes.back()->arm(now + milliseconds(100));
    }
    for (int i = 0; i < 10; ++i) step(milliseconds(50));
    EXPECT_EQ(group.fired, 1);
    EXPECT_TRUE(wheel.empty());
}

struct Periodic {
    Deadline deadline;
    const Ticks* now = nullptr;
    int count = 0;
    Periodic(DeadlineWheel& wheel, const Ticks& clock)
        : deadline(wheel, &Periodic::fired, this), now(&clock) {}
    static void fired(void* self) {
        auto& me = *static_cast<Periodic*>(self);
        if (++me.count < 100) me.deadline.arm(*me.now);  // due at once
    }
};

// Arming anew inside the callback with a time already reached must not fire for ever within one advance().
TEST_F(DeadlineTest, RearmsInsideACallbackForALaterTick) {
    Periodic node(wheel, now);
    node.deadline.arm(now);
    step(milliseconds(50));
    step(milliseconds(50));
    EXPECT_LE(node.count, 3);
    for (int i = 0; i < 300; ++i) step(milliseconds(50));
    EXPECT_EQ(node.count, 100);
}

// The tick starts only when there is something to wait for.
TEST_F(DeadlineTest, TellsWhenTheFirstNodeIsArmed) {
    int told = 0;
    wheel.on_first([](void* count) { ++*static_cast<int*>(count); }, &told);
    Node a(wheel, now), b(wheel, now);
    a.deadline.arm(now + milliseconds(10));
    b.deadline.arm(now + milliseconds(10));
    EXPECT_EQ(told, 1);
    a.deadline.disarm();
    b.deadline.disarm();
    a.deadline.arm(now + milliseconds(10));
    EXPECT_EQ(told, 2);
}

// The process slept (suspended machine): everything due fires once, nothing else does.
TEST_F(DeadlineTest, CatchesUpAfterALongSleep) {
    std::vector<std::unique_ptr<Node>> nodes;
    for (int i = 0; i < 600; ++i) {
        nodes.push_back(std::make_unique<Node>(wheel, now));
        nodes.back()->deadline.arm(now + milliseconds(i * 100));
    }
    step(milliseconds(30'050));
    for (int i = 0; i < 600; ++i) {
        if (i * 100 <= 29'900) EXPECT_EQ(nodes[static_cast<std::size_t>(i)]->count, 1) << i;
        if (i * 100 > 30'050) EXPECT_EQ(nodes[static_cast<std::size_t>(i)]->count, 0) << i;
    }
}

// Whatever the order of operations, every armed node fires within its window and no other ever does.
TEST_F(DeadlineTest, AgreesWithAModelOverRandomOperations) {
    std::mt19937 random(20260101);
    auto below = [&random](unsigned n) { return static_cast<int>(random() % n); };
    std::vector<std::unique_ptr<Node>> nodes(200);
    std::vector<std::optional<Ticks>> expected(nodes.size());
    std::size_t fired = 0;
    auto settle = [&] {
        for (std::size_t i = 0; i < nodes.size(); ++i) {
            if (nodes[i] == nullptr) continue;
            if (nodes[i]->count > 0) {
                ASSERT_EQ(nodes[i]->count, 1);
                ASSERT_TRUE(expected[i].has_value());
                ASSERT_GE(nodes[i]->at, *expected[i]);
                nodes[i]->count = 0;
                expected[i].reset();
                ++fired;
            }
            if (expected[i]) ASSERT_LE(now, *expected[i] + late_max);
            ASSERT_EQ(nodes[i]->deadline.armed(), expected[i].has_value());
        }
    };
    for (int operation = 0; operation < 100'000; ++operation) {
        auto i = static_cast<std::size_t>(below(200));
        switch (below(6)) {
            case 0:
            case 1:
            case 2:
                if (nodes[i] == nullptr) nodes[i] = std::make_unique<Node>(wheel, now);
                expected[i] = now + milliseconds(below(5) == 0 ? below(60'000) : below(2'000));
                nodes[i]->deadline.arm(*expected[i]);
                break;
            case 3:
                if (nodes[i] != nullptr) nodes[i]->deadline.disarm();
                expected[i].reset();
                break;
            case 4:
                nodes[i].reset();
                expected[i].reset();
                break;
            default:
                if (below(4) != 0) break;
                step(milliseconds(below(50)));
                settle();
                if (HasFatalFailure()) return;
        }
    }
    EXPECT_GT(fired, 2'000u);
    std::size_t armed = 0;
    for (const auto& due : expected) armed += due.has_value() ? 1 : 0;
    EXPECT_EQ(wheel.size(), armed);
}

}  // namespace
}  // namespace nebula
