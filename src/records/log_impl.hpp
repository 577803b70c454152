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

    struct Pending {
        AccountId account;
        RequestId id;
        std::string entry;
        std::optional<Bodies> bodies;
    };

    void run();
    bool write(std::vector<Pending>& batch);

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
    std::vector<Pending> queue;
    std::size_t waiting_elsewhere = 0;  // taken by the writer, not written yet
    std::size_t body_bytes = 0;
    bool is_stopping = false;
    std::int64_t failed_in_a_row = 0;  // the writer's
    std::thread thread;
};

}  // namespace nebula::records
