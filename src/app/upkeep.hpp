#pragma once
// What a serving process does every few seconds whatever is asked of it: renewals and auto-pay, expiry of
// bonus credits, closing months, writing down when keys were used. Every node does it; each piece is done
// once.

#include <condition_variable>
#include <mutex>
#include <thread>

#include "app/services.hpp"

namespace nebula::app {

class Upkeep {
   public:
    explicit Upkeep(Services& services) : services_(services) {}
    ~Upkeep() { stop(); }
    void start();
    void stop();  // waits for a round in progress

   private:
    void run();
    Async<void> round(bool is_minute);
    void expire_records();

    Services& services_;
    std::mutex mutex_;
    std::condition_variable wake_;
    bool is_stopping_ = false;
    std::thread thread_;
};

}  // namespace nebula::app
