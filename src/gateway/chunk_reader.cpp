#include "gateway/chunk_reader.hpp"

#include <simdjson.h>

#include <cstring>
#include <vector>

namespace nebula::gateway {
namespace {

namespace ondemand = simdjson::ondemand;

bool is_of(ondemand::value& value, ondemand::json_type wanted) {
    ondemand::json_type type;
    return !value.type().get(type) && type == wanted;
}
bool is_string(ondemand::value& value) { return is_of(value, ondemand::json_type::string); }

// The string with its quotes, as it stands in the provider's event.
std::string_view raw_string(ondemand::value& value) {
    std::string_view token = value.raw_json_token();
    return token.substr(0, token.rfind('"') + 1);
}

bool read_function(ondemand::value& value, std::string_view& name, std::string_view& arguments) {
    ondemand::object function;
    if (value.get_object().get(function)) return false;
    for (auto field : function) {
        ondemand::field piece;
        if (std::move(field).get(piece)) return false;
        auto what = piece.key();
        ondemand::value text = piece.value();
        if (!is_string(text)) continue;
        if (what == "name") name = raw_string(text);
        if (what == "arguments") arguments = raw_string(text);
    }
    return true;
}

bool read_call(ondemand::object& call, ChunkSink& sink) {
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
            id = raw_string(value);
        } else if (key == "function" && !read_function(value, name, arguments)) {
            return false;
        }
    }
    return sink.call(index, id, name, arguments);
}

bool read_delta(ondemand::value& value, ChunkSink& sink) {
    if (!is_of(value, ondemand::json_type::object)) return true;
    ondemand::object delta;
    if (value.get_object().get(delta)) return false;
    for (auto field : delta) {
        ondemand::field member;
        if (std::move(field).get(member)) return false;
        auto key = member.key();
        ondemand::value part = member.value();
        if (key == "content" || key == "refusal") {
            if (is_string(part)) sink.text(raw_string(part), false);
        } else if (key == "reasoning_content" || key == "reasoning") {
            if (is_string(part)) sink.text(raw_string(part), true);
        } else if (key == "tool_calls" && is_of(part, ondemand::json_type::array)) {
            for (auto call : part.get_array()) {
                ondemand::object one;
                if (call.get_object().get(one) || !read_call(one, sink)) return false;
            }
        }
    }
    return true;
}

bool read_choices(ondemand::value& value, ChunkSink& sink) {
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
                if (!read_delta(inner, sink)) return false;
            } else if (key == "finish_reason" && is_string(inner)) {
                std::string_view reason;
                if (!inner.get_string().get(reason)) sink.finished(reason);
            }
        }
    }
    return true;
}

}  // namespace

struct ChunkReader::Impl {
    ondemand::parser parser;
    std::vector<char> text;
};

ChunkReader::ChunkReader() : impl_(std::make_unique<Impl>()) {}
ChunkReader::~ChunkReader() = default;

bool ChunkReader::read(std::string_view data, ChunkSink& sink) {
    auto& text = impl_->text;
    if (text.size() < data.size() + simdjson::SIMDJSON_PADDING)
        text.resize(data.size() + simdjson::SIMDJSON_PADDING + 1024);
    std::memcpy(text.data(), data.data(), data.size());
    ondemand::document document;
    ondemand::object object;
    if (impl_->parser.iterate(text.data(), data.size(), text.size()).get(document)) return false;
    if (document.get_object().get(object)) return false;
    for (auto field : object) {
        ondemand::field member;
        if (std::move(field).get(member)) return false;
        auto key = member.key();
        ondemand::value value = member.value();
        if (key == "model" && is_string(value)) {
            sink.model(raw_string(value));
        } else if (key == "choices" && !read_choices(value, sink)) {
            return false;
        }
    }
    return true;
}

}  // namespace nebula::gateway
