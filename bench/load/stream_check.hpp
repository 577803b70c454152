#pragma once
// Follows one event stream and knows what must come next.

#include <cstdint>
#include <string>
#include <string_view>

#include "common/payload.hpp"
#include "load/report.hpp"

namespace nebula::bench {

/// Expects the role event, `tokens` content events in order, the finish event, the usage event when asked
/// for, [DONE]. Comments are passed over. An event whose JSON was written anew is recognized but counted as
/// altered.
class StreamCheck {
   public:
    void start(const RequestShape& shape);
    /// `now_ns` is when the bytes were read.
    void feed(std::string_view bytes, std::int64_t now_ns, Results& results);
    /// Everything came, in order.
    bool is_complete() const { return stage_ == Stage::ended && !is_broken_ && partial_.empty(); }
    std::uint32_t content_events() const { return next_number_; }
    bool has_begun() const { return stage_ != Stage::role; }

   private:
    enum class Stage { role, content, finish, usage, done, ended };
    void take_event(std::string_view event, std::int64_t now_ns, Results& results);
    void take_content(std::string_view event, Stamp stamp, std::int64_t now_ns, Results& results);
    void take_control(std::string_view event, Results& results);
    void expect(Stage stage, bool is_exact, Results& results);

    RequestShape shape_;
    Stage stage_ = Stage::role;  // of the next event
    std::uint32_t next_number_ = 0;
    bool is_broken_ = false;
    std::string partial_;
};

}  // namespace nebula::bench
