// What is kept and for how long is money and memory: each bound is tried at its edge, on a clock that tests
// move. And two requests must never count as the same when their answers may differ.
#include "gateway/cache/cache.hpp"

#include <gtest/gtest.h>

#include "async/io_thread.hpp"
#include "gateway/cache/flights.hpp"
#include "gateway/provider.hpp"

namespace nebula::gateway {
namespace {

using namespace std::chrono_literals;

Sha256 key_of(int n) { return sha256("key " + std::to_string(n)); }

struct Bench {
    FakeClock clock;
    metrics::Registry metrics;
    CacheSettings settings;
    std::shared_ptr<const CacheEntry> entry(std::size_t bytes, std::chrono::milliseconds ttl = 300s) {
        CacheEntry made;
        made.bytes = std::string(bytes, 'x');
        made.bytes.shrink_to_fit();
        made.stored_at = clock.ticks();
        made.expires_at = made.stored_at + ttl;
        return std::make_shared<CacheEntry>(std::move(made));
    }
};

TEST(ResponseCache, KeepsAnEntryUntilItsTimeAndNotLonger) {
    Bench bench;
    ResponseCache cache(bench.settings, bench.clock, bench.metrics);
    cache.store(key_of(1), bench.entry(10, 1000ms));
    bench.clock.advance(999ms);
    EXPECT_TRUE(cache.find(key_of(1)));
    bench.clock.advance(1ms);
    EXPECT_FALSE(cache.find(key_of(1)));
    EXPECT_EQ(cache.bytes(), 0u) << "what is too old leaves the memory";
}

TEST(ResponseCache, TheLeastRecentlyUsedMakesRoom) {
    Bench bench;
    bench.settings.bytes_max = static_cast<std::int64_t>(2 * bench.entry(1000)->size());
    ResponseCache cache(bench.settings, bench.clock, bench.metrics);
    cache.store(key_of(1), bench.entry(1000));
    cache.store(key_of(2), bench.entry(1000));
    EXPECT_EQ(cache.entries(), 2u) << "both fit exactly";
    EXPECT_TRUE(cache.find(key_of(1)));
    cache.store(key_of(3), bench.entry(1000));
    EXPECT_TRUE(cache.find(key_of(1)));
    EXPECT_FALSE(cache.find(key_of(2)));
    EXPECT_TRUE(cache.find(key_of(3)));
    EXPECT_EQ(cache.bytes(), static_cast<std::size_t>(bench.settings.bytes_max));
    EXPECT_EQ(bench.metrics.counter("nebula_cache_evictions_total", "").value(), 1u);
}

TEST(ResponseCache, OneByteAboveTheBoundIsNotKeptAndEvictsNobody) {
    Bench bench;
    bench.settings.bytes_max = static_cast<std::int64_t>(bench.entry(1000)->size());
    ResponseCache cache(bench.settings, bench.clock, bench.metrics);
    cache.store(key_of(1), bench.entry(1000));
    cache.store(key_of(2), bench.entry(1001));
    EXPECT_TRUE(cache.find(key_of(1)));
    EXPECT_FALSE(cache.find(key_of(2)));
}

TEST(ResponseCache, ANewAnswerReplacesTheOldOne) {
    Bench bench;
    ResponseCache cache(bench.settings, bench.clock, bench.metrics);
    cache.store(key_of(1), bench.entry(1000));
    cache.store(key_of(1), bench.entry(10));
    EXPECT_EQ(cache.entries(), 1u);
    EXPECT_EQ(cache.bytes(), bench.entry(10)->size());
    cache.forget(key_of(1));
    EXPECT_EQ(cache.bytes(), 0u);
}

TEST(Recording, PlaysBackTheSamePieces) {
    Bench bench;
    ResponseCache cache(bench.settings, bench.clock, bench.metrics);
    Recording recording(cache);
    recording.begin(provider_of(catalog::ProviderKind::openai), "text/plain");
    EXPECT_TRUE(recording.add("of an attempt that failed"));
    recording.begin(provider_of(catalog::ProviderKind::openai), "text/event-stream");
    for (std::string_view piece : {"data: 1\n\n", "data: 22\n\n", "data: [DONE]\n\n"})
        EXPECT_TRUE(recording.add(piece));
    auto entry = recording.finish(RequestId{7}, {1, 0, 2}, {}, 5s);
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->source, RequestId{7});
    EXPECT_EQ(entry->expires_at - entry->stored_at, 5s);

    auto played = replay(entry);
    EXPECT_EQ(played->header("content-type"), "text/event-stream");
    for (std::string_view piece : {"data: 1\n\n", "data: 22\n\n", "data: [DONE]\n\n", "", ""}) {
        auto read = sync_wait(played->read());
        ASSERT_TRUE(read);
        EXPECT_EQ(*read, piece);
        // simdjson reads so far beyond the end.
        if (!piece.empty())
            EXPECT_LE(read->data() + read->size() + 64, entry->bytes.data() + entry->bytes.size());
    }
}

TEST(Recording, EndsAtTheBoundOfOneEntryAndOfAllTogether) {
    Bench bench;
    bench.settings.entry_bytes_max = 10'000;
    bench.settings.bytes_max = 15'000;
    ResponseCache cache(bench.settings, bench.clock, bench.metrics);
    auto begun = [&cache] {
        auto recording = std::make_unique<Recording>(cache);
        recording->begin(provider_of(catalog::ProviderKind::openai), "");
        return recording;
    };
    auto fits = begun(), bursts = begun();
    EXPECT_TRUE(fits->add(std::string(10'000 - 64, 'x')));
    fits.reset();
    EXPECT_FALSE(bursts->add(std::string(10'000 - 63, 'x')));
    EXPECT_FALSE(bursts->finish(RequestId{1}, {}, {}, 1s)) << "half an answer is none";

    auto first = begun(), second = begun();
    EXPECT_TRUE(first->add(std::string(9'000, 'x')));
    EXPECT_FALSE(second->add(std::string(9'000, 'x'))) << "both would hold more than the bound";
    first.reset();
    auto third = begun();
    EXPECT_TRUE(third->add(std::string(9'000, 'x'))) << "what is over gives its memory back";
}

TEST(HitPrices, AreSharesRoundedUp) {
    billing::Prices list{Nanos{1'000'000'001}, Nanos{99}, Nanos{1}, Nanos{50}, Nanos{7}, Nanos{8},
                         Nanos{1001}};
    billing::Prices none = hit_prices(list, 0), whole = hit_prices(list, 100), tenth = hit_prices(list, 10);
    EXPECT_EQ(
        none.input_per_m.value + none.output_per_m.value + none.cached_input_per_m.value + none.request.value,
        0);
    EXPECT_EQ(whole.input_per_m.value, 1'000'000'001);
    EXPECT_EQ(tenth.input_per_m.value, 100'000'001);
    EXPECT_EQ(tenth.output_per_m.value, 10);
    EXPECT_EQ(tenth.cached_input_per_m.value, 1);
    EXPECT_EQ(tenth.request.value, 5);
    EXPECT_EQ(tenth.cache_write_per_m.value, 1);
    EXPECT_EQ(tenth.reasoning_per_m.value, 1);
    EXPECT_EQ(tenth.unit.value, 101);
}

// Requests with the same answer, and such with another one.
TEST(CacheKey, TellsRequestsApartByWhatChangesTheAnswer) {
    CacheScope scope{.account = 1, .endpoint = "chat", .model = "m", .wire = "openai"};
    const std::string body = R"({"model":"m","messages":[{"role":"user","content":"a b"}],"temperature":0})";
    Sha256 key = cache_key(scope, body).value();
    for (
        std::string_view same : {
            R"({"temperature":0,"messages":[{"role":"user","content":"a b"}],"model":"m"})",
            R"( {"model" : "m", "messages" : [ {"role":"user", "content":"a b"} ], "temperature": 0 } )",
            R"({"model":"m","messages":[{"role":"user","content":"a b"}],"temperature":0,"stream":true,"user":"u",
                "stream_options":{"include_usage":true},"metadata":{"a":"b"},"safety_identifier":"s"})",
        })
        EXPECT_EQ(cache_key(scope, same), key) << same;
    for (std::string_view other : {
             R"({"model":"m","messages":[{"role":"user","content":"a  b"}],"temperature":0})",
             R"({"model":"m","messages":[{"role":"user","content":"a b"}],"temperature":1})",
             R"({"model":"m","messages":[{"role":"user","content":"a b"}]})",
             R"({"model":"m","messages":[{"role":"user","content":"a b"}],"temperature":0,"seed":1})",
             R"({"model":"m","messages":[{"role":"user","content":"a b"}],"temperature":0,"n":2})",
         })
        EXPECT_NE(cache_key(scope, other), key) << other;
    EXPECT_FALSE(cache_key(scope, "[]"));
    EXPECT_FALSE(cache_key(scope, "{"));
    for (CacheScope other : {
             CacheScope{.account = 2, .endpoint = "chat", .model = "m", .wire = "openai"},
             CacheScope{.account = 1, .endpoint = "completions", .model = "m", .wire = "openai"},
             CacheScope{.account = 1, .endpoint = "chat", .model = "n", .wire = "openai"},
             CacheScope{
                 .account = 1, .endpoint = "chat", .model = "m", .wire = "openai", .path = "/api/generate"},
             CacheScope{.account = 1, .endpoint = "chat", .model = "m", .wire = "anthropic"},
             CacheScope{.account = 1, .endpoint = "chat", .model = "m", .wire = "openai", .headers = "beta"},
             CacheScope{.account = 1, .endpoint = "chat", .model = "m", .wire = "openai", .is_stream = true},
         })
        EXPECT_NE(cache_key(other, body), key);
}

struct WishRow {
    std::vector<http::Header> headers;
    bool by_key;
    catalog::Caching by_model;
    bool is_on;
};

TEST(CacheWish, HeadersGoBeforeKeyAndModelButNotBeyondNever) {
    using catalog::Caching;
    const WishRow rows[] = {
        {{}, false, Caching::asked, false},
        {{}, true, Caching::asked, true},
        {{}, false, Caching::always, true},
        {{}, true, Caching::never, false},
        {{{"X-OpenRouter-Cache", "true"}}, false, Caching::asked, true},
        {{{"x-nebula-cache", "TRUE"}}, false, Caching::asked, true},
        {{{"x-nebula-cache", "clear"}}, false, Caching::asked, true},
        {{{"x-nebula-cache", "false"}}, true, Caching::always, false},
        {{{"x-openrouter-cache", "true"}}, true, Caching::never, false},
    };
    CacheSettings settings;
    for (const WishRow& row : rows) {
        http::RequestHead head;
        head.headers = row.headers;
        auto wish = read_wish(head, row.by_key, row.by_model, settings);
        ASSERT_TRUE(wish);
        EXPECT_EQ(wish->is_on, row.is_on) << &row - rows;
        settings.bytes_max = 0;
        EXPECT_FALSE(read_wish(head, row.by_key, row.by_model, settings)->is_on);
        settings.bytes_max = 1'000'000;
    }
}

TEST(CacheWish, ATimeOutOfBoundsIsRefusedByName) {
    CacheSettings settings;
    for (auto [text, seconds] :
         {std::pair{"1", 1}, {"86400", 86400}, {"0", 0}, {"86401", 0}, {"x", 0}, {"1.5", 0}}) {
        http::Header header{"x-openrouter-cache-ttl", text};
        http::RequestHead head;
        head.headers = {&header, 1};
        auto wish = read_wish(head, true, catalog::Caching::asked, settings);
        ASSERT_EQ(wish.has_value(), seconds > 0) << text;
        if (wish)
            EXPECT_EQ(wish->ttl, std::chrono::seconds(seconds));
        else
            EXPECT_EQ(wish.error().param, "x-openrouter-cache-ttl");
    }
}

}  // namespace
}  // namespace nebula::gateway
