// Chat chunks → Messages events. Texts are copied as the JSON they are, without being decoded.
#include <simdjson.h>

#include <cstring>
#include <vector>

#include "base/text.hpp"
#include "gateway/anthropic/anthropic.hpp"
#include "gateway/anthropic/words.hpp"

namespace nebula::gateway::anthropic {
namespace {

namespace ondemand = simdjson::ondemand;

void add_event(std::string& out, std::string_view name, std::string_view data) {
    out.append("event: ").append(name).append("\ndata: ").append(data).append("\n\n");
}

bool is_string(ondemand::value& value) {
    ondemand::json_type type;
    return !value.type().get(type) && type == ondemand::json_type::string;
}

// The string with its quotes, as it stands in the provider's event.
std::string_view raw_string(ondemand::value& value) {
    std::string_view token = value.raw_json_token();
    return token.substr(0, token.rfind('"') + 1);
}

class Edge final : public ClientEdge {
   public:
    explicit Edge(RequestId request) : id_("msg_" + request.text().substr(4)), request_(request) {}

    Result<std::string> request(std::string_view body) override {
        auto chat = to_chat_request(body);
        // Before anybody has counted: four bytes a token.
        likely_input_ = static_cast<std::int64_t>(body.size() / 4) + 1;
        return chat;
    }
    Result<std::string> answer(std::string_view openai_answer) override {
        return to_message(openai_answer, id_);
    }
    std::string_view stream_type() const override { return "text/event-stream; charset=utf-8"; }

    bool chunk(std::string_view data, std::string& out) override {
        if (text_.size() < data.size() + simdjson::SIMDJSON_PADDING)
            text_.resize(data.size() + simdjson::SIMDJSON_PADDING + 1024);
        std::memcpy(text_.data(), data.data(), data.size());
        ondemand::document document;
        ondemand::object object;
        if (parser_.iterate(text_.data(), data.size(), text_.size()).get(document)) return false;
        if (document.get_object().get(object)) return false;
        for (auto field : object) {
            ondemand::field member;
            if (std::move(field).get(member)) return false;
            auto key = member.key();
            ondemand::value value = member.value();
            if (key == "model" && !is_started_ && is_string(value)) {
                model_ = raw_string(value);
            } else if (key == "choices") {
                if (!read_choices(value, out)) return false;
            }
        }
        return true;
    }

    std::string end(const billing::TokenUsage& usage) override {
        std::string out;
        start(out);
        close_block(out);
        std::string reason = stop_reason_.empty() ? "end_turn" : stop_reason_;
        add_event(out, "message_delta",
                  R"({"type":"message_delta","delta":{"stop_reason":")" + reason +
                      R"(","stop_sequence":null},"usage":{"input_tokens":)" +
                      std::to_string(usage.input - usage.cached) + R"(,"cache_read_input_tokens":)" +
                      std::to_string(usage.cached) + R"(,"cache_creation_input_tokens":0,"output_tokens":)" +
                      std::to_string(usage.output) + "}}");
        add_event(out, "message_stop", R"({"type":"message_stop"})");
        return out;
    }

    std::string broken(const Error& error) override {
        std::string out;
        add_event(out, "error", anthropic::error(error, request_).body);
        return out;
    }

   private:
    enum class Block { none, thinking, text, tool };

    bool read_choices(ondemand::value& value, std::string& out) {
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
                    if (!read_delta(inner, out)) return false;
                } else if (key == "finish_reason" && is_string(inner)) {
                    std::string_view reason;
                    if (!inner.get_string().get(reason)) stop_reason_ = stop_reason(reason);
                }
            }
        }
        return true;
    }

    bool read_delta(ondemand::value& value, std::string& out) {
        ondemand::json_type type;
        if (value.type().get(type) || type != ondemand::json_type::object) return true;
        ondemand::object delta;
        if (value.get_object().get(delta)) return false;
        for (auto field : delta) {
            ondemand::field member;
            if (std::move(field).get(member)) return false;
            auto key = member.key();
            ondemand::value part = member.value();
            if ((key == "content" || key == "refusal") && is_string(part)) {
                text(Block::text, raw_string(part), out);
            } else if ((key == "reasoning_content" || key == "reasoning") && is_string(part)) {
                text(Block::thinking, raw_string(part), out);
            } else if (key == "tool_calls") {
                ondemand::array calls;
                if (part.get_array().get(calls)) continue;  // null
                for (auto call : calls) {
                    ondemand::object one;
                    if (call.get_object().get(one) || !read_call(one, out)) return false;
                }
            }
        }
        return true;
    }

    void text(Block kind, std::string_view raw, std::string& out) {
        if (raw.size() <= 2) return;  // ""
        if (block_ != kind) {
            open_block(kind,
                       kind == Block::text ? R"({"type":"text","text":""})"
                                           : R"({"type":"thinking","thinking":"","signature":""})",
                       out);
        }
        const char* head = kind == Block::text ? R"("delta":{"type":"text_delta","text":)"
                                               : R"("delta":{"type":"thinking_delta","thinking":)";
        delta(std::string(head).append(raw).append("}"), out);
    }

    bool read_call(ondemand::object& call, std::string& out) {
        std::int64_t index = 0;
        std::string id, name, arguments;
        for (auto field : call) {
            ondemand::field member;
            if (std::move(field).get(member)) return false;
            auto key = member.key();
            ondemand::value value = member.value();
            if (key == "index") {
                if (value.get_int64().get(index)) return false;
            } else if (key == "id" && is_string(value)) {
                id = raw_string(value);
            } else if (key == "function") {
                ondemand::object function;
                if (value.get_object().get(function)) return false;
                for (auto inner : function) {
                    ondemand::field piece;
                    if (std::move(inner).get(piece)) return false;
                    auto what = piece.key();
                    ondemand::value text = piece.value();
                    if (!is_string(text)) continue;
                    if (what == "name") name = raw_string(text);
                    if (what == "arguments") arguments = raw_string(text);
                }
            }
        }
        if (block_ != Block::tool || index != tool_index_) {
            // Blocks follow one another: a piece for a call whose block is closed cannot be told any more.
            if (name.empty() || index <= last_tool_) return false;
            last_tool_ = tool_index_ = index;
            if (id.empty()) id = "\"toolu_" + request_.text().substr(4) + std::to_string(index) + "\"";
            open_block(Block::tool,
                       R"({"type":"tool_use","id":)" + id + R"(,"name":)" + name + R"(,"input":{}})", out);
        }
        if (arguments.size() > 2)
            delta(R"("delta":{"type":"input_json_delta","partial_json":)" + arguments + "}", out);
        return true;
    }

    void start(std::string& out) {
        if (is_started_) return;
        is_started_ = true;
        add_event(out, "message_start",
                  R"({"type":"message_start","message":{"id":")" + id_ +
                      R"(","type":"message","role":"assistant","model":)" +
                      (model_.empty() ? "\"\"" : model_) +
                      R"(,"content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":)" +
                      std::to_string(likely_input_) +
                      R"(,"output_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0}}})");
    }
    void open_block(Block kind, std::string_view content, std::string& out) {
        start(out);
        close_block(out);
        block_ = kind;
        ++index_;
        add_event(out, "content_block_start",
                  R"({"type":"content_block_start","index":)" + std::to_string(index_) +
                      R"(,"content_block":)" + std::string(content) + "}");
    }
    void close_block(std::string& out) {
        if (block_ == Block::none) return;
        block_ = Block::none;
        add_event(out, "content_block_stop",
                  R"({"type":"content_block_stop","index":)" + std::to_string(index_) + "}");
    }
    void delta(std::string_view inner, std::string& out) {
        out.append("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
        out.append(std::to_string(index_)).append(",").append(inner).append("}\n\n");
    }

    const std::string id_;
    const RequestId request_;
    std::int64_t likely_input_ = 0;
    ondemand::parser parser_;
    std::vector<char> text_;
    std::string model_;  // JSON text
    std::string stop_reason_;
    bool is_started_ = false;
    Block block_ = Block::none;
    int index_ = -1;
    std::int64_t tool_index_ = -1;
    std::int64_t last_tool_ = -1;
};

}  // namespace

std::unique_ptr<ClientEdge> make_edge(RequestId request) { return std::make_unique<Edge>(request); }

}  // namespace nebula::gateway::anthropic
