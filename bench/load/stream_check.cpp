#include "load/stream_check.hpp"

namespace nebula::bench {

void StreamCheck::start(const RequestShape& shape) {
    shape_ = shape;
    stage_ = Stage::role;
    next_number_ = 0;
    is_broken_ = false;
    partial_.clear();
}

void StreamCheck::feed(std::string_view bytes, std::int64_t now_ns, Results& results) {
    if (!partial_.empty()) {
        std::size_t before = partial_.size();
        partial_.append(bytes);
        // The blank line may lie across the border.
        std::size_t end = partial_.find("\n\n", before - 1);
        if (end == std::string::npos) return;
        std::string event = partial_.substr(0, end + 2);
        partial_.clear();
        take_event(event, now_ns, results);
        bytes.remove_prefix(event.size() - before);
    }
    for (std::size_t end; (end = bytes.find("\n\n")) != std::string_view::npos;) {
        take_event(bytes.substr(0, end + 2), now_ns, results);
        bytes.remove_prefix(end + 2);
    }
    partial_.append(bytes);
}

void StreamCheck::take_event(std::string_view event, std::int64_t now_ns, Results& results) {
    if (event.starts_with(":")) return;
    std::optional<Stamp> stamp = find_stamp(event);
    if (stamp)
        take_content(event, *stamp, now_ns, results);
    else
        take_control(event, results);
}

void StreamCheck::take_content(std::string_view event, Stamp stamp, std::int64_t now_ns, Results& results) {
    if (stage_ != Stage::content || stamp.number != next_number_) is_broken_ = true;
    ++next_number_;
    if (next_number_ >= shape_.tokens) stage_ = Stage::finish;
    if (!results.is_measuring) return;
    ++results.frames;
    if (!is_exact_content_event(event)) ++results.altered_events;
    std::int64_t delay = now_ns - stamp.written_ns;
    results.frame_delay.add(delay > 0 ? static_cast<std::uint64_t>(delay) : 0);
}

void StreamCheck::take_control(std::string_view event, Results& results) {
    if (event.starts_with("data: [DONE]")) {
        expect(Stage::done, event == done_event(), results);
    } else if (event.find(R"("usage":{)") != std::string_view::npos) {
        expect(Stage::usage, event == usage_event(shape_.tokens), results);
    } else if (event.find(R"("finish_reason":"stop")") != std::string_view::npos) {
        expect(Stage::finish, event == finish_event(), results);
    } else {
        expect(Stage::role, event == role_event(), results);
    }
}

void StreamCheck::expect(Stage stage, bool is_exact, Results& results) {
    if (!is_exact && results.is_measuring) ++results.altered_events;
    Stage wanted = stage_;
    if (wanted == Stage::usage && !shape_.wants_usage) wanted = Stage::done;
    if (stage != wanted) is_broken_ = true;
    switch (stage) {
        case Stage::role:
            stage_ = Stage::content;
            break;
        case Stage::content:
            break;
        case Stage::finish:
            stage_ = Stage::usage;
            break;
        case Stage::usage:
            stage_ = Stage::done;
            break;
        case Stage::done:
        case Stage::ended:
            stage_ = Stage::ended;
            break;
    }
}

}  // namespace nebula::bench
