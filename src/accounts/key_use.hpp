#pragma once
// When keys were last used, gathered without locks between two writes to the database. Private to this
// module.

#include <atomic>
#include <memory>
#include <vector>

#include "accounts/accounts.hpp"

namespace nebula::accounts {

/// One per cached key. While it waits to be written it holds itself, so a key may leave the cache meanwhile.
struct KeyUse {
    KeyId key;
    std::atomic<bool> waits = false;
    Time at;  // only its owner of the moment touches these: who set `waits`, then take()
    KeyUse* next = nullptr;
    std::shared_ptr<KeyUse> self;
};

/// A stack that many push to and one empties.
class KeyUses {
   public:
    ~KeyUses() { take(); }

    /// A key that waits already costs one look at a flag, so a busy key's cache line stays shared.
    void note(const std::shared_ptr<KeyUse>& use, const Clock& clock);

    struct Used {
        std::shared_ptr<KeyUse> use;
        Time at;
    };
    /// Everything noted since the last time.
    std::vector<Used> take();
    /// Puts back what could not be written.
    void put_back(const std::vector<Used>& uses);

   private:
    void push(const std::shared_ptr<KeyUse>& use, Time at);

    std::atomic<KeyUse*> head_ = nullptr;
};

}  // namespace nebula::accounts
