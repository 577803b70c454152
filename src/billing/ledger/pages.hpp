#pragma once
// Rows of a large table in order, a page at a time: neither engine ever holds more, and each row is read
// once.

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace nebula::billing::ledger {

template <class T>
class Pages {
   public:
    static constexpr std::int64_t size = 10'000;
    /// Appends at most `size` rows that come after `last` (null at first).
    using Load = std::function<void(const T* last, std::vector<T>& page)>;
    explicit Pages(Load load) : load_(std::move(load)) { fetch(); }

    /// The next row; null at the end. Valid until pop().
    const T* peek() const { return at_ < page_.size() ? &page_[at_] : nullptr; }
    void pop() {
        if (++at_ == page_.size()) fetch();
    }

   private:
    void fetch() {
        bool is_last = at_ > 0 && page_.size() < static_cast<std::size_t>(size);
        std::vector<T> next;
        if (!is_last) load_(page_.empty() ? nullptr : &page_.back(), next);
        page_ = std::move(next);
        at_ = 0;
    }

    Load load_;
    std::vector<T> page_;
    std::size_t at_ = 0;
};

}  // namespace nebula::billing::ledger
