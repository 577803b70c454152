#include "gateway/chunk_reader.hpp"

#include <vector>

#include "gateway/raw_json.hpp"

namespace nebula::gateway {
namespace {

namespace ondemand = raw::ondemand;
using raw::is_of;
using raw::is_string;

constexpr std::size_t calls_max = 1024;

bool read_function(ondemand::value& value, std::string_view& name, std::string_view& arguments) {
    ondemand::object function;
    if (value.get_object().get(function)) return false;
    for (auto field : function) {
        ondemand::field piece;
        if (std::move(field).get(piece)) return false;
        auto what = piece.key();
        ondemand::value text = piece.value();
        if (!is_string(text)) continue;
        if (what == "name" && !raw::string(text, name)) return false;
        if (what == "arguments" && !raw::string(text, arguments)) return false;
    }
    return true;
}

// Which call a piece belongs to. Some providers send every call whole under the same index: another id there
// is another call.
class Calls {
   public:
    /// Its place in order of appearance; -1 when there are too many.
    std::int64_t place(std::int64_t index, std::string_view raw_id) {
        bool has_id = raw_id.size() > 2;
        for (std::size_t at = seen_.size(); at-- > 0;) {
            Seen& seen = seen_[at];
            if (seen.index != index) continue;
            if (has_id && !seen.raw_id.empty() && seen.raw_id != raw_id) break;
            if (has_id) seen.raw_id = raw_id;
            return static_cast<std::int64_t>(at);
        }
        if (seen_.size() >= calls_max) return -1;
        seen_.push_back({index, has_id ? std::string(raw_id) : std::string()});
        return static_cast<std::int64_t>(seen_.size()) - 1;
    }
    void clear() { seen_.clear(); }

   private:
    struct Seen {
        std::int64_t index;
        std::string raw_id;
    };
    std::vector<Seen> seen_;
};

bool read_call(ondemand::object& call, Calls& calls, ChunkSink& sink) {
    std::int64_t index = 0;
    std::string_view id, name, arguments;
    for (auto field : call) {
        ondemand::field member;
        if (std::move(field).get(member)) return false;
        auto key = member.key();
        ondemand::value value = member.value();
        if (key == "index") {
            if (value.get_int64().get(index)) return false;
        } else if (key == "id" && is_string(value)) {
            if (!raw::string(value, id)) return false;
        } else if (key == "function" && !read_function(value, name, arguments)) {
            return false;
        }
    }
    std::int64_t place = calls.place(index, id);
    return place >= 0 && sink.call(place, id, name, arguments);
}

bool read_delta(ondemand::value& value, Calls& calls, ChunkSink& sink) {
    if (!is_of(value, ondemand::json_type::object)) return true;
    ondemand::object delta;
    if (value.get_object().get(delta)) return false;
    for (auto field : delta) {
        ondemand::field member;
        if (std::move(field).get(member)) return false;
        auto key = member.key();
        ondemand::value part = member.value();
        bool is_reasoning = key == "reasoning_content" || key == "reasoning";
        if (is_reasoning || key == "content" || key == "refusal") {
            if (!is_string(part)) continue;
            std::string_view words;
            if (!raw::string(part, words)) return false;
            sink.text(words, is_reasoning);
        } else if (key == "tool_calls" && is_of(part, ondemand::json_type::array)) {
            for (auto call : part.get_array()) {
                ondemand::object one;
                if (call.get_object().get(one) || !read_call(one, calls, sink)) return false;
            }
        }
    }
    return true;
}

bool read_choices(ondemand::value& value, Calls& calls, ChunkSink& sink) {
    ondemand::array choices;
    if (value.get_array().get(choices)) return false;
    for (auto element : choices) {
        ondemand::object choice;
        if (element.get_object().get(choice)) return false;
        for (auto field : choice) {
            ondemand::field member;
            if (std::move(field).get(member)) return false;
            auto key = member.key();
            ondemand::value inner = member.value();
            if (key == "delta") {
                if (!read_delta(inner, calls, sink)) return false;
            } else if (key == "finish_reason" && is_string(inner)) {
                std::string_view reason;
                if (!inner.get_string().get(reason)) sink.finished(reason);
            }
        }
    }
    return true;
}

void read_usage(ondemand::value& value, ChunkSink& sink) {
    ondemand::value details;
    std::int64_t count = 0;
    if (!is_of(value, ondemand::json_type::object)) return;
    if (value["completion_tokens_details"].get(details) || !is_of(details, ondemand::json_type::object))
        return;
    if (!details["reasoning_tokens"].get_int64().get(count) && count > 0) sink.reasoning_tokens(count);
}

}  // namespace

struct ChunkReader::Impl {
    raw::Document document;
    Calls calls;
};

ChunkReader::ChunkReader() : impl_(std::make_unique<Impl>()) {}
ChunkReader::~ChunkReader() = default;

void ChunkReader::restart() { impl_->calls.clear(); }

bool ChunkReader::read(std::string_view data, ChunkSink& sink) {
    ondemand::object object;
    if (!impl_->document.open(data, object)) return false;
    for (auto field : object) {
        ondemand::field member;
        if (std::move(field).get(member)) return false;
        auto key = member.key();
        ondemand::value value = member.value();
        if (key == "model" && is_string(value)) {
            std::string_view words;
            if (!raw::string(value, words)) return false;
            sink.model(words);
        } else if (key == "choices") {
            if (!read_choices(value, impl_->calls, sink)) return false;
        } else if (key == "usage") {
            read_usage(value, sink);
        }
    }
    return true;
}

}  // namespace nebula::gateway
