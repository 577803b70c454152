#pragma once
// Private to this module.

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "records/records.hpp"
#include "records/store.hpp"

namespace nebula::records {

struct RequestLog::Impl {
    Impl(const RequestLogSettings& settings, store::Db& db, const Clock& clock, metrics::Registry& metrics);

    /// Entries that wait: their texts one behind the other, so that adding one copies it and nothing else.
    struct Batch {
        struct Item {
            AccountId account;
            RequestId id;
            std::size_t at = 0, length = 0;
        };
        struct Kept {
            AccountId account;
            RequestId id;
            Bodies bodies;
        };
        std::vector<Item> items;
        std::string text;
        std::vector<Kept> bodies;

        void take(Batch& more);
        void clear();  // keeps the memory
    };

    void run();
    bool write(const Batch& batch);
    static std::vector<Segment> segments_of(const Batch& batch);

    // HTTP: generation.cpp
    Async<void> generation(RequestLog& log, http::Exchange& exchange, accounts::Caller caller);
    Async<void> content(RequestLog& log, http::Exchange& exchange, accounts::Caller caller);
    Async<void> feedback(RequestLog& log, http::Exchange& exchange, accounts::Caller caller);
    Async<void> requests(RequestLog& log, http::Exchange& exchange, accounts::Caller caller);

    const RequestLogSettings settings;
    store::Db& db;
    const Clock& clock;
    metrics::Counter &written, &dropped, &dropped_bodies, &failures;
    metrics::Gauge& depth;

    std::mutex mutex;
    std::condition_variable wake;
    Batch queue;
    std::size_t waiting_elsewhere = 0;  // taken by the writer, not written yet
    std::size_t body_bytes = 0;
    bool is_stopping = false;
    std::int64_t failed_in_a_row = 0;  // the writer's
    std::thread thread;
};

}  // namespace nebula::records
