#include <array>
#include <new>

#include "async/async.hpp"

namespace nebula::detail {
namespace {

constexpr std::size_t class_bytes = 128;
constexpr std::size_t classes = 64;                           // frames up to 8 KiB
[[maybe_unused]] constexpr std::size_t kept_per_class = 256;  // and thread

struct FreeFrame {
    FreeFrame* next;
};

struct FreeLists {
    struct List {
        FreeFrame* first = nullptr;
        std::size_t length = 0;
    };
    std::array<List, classes> lists;

    ~FreeLists() {
        for (List& list : lists) {
            while (list.first != nullptr) {
                FreeFrame* frame = list.first;
                list.first = frame->next;
                ::operator delete(frame);
            }
        }
        is_gone = true;
    }
    // Frames may be freed while a thread's other thread-locals are destroyed.
    static thread_local bool is_gone;
};
thread_local bool FreeLists::is_gone = false;
thread_local FreeLists free_lists;

[[maybe_unused]] std::size_t class_of(std::size_t bytes) { return (bytes - 1) / class_bytes; }

}  // namespace

#if defined(__SANITIZE_ADDRESS__) || (defined(__has_feature) && __has_feature(address_sanitizer))
// The sanitizer must see every frame's end.
void* allocate_frame(std::size_t bytes) { return ::operator new(bytes); }
void free_frame(void* frame, std::size_t) noexcept { ::operator delete(frame); }
#else
void* allocate_frame(std::size_t bytes) {
    std::size_t size_class = class_of(bytes);
    if (size_class >= classes) return ::operator new(bytes);
    if (!FreeLists::is_gone) {
        auto& list = free_lists.lists[size_class];
        if (list.first != nullptr) {
            FreeFrame* frame = list.first;
            list.first = frame->next;
            --list.length;
            return frame;
        }
    }
    return ::operator new((size_class + 1) * class_bytes);
}

void free_frame(void* frame, std::size_t bytes) noexcept {
    std::size_t size_class = class_of(bytes);
    if (size_class < classes && !FreeLists::is_gone) {
        auto& list = free_lists.lists[size_class];
        if (list.length < kept_per_class) {
            auto* kept = ::new (frame) FreeFrame{list.first};
            list.first = kept;
            ++list.length;
            return;
        }
    }
    ::operator delete(frame);
}
#endif

}  // namespace nebula::detail
