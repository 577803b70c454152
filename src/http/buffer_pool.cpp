#include <cstring>
#include <vector>

#include "http/connection.hpp"

namespace nebula::http {
namespace {

constexpr std::size_t kept_max = 256;
thread_local std::vector<std::unique_ptr<char[]>> free_buffers;

}  // namespace

std::unique_ptr<char[]> BufferPool::take() {
    if (!free_buffers.empty()) {
        auto buffer = std::move(free_buffers.back());
        free_buffers.pop_back();
        return buffer;
    }
    auto buffer = std::make_unique_for_overwrite<char[]>(buffer_bytes + padding);
    std::memset(buffer.get() + buffer_bytes, 0, padding);  // read beyond the end, never written
    return buffer;
}

void BufferPool::give(std::unique_ptr<char[]> buffer) {
    if (buffer && free_buffers.size() < kept_max) free_buffers.push_back(std::move(buffer));
}

}  // namespace nebula::http
