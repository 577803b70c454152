// Many wait for one: nobody may wait for ever, whoever leads, fails or leaves, and one answer reaches all.
#include "gateway/cache/flights.hpp"

#include <gtest/gtest.h>

#include <semaphore>
#include <thread>

#include "async/task_group.hpp"

namespace nebula::gateway {
namespace {

using namespace std::chrono_literals;

// Only what join() asks of an exchange.
class Visitor final : public http::Exchange {
   public:
    explicit Visitor(IoThread& thread) : thread_(thread) {}
    const http::RequestHead& head() const override { return head_; }
    RequestId id() const override { return {}; }
    std::string_view remote_ip() const override { return {}; }
    IoThread& thread() override { return thread_; }
    Ticks started() const override { return {}; }
    std::string_view path_param(std::string_view) const override { return {}; }
    Async<Result<std::string_view>> body(std::size_t) override { co_return std::string_view(); }
    void add_header(std::string_view, std::string_view) override {}
    Async<Result<void>> respond(int, std::string_view, std::string_view) override {
        co_return Result<void>();
    }
    Async<Result<void>> respond_error(Error) override { co_return Result<void>(); }
    void begin_stream(int, std::string_view) override {}
    Async<Result<void>> write(std::string_view) override { co_return Result<void>(); }
    Async<Result<void>> end(std::string_view) override { co_return Result<void>(); }
    void abort(std::string_view) override {}
    bool has_begun() const override { return false; }
    void on_gone(std::move_only_function<void()> callback) override { gone_ = std::move(callback); }
    bool is_gone() const override { return false; }

    void leave() {
        thread_.post([this] {
            if (gone_) gone_();
        });
    }

   private:
    http::RequestHead head_;
    IoThread& thread_;
    std::move_only_function<void()> gone_;
};

struct Guest {
    explicit Guest(IoThread& thread) : visitor(thread) {}
    Visitor visitor;
    std::binary_semaphore landed{0};
    Landing landing;
};

class FlightsTest : public testing::Test {
   protected:
    Guest& join(std::chrono::milliseconds wait = 60s) {
        IoThread& thread = threads[guests.size() % threads.size()];
        Guest& guest = *guests.emplace_back(std::make_unique<Guest>(thread));
        tasks.spawn(thread, wait_for_landing(guest, clock.ticks() + wait));
        return guest;
    }
    Async<void> wait_for_landing(Guest& guest, Ticks until) {
        guest.landing = co_await flights.join(guest.visitor, key, until);
        guest.landed.release();
    }
    Landing::Kind kind(Guest& guest) {
        guest.landed.acquire();
        return guest.landing.kind;
    }
    void until_waiting(std::int64_t count) {
        while (metrics.gauge("nebula_cache_waiting", "").value() != count) std::this_thread::yield();
    }

    SystemClock clock;
    metrics::Registry metrics;
    CacheSettings settings;
    Flights flights{settings, metrics};
    Sha256 key = sha256("the same");
    std::vector<std::unique_ptr<Guest>> guests;
    IoThreads threads{clock, 2};
    TaskGroup tasks{"test"};
};

TEST_F(FlightsTest, OneLeadsAndAllGetItsAnswer) {
    Guest& leader = join();
    ASSERT_EQ(kind(leader), Landing::Kind::lead);
    EXPECT_FALSE(leader.landing.flight.has_followers());
    for (int k = 0; k < 100; ++k) join();
    until_waiting(100);
    EXPECT_TRUE(leader.landing.flight.has_followers());
    auto entry = std::make_shared<CacheEntry>();
    leader.landing.flight.land(entry);
    for (std::size_t k = 1; k < guests.size(); ++k) {
        EXPECT_EQ(kind(*guests[k]), Landing::Kind::ready);
        EXPECT_EQ(guests[k]->landing.entry, entry);
    }
    EXPECT_EQ(kind(join()), Landing::Kind::lead) << "the flight is over";
}

TEST_F(FlightsTest, WhenTheLeaderFailsTheNextOneLeads) {
    Guest& leader = join();
    ASSERT_EQ(kind(leader), Landing::Kind::lead);
    Guest& second = join();
    until_waiting(1);
    Guest& third = join();
    until_waiting(2);
    leader.landing.flight = Flight();
    ASSERT_EQ(kind(second), Landing::Kind::lead);
    EXPECT_TRUE(second.landing.flight.has_followers());
    second.landing.flight.fail();
    ASSERT_EQ(kind(third), Landing::Kind::lead);
    EXPECT_FALSE(third.landing.flight.has_followers());
}

TEST_F(FlightsTest, AnAnswerThatCannotBeSharedSendsEverybodyOff) {
    Guest& leader = join();
    ASSERT_EQ(kind(leader), Landing::Kind::lead);
    Guest& second = join();
    until_waiting(1);
    leader.landing.flight.release();
    EXPECT_EQ(kind(second), Landing::Kind::alone);
    leader.landing.flight.fail();  // nothing is left to fail
    EXPECT_EQ(kind(join()), Landing::Kind::lead);
}

TEST_F(FlightsTest, OneMoreThanMayWaitDoesNotWait) {
    settings.waiters_max = 3;
    Guest& leader = join();
    ASSERT_EQ(kind(leader), Landing::Kind::lead);
    for (int k = 0; k < 3; ++k) join();
    until_waiting(3);
    EXPECT_EQ(kind(join()), Landing::Kind::alone);
    leader.landing.flight.land(std::make_shared<CacheEntry>());
    for (std::size_t k = 1; k <= 3; ++k) EXPECT_EQ(kind(*guests[k]), Landing::Kind::ready);
}

TEST_F(FlightsTest, NobodyWaitsLongerThanHeMay) {
    Guest& leader = join();
    ASSERT_EQ(kind(leader), Landing::Kind::lead);
    EXPECT_EQ(kind(join(0ms)), Landing::Kind::alone);
    EXPECT_FALSE(leader.landing.flight.has_followers());
}

TEST_F(FlightsTest, WhoLeavesWaitsNoLonger) {
    Guest& leader = join();
    ASSERT_EQ(kind(leader), Landing::Kind::lead);
    Guest& leaver = join();
    Guest& stays = join();
    until_waiting(2);
    leaver.visitor.leave();
    EXPECT_EQ(kind(leaver), Landing::Kind::gone);
    leader.landing.flight.fail();
    EXPECT_EQ(kind(stays), Landing::Kind::lead) << "not the one that has left";
}

// Leaders that fail, land and leave at any moment, on two threads: everybody lands exactly once.
TEST_F(FlightsTest, EverybodyLandsWhateverTheOrder) {
    for (int round = 0; round < 200; ++round) {
        std::size_t first = guests.size();
        for (int k = 0; k < 8; ++k) join(k % 3 == 0 ? 0ms : 60'000ms);
        guests[first + 5]->visitor.leave();
        int lands = round % 3;
        for (std::size_t left = guests.size() - first; left > 0; std::this_thread::yield()) {
            for (std::size_t k = first; k < guests.size(); ++k) {
                if (!guests[k]->landed.try_acquire()) continue;
                --left;
                if (guests[k]->landing.kind != Landing::Kind::lead) continue;
                if (lands-- == 0)
                    guests[k]->landing.flight.land(std::make_shared<CacheEntry>());
                else
                    guests[k]->landing.flight.fail();
            }
        }
        ASSERT_EQ(metrics.gauge("nebula_cache_waiting", "").value(), 0) << round;
    }
}

}  // namespace
}  // namespace nebula::gateway
