// The request log and stored responses over both engines.
#include <gtest/gtest.h>

#include "accounts/accounts.hpp"
#include "base/text.hpp"
#include "records/entry.hpp"
#include "records/records.hpp"
#include "records/stored_responses.hpp"
#include "store/test_support/test_db.hpp"

namespace nebula::records {
namespace {

const AccountId account{7}, other{8};

class Records : public store::EngineTest {
   protected:
    void SetUp() override {
        auto all = migrations();
        ASSERT_TRUE(db().migrate(all).has_value());
    }
    std::unique_ptr<RequestLog> log(RequestLogSettings settings = {}) {
        auto made = std::make_unique<RequestLog>(settings, db(), clock, metrics);
        made->start();
        return made;
    }
    static std::string entry(RequestId id, std::string_view upstream = "x", std::string_view model = "m") {
        return R"({"i":")" + id.text() + R"(","u":)" + json_string(upstream) + R"(,"m":)" +
               json_string(model) + R"(,"s":200})";
    }
    static std::string told(RequestId id, std::string_view upstream = "x") {
        return expanded(entry(id, upstream));
    }
    // Ids as they grow with time: milliseconds in the upper bits.
    static RequestId at(std::int64_t ms, std::uint64_t n = 0) {
        return RequestId{(static_cast<std::uint64_t>(1'000'000'000 + ms) << 22) + n + 1};
    }
    std::optional<std::string> find(RequestLog& in, AccountId of, const std::string& id) {
        auto found = sync_wait(in.find(of, id));
        EXPECT_TRUE(found.has_value());
        return found ? *found : std::nullopt;
    }

    FakeClock clock;
    metrics::Registry metrics;
};
NEBULA_BOTH_ENGINES(Records);

// A request that took long ends between requests that began much later; it must still be found.
TEST_P(Records, LongRequestsAreFoundAmongLaterOnes) {
    RequestId slow = at(0);
    for (int round = 0; round < 60; ++round) {  // a row of its own each
        auto writer = log();
        if (round == 50) writer->add(account, slow, entry(slow, "slow"));
        writer->add(account, at(1'000 * (round + 1)), entry(at(1'000 * (round + 1))));
        writer->add(other, at(1'000 * (round + 1), 1), entry(at(1'000 * (round + 1), 1)));
        writer->stop();
    }
    auto reader = log();
    EXPECT_EQ(find(*reader, account, slow.text()), told(slow, "slow"));
    EXPECT_EQ(find(*reader, account, "slow"), told(slow, "slow"));
    EXPECT_EQ(find(*reader, account, at(30'000).text()), told(at(30'000)));
    EXPECT_EQ(find(*reader, other, slow.text()), std::nullopt);
    EXPECT_EQ(find(*reader, other, "slow"), std::nullopt);
    EXPECT_EQ(find(*reader, account, at(999'000).text()), std::nullopt);
    EXPECT_EQ(find(*reader, account, R"(x","m":"m)"), std::nullopt) << "an id is no pattern";
}

// Pages must neither repeat nor lose an entry, also where a row ends inside a page.
TEST_P(Records, PagesTellEveryEntryOnce) {
    {
        auto writer = log();
        for (std::uint64_t i = 0; i < 1'203; ++i)
            writer->add(account, at(1, i), entry(at(1, i), "x", i % 10 == 0 ? "rare" : "m"));
    }
    auto reader = log();
    for (std::string model : {"", "rare"}) {
        std::vector<std::string> all;
        std::string cursor;
        do {
            auto page =
                sync_wait(reader->list(account, {.model = model, .key = "", .status = "ok"}, cursor, 97));
            ASSERT_TRUE(page.has_value());
            all.insert(all.end(), page->entries.begin(), page->entries.end());
            cursor = page->next;
        } while (!cursor.empty());
        ASSERT_EQ(all.size(), model.empty() ? 1'203u : 121u);
        for (std::size_t i = 1; i < all.size(); ++i) EXPECT_GT(all[i - 1], all[i]) << "latest first";
    }
    EXPECT_EQ(sync_wait(reader->list(account, {}, "zzz", 10)).error().param, "cursor");
}

// The bound holds while nothing is written, and what was above it is counted.
TEST_P(Records, AFullQueueDropsAndCounts) {
    RequestLogSettings settings;
    settings.queue_max = 3;
    RequestLog idle(settings, db(), clock, metrics);  // not started
    for (std::uint64_t i = 0; i < 5; ++i) idle.add(account, at(1, i), entry(at(1, i)));
    EXPECT_EQ(metrics.counter("nebula_request_log_dropped_total", "").value(), 2u);
}

TEST_P(Records, OldEntriesAreDeletedInSteps) {
    {
        auto writer = log();
        writer->add(account, at(1), entry(at(1)), Bodies{R"({"a":1})", R"({"b":2})"});
    }
    clock.advance(std::chrono::days(29));
    {
        auto writer = log();
        writer->add(account, at(2), entry(at(2)));
    }
    clock.advance(std::chrono::days(2));
    auto reader = log();
    auto more = reader->expire();
    ASSERT_TRUE(more.has_value());
    EXPECT_FALSE(*more);
    EXPECT_EQ(find(*reader, account, at(1).text()), std::nullopt);
    EXPECT_EQ(find(*reader, account, at(2).text()), told(at(2)));
}

TEST_P(Records, StoredResponsesExpire) {
    ResponsesSettings settings;
    settings.retention_days = 1;
    StoredResponses responses(settings, db(), clock, metrics);
    ASSERT_TRUE(sync_wait(responses.save(account, {at(1), {}, "[]", R"({"output":[]})"})).has_value());
    clock.advance(std::chrono::hours(23));
    ASSERT_TRUE(sync_wait(responses.save(account, {at(2), at(1), "[1]", "{}"})).has_value());
    auto chain = sync_wait(responses.conversation(account, at(2)));
    ASSERT_TRUE(chain.has_value());
    ASSERT_EQ(chain->size(), 2u);
    EXPECT_EQ(chain->front().id, at(1));
    EXPECT_EQ(chain->back().input, "[1]");
    clock.advance(std::chrono::hours(2));
    // Not deleted yet, but not there any more: nor is what builds on it.
    EXPECT_EQ(sync_wait(responses.find(account, at(1))).error().code, Code::not_found);
    EXPECT_EQ(sync_wait(responses.conversation(account, at(2))).error().code, Code::not_found);
    EXPECT_TRUE(sync_wait(responses.find(account, at(2))).has_value());
    ASSERT_TRUE(responses.expire().has_value());
    std::int64_t rows = 0;
    auto count = [&](store::Tx& tx) -> Result<bool> {
        tx.query({"test.count", "SELECT COUNT(*) FROM stored_responses"}, {},
                 [&](const store::Row& row) { rows = row.i64(0); });
        return true;
    };
    ASSERT_TRUE(db().read_blocking(count).has_value());
    EXPECT_EQ(rows, 1);
}

TEST_P(Records, StoredResponsesAreOfOneAccount) {
    StoredResponses responses({}, db(), clock, metrics);
    ASSERT_TRUE(sync_wait(responses.save(account, {at(1), {}, "[]", "{}"})).has_value());
    EXPECT_EQ(sync_wait(responses.find(other, at(1))).error().code, Code::not_found);
    EXPECT_EQ(sync_wait(responses.conversation(other, at(1))).error().code, Code::not_found);
    EXPECT_EQ(sync_wait(responses.remove(other, at(1))).error().code, Code::not_found);
    // Another account's response under the id of ours does not help either.
    ASSERT_TRUE(sync_wait(responses.save(other, {at(2), at(1), "[]", "{}"})).has_value());
    EXPECT_EQ(sync_wait(responses.conversation(other, at(2))).error().code, Code::not_found);
    ASSERT_TRUE(sync_wait(responses.remove(account, at(1))).has_value());
    EXPECT_EQ(sync_wait(responses.find(account, at(1))).error().code, Code::not_found);
}

}  // namespace
}  // namespace nebula::records
