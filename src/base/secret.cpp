#include "base/secret.hpp"

#include <sodium.h>

namespace nebula {

Secret& Secret::operator=(Secret&& other) noexcept {
    if (this == &other) return *this;
    wipe();
    text_ = std::move(other.text_);
    other.wipe();
    return *this;
}

void Secret::wipe() noexcept {
    if (!text_.empty()) sodium_memzero(text_.data(), text_.size());
    text_.clear();
}

}  // namespace nebula
