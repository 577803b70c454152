// Chat chunks → Messages events. Texts are copied as the JSON they are, without being decoded.
#include "base/text.hpp"
#include "gateway/anthropic/anthropic.hpp"
#include "gateway/anthropic/words.hpp"
#include "gateway/chunk_reader.hpp"

namespace nebula::gateway::anthropic {
namespace {

void add_event(std::string& out, std::string_view name, std::string_view data) {
    out.append("event: ").append(name).append("\ndata: ").append(data).append("\n\n");
}

class Edge final : public ClientEdge, private ChunkSink {
   public:
    explicit Edge(RequestId request) : id_("msg_" + request.text().substr(4)), request_(request) {}

    const char* api() const override { return "anthropic"; }
    Result<std::string> request(std::string_view body) override {
        auto chat = to_chat_request(body);
        // Before anybody has counted: four bytes a token.
        likely_input_ = static_cast<std::int64_t>(body.size() / 4) + 1;
        return chat;
    }
    Wire wire() const override { return Wire::anthropic; }
    Result<ChatRequest> native(std::string_view body) override { return read_native(body); }
    Result<std::string> answer(std::string_view openai_answer) override {
        return to_message(openai_answer, id_);
    }
    std::string_view stream_type() const override { return "text/event-stream; charset=utf-8"; }

    bool chunk(std::string_view data, std::string& out) override {
        out_ = &out;
        return reader_.read(data, *this);
    }

    void restart() override {
        reader_.restart();
        model_.clear();
        stop_reason_.clear();
        is_started_ = false;
        block_ = Block::none;
        index_ = -1;
        tool_index_ = last_tool_ = -1;
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

    void model(std::string_view raw) override {
        if (!is_started_) model_ = raw;
    }
    void finished(std::string_view reason) override { stop_reason_ = stop_reason(reason); }

    void text(std::string_view raw, bool is_reasoning) override {
        if (raw.size() <= 2) return;  // ""
        Block kind = is_reasoning ? Block::thinking : Block::text;
        if (block_ != kind) {
            open_block(kind,
                       is_reasoning ? R"({"type":"thinking","thinking":"","signature":""})"
                                    : R"({"type":"text","text":""})",
                       *out_);
        }
        const char* head = is_reasoning ? R"("delta":{"type":"thinking_delta","thinking":)"
                                        : R"("delta":{"type":"text_delta","text":)";
        delta(std::string(head).append(raw).append("}"), *out_);
    }

    bool call(std::int64_t index, std::string_view raw_id, std::string_view raw_name,
              std::string_view raw_arguments) override {
        if (block_ != Block::tool || index != tool_index_) {
            // Blocks follow one another: a piece for a call whose block is closed cannot be told any more.
            if (raw_name.empty() || index <= last_tool_) return false;
            last_tool_ = tool_index_ = index;
            std::string id(raw_id);
            if (id.empty()) id = "\"toolu_" + request_.text().substr(4) + std::to_string(index) + "\"";
            open_block(Block::tool,
                       R"({"type":"tool_use","id":)" + id + R"(,"name":)" + std::string(raw_name) +
                           R"(,"input":{}})",
                       *out_);
        }
        if (raw_arguments.size() > 2)
            delta(std::string(R"("delta":{"type":"input_json_delta","partial_json":)")
                      .append(raw_arguments)
                      .append("}"),
                  *out_);
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
    ChunkReader reader_;
    std::string* out_ = nullptr;  // while chunk() runs
    std::string model_;           // JSON text
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
