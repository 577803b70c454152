#include "accounts/people/attempts.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

namespace nebula::accounts {
namespace {

constexpr std::size_t addresses_max = 50'000;
constexpr std::chrono::minutes window_size{1};

std::string network_of(std::string_view ip) {
    std::string text(ip);
    in6_addr address{};
    if (::inet_pton(AF_INET6, text.c_str(), &address) != 1) return text;
    return {reinterpret_cast<const char*>(&address), 8};
}

}  // namespace

std::chrono::milliseconds IpAttempts::take(std::string_view ip) {
    if (per_minute_ <= 0) return {};
    Ticks now = clock_.ticks();
    std::lock_guard lock(mutex_);
    if (windows_.size() >= addresses_max) {
        std::erase_if(windows_, [now](const auto& item) { return now - item.second.start >= window_size; });
        if (windows_.size() >= addresses_max) windows_.clear();
    }
    Window& window = windows_[network_of(ip)];
    if (window.count == 0 || now - window.start >= window_size) window = {now, 0};
    if (window.count < per_minute_) {
        ++window.count;
        return {};
    }
    return std::chrono::ceil<std::chrono::milliseconds>(window.start + window_size - now);
}

std::chrono::seconds lockout_after(std::int64_t failures, std::int64_t free_failures) {
    constexpr std::int64_t longest = 15 * 60;
    if (failures < free_failures) return {};
    std::int64_t doublings = std::min<std::int64_t>(failures - free_failures, 20);
    return std::chrono::seconds(std::min<std::int64_t>(std::int64_t{1} << doublings, longest));
}

}  // namespace nebula::accounts
