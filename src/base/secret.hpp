#pragma once
#include <string>
#include <string_view>
#include <utility>

namespace nebula {

/// Text that must not be printed. Wiped on destruction; formats as ***; reveal() is the only way in.
class Secret {
   public:
    Secret() = default;
    explicit Secret(std::string text) : text_(std::move(text)) {}
    Secret(const Secret&) = default;
    Secret& operator=(const Secret&) = default;
    Secret(Secret&& other) noexcept : text_(std::move(other.text_)) { other.wipe(); }
    Secret& operator=(Secret&& other) noexcept;
    ~Secret() { wipe(); }

    const std::string& reveal() const { return text_; }
    bool empty() const { return text_.empty(); }
    bool operator==(const Secret&) const = default;

   private:
    void wipe() noexcept;
    std::string text_;
};

}  // namespace nebula
