// Chat chunks → typed events. Texts are copied as the JSON they are, without being decoded; they are kept,
// because the events at the end of an item and of the response tell them whole again. Between providers of
// the same API and the client events pass as they are, but for the marks of a response of ours.
#include <algorithm>

#include "base/log.hpp"
#include "base/text.hpp"
#include "gateway/chunk_reader.hpp"
#include "gateway/responses/memory.hpp"
#include "gateway/responses/native.hpp"
#include "gateway/responses/response_object.hpp"
#include "gateway/responses/responses.hpp"

namespace nebula::gateway::responses {
namespace {

constexpr std::size_t answer_bytes_max = 32 * 1024 * 1024;

// Of items that we wrote ourselves.
bool has_media(std::string_view items) {
    constexpr std::string_view marks[] = {R"("input_image")", R"("input_file")", R"("input_audio")",
                                          R"("computer_screenshot")", R"("image_generation_call")"};
    return std::ranges::any_of(
        marks, [items](std::string_view mark) { return items.find(mark) != std::string_view::npos; });
}

class Edge final : public ClientEdge, private ChunkSink {
   public:
    Edge(RequestId request, const Clock& clock, records::StoredResponses* store, bool may_be_native)
        : clock_(clock),
          request_(request),
          object_(request, clock.now()),
          store_(store),
          may_be_native_(may_be_native) {}

    const char* api() const override { return "responses"; }
    Result<std::string> request(std::string_view body) override {
        auto translated = translate(body, memory_);
        if (!translated) return fail(std::move(translated.error()));
        object_.set_echo(std::move(translated->echo));
        object_.set_stored(translated->stores);
        stores_ = translated->stores;
        if (stores_) input_ = with_ids(std::move(translated->input), request_);
        if (may_be_native_) read(body);
        memory_.earlier = {};
        return std::move(translated->chat);
    }
    Result<std::string> answer(std::string_view openai_answer) override {
        auto told = to_response(openai_answer, object_, clock_.now());
        if (told && stores_) response_ = *told;
        return told;
    }

    // Only a request that may pass as it is speaks the API to others; what keeps it from that, the
    // translation refuses.
    Wire wire() const override { return passes_ ? Wire::responses : Wire::openai; }
    Result<ChatRequest> native(std::string_view body) override {
        if (!std::exchange(is_read_, false)) {
            auto native = read_native(body);
            if (!native) return fail(std::move(native.error()));
            native_ = std::move(*native);
        }
        ChatRequest& request = native_.request;
        request.prompt_bytes += earlier_.size();
        request.has_media = request.has_media || has_media(earlier_);
        return request;
    }
    bool may_pass(const catalog::Provider& provider) const override {
        return std::ranges::all_of(native_.hosted, [&provider](const std::string& type) {
            return std::ranges::any_of(provider.hosted_tools, [&type](const std::string& listed) {
                return type == listed || type.starts_with(listed + "_");
            });
        });
    }
    bool adds_texts() const override { return !earlier_.empty(); }
    std::string native_body(std::string_view body, const ChatRequest&, const Edits& edits) override {
        return edit_native(body, native_, edits, earlier_);
    }
    std::string native_answer(std::string_view body) override {
        auto marked = mark(body, false);
        return marked ? std::move(marked->json) : std::string();
    }
    bool native_event(std::string_view data, std::string& out) override {
        if (data.empty()) return false;
        is_started_ = true;
        ++sequence_;
        if (data.find("\"response\"") == std::string_view::npos) return false;
        auto marked = mark(data, true);
        if (marked)
            out.append("event: ").append(marked->type).append("\ndata: ").append(marked->json).append("\n\n");
        return marked.has_value();
    }

    bool is_stateful() const override { return store_ != nullptr && store_->is_on(); }

    Async<Result<void>> prepare(std::string_view body, AccountId account) override {
        account_ = account;
        auto remembered = co_await remember(*store_, body, account);
        if (!remembered) co_return fail(std::move(remembered.error()));
        memory_ = std::move(*remembered);
        co_return Result<void>();
    }

    Async<bool> keep(billing::TokenUsage usage) override {
        if (!stores_) co_return true;
        if (response_.empty()) {
            close(usage);
            response_ = object_.ended(ending_, output_, usage_, ended_at_);
        }
        records::StoredResponse one{request_, {}, std::move(input_), std::move(response_)};
        if (auto previous = parse_response_id(memory_.previous)) one.previous = *previous;
        auto saved = co_await store_->save(account_, std::move(one));
        if (saved) co_return true;
        LOG_WARN("response not stored", {"request", request_.text()}, {"what", saved.error().message},
                 {"detail", saved.error().detail});
        stores_ = false;
        object_.set_stored(false);
        co_return false;
    }
    std::string_view stream_type() const override { return "text/event-stream; charset=utf-8"; }

    bool chunk(std::string_view data, std::string& out) override {
        out_ = &out;
        return reader_.read(data, *this) && kept_bytes_ <= answer_bytes_max;
    }

    void restart() override {
        reader_.restart();
        is_started_ = is_closed_ = false;
        tail_.clear();
        response_.clear();
        ending_ = {};
        reasoning_tokens_ = sequence_ = 0;
        output_.clear();
        kept_bytes_ = 0;
        item_ = Item::none;
        index_ = 0;
        call_index_ = last_call_ = -1;
    }

    std::string end(const billing::TokenUsage& usage) override {
        close(usage);
        std::string out = std::move(tail_);
        std::string type = std::string("response.") + ending_.status;
        add_event(out, type, R"("response":)" + object_.ended(ending_, output_, usage_, ended_at_));
        return out;
    }

    std::string broken(const Error& error) override {
        std::string out;
        start(out);
        add_event(out, "error",
                  R"("code":")" + std::string(error_word(error.code)) + R"(","message":)" +
                      json_string(error.message) + R"(,"param":null)");
        add_event(out, "response.failed", R"("response":)" + object_.failed(error, output_));
        return out;
    }

   private:
    enum class Item { none, reasoning, message, call };

    void read(std::string_view body) {
        auto native = read_native(body);
        passes_ = is_read_ = native.has_value();
        if (!passes_) return;
        native_ = std::move(*native);
        earlier_ = items_to_send(memory_.earlier);
    }
    // Whoever answered, the response is ours: by its id, and by where it is stored.
    std::optional<Marked> mark(std::string_view json, bool is_event) {
        std::string id = response_id(request_);
        auto marked =
            mark_response(json, is_event, {.id = id, .is_stored = stores_, .previous = memory_.previous});
        if (marked && stores_) response_ = marked->object;
        return marked;
    }

    // A client names the model; what it is called at the provider is not its business.
    void model(std::string_view) override {}
    void finished(std::string_view reason) override { ending_ = ending_of(reason); }
    void reasoning_tokens(std::int64_t count) override { reasoning_tokens_ = count; }

    void text(std::string_view raw, bool is_reasoning) override {
        if (raw.size() <= 2) return;  // ""
        Item kind = is_reasoning ? Item::reasoning : Item::message;
        if (item_ != kind) open_text(kind);
        keep(raw, text_);
        begin_event(*out_, is_reasoning ? "response.reasoning_text.delta" : "response.output_text.delta");
        out_->append(reference_).append(R"(,"content_index":0,"delta":)").append(raw);
        out_->append(is_reasoning ? "}\n\n" : ",\"logprobs\":[]}\n\n");
    }

    bool call(std::int64_t index, std::string_view raw_id, std::string_view raw_name,
              std::string_view raw_arguments) override {
        if (item_ != Item::call || index != call_index_) {
            // Items follow one another: a piece for a call that is closed cannot be told any more.
            if (raw_name.empty() || index <= last_call_) return false;
            last_call_ = call_index_ = index;
            open_call(raw_id, raw_name);
        }
        if (raw_arguments.size() > 2) {
            keep(raw_arguments, text_);
            begin_event(*out_, "response.function_call_arguments.delta");
            out_->append(reference_).append(R"(,"delta":)").append(raw_arguments).append("}\n\n");
        }
        return true;
    }

    // What is left to be said before the last event; afterwards the response is whole.
    void close(const billing::TokenUsage& usage) {
        if (is_closed_) return;
        is_closed_ = true;
        start(tail_);
        close_item(ending_.status, tail_);
        usage_ = {usage.input, usage.cached, usage.output, std::min(reasoning_tokens_, usage.output)};
        ended_at_ = clock_.now();
    }

    void start(std::string& out) {
        if (is_started_) return;
        is_started_ = true;
        std::string response = R"("response":)" + object_.in_progress();
        add_event(out, "response.created", response);
        add_event(out, "response.in_progress", response);
    }

    void open_item(Item kind, const char* prefix) {
        start(*out_);
        close_item("completed", *out_);
        item_ = kind;
        id_ = object_.item_id(prefix, index_);
        reference_ = R"("item_id":")" + id_ + R"(","output_index":)" + std::to_string(index_);
        text_ = "\"";
    }
    void open_text(Item kind) {
        bool is_reasoning = kind == Item::reasoning;
        open_item(kind, is_reasoning ? "rs" : "msg");
        add_event(*out_, "response.output_item.added",
                  at_index() + R"(,"item":)" +
                      (is_reasoning ? reasoning_item(id_, "in_progress", {})
                                    : message_item(id_, "in_progress", {})));
        add_event(*out_, "response.content_part.added",
                  reference_ + R"(,"content_index":0,"part":)" +
                      (is_reasoning ? reasoning_part("\"\"") : text_part("\"\"")));
    }
    void open_call(std::string_view raw_id, std::string_view raw_name) {
        open_item(Item::call, "fc");
        call_id_ = raw_id.size() > 2 ? std::string(raw_id) : "\"" + object_.item_id("call", index_) + "\"";
        name_ = raw_name;
        kept_bytes_ += raw_id.size() + raw_name.size();
        add_event(*out_, "response.output_item.added",
                  at_index() + R"(,"item":)" + call_item(id_, "in_progress", call_id_, name_, "\"\""));
    }

    // The events that end the open item, if there is one.
    void close_item(std::string_view status, std::string& out) {
        if (item_ == Item::none) return;
        text_ += '"';
        std::string item;
        if (item_ == Item::call) {
            add_event(out, "response.function_call_arguments.done",
                      reference_ + R"(,"name":)" + name_ + R"(,"arguments":)" + text_);
            item = call_item(id_, status, call_id_, name_, text_);
        } else {
            bool is_reasoning = item_ == Item::reasoning;
            std::string part = is_reasoning ? reasoning_part(text_) : text_part(text_);
            add_event(out, is_reasoning ? "response.reasoning_text.done" : "response.output_text.done",
                      reference_ + R"(,"content_index":0,"text":)" + text_ +
                          (is_reasoning ? "" : R"(,"logprobs":[])"));
            add_event(out, "response.content_part.done", reference_ + R"(,"content_index":0,"part":)" + part);
            item = is_reasoning ? reasoning_item(id_, status, part) : message_item(id_, status, part);
        }
        add_event(out, "response.output_item.done", at_index() + R"(,"item":)" + item);
        if (!output_.empty()) output_ += ',';
        output_ += item;
        item_ = Item::none;
        ++index_;
    }

    // The inside of a JSON string behind the inside of another is the inside of their concatenation.
    void keep(std::string_view raw, std::string& text) {
        text += raw.substr(1, raw.size() - 2);
        kept_bytes_ += raw.size();
    }

    std::string at_index() const { return R"("output_index":)" + std::to_string(index_); }

    void begin_event(std::string& out, std::string_view type) {
        out.append("event: ").append(type).append("\ndata: {\"type\":\"").append(type);
        out.append("\",\"sequence_number\":").append(std::to_string(sequence_++)).append(",");
    }
    void add_event(std::string& out, std::string_view type, std::string_view members) {
        begin_event(out, type);
        out.append(members).append("}\n\n");
    }

    const Clock& clock_;
    const RequestId request_;
    ResponseObject object_;
    records::StoredResponses* const store_;
    AccountId account_;
    Memory memory_;
    const bool may_be_native_;
    bool passes_ = false, is_read_ = false;
    Native native_;
    std::string earlier_;  // items before the input, for providers of the same API
    bool stores_ = false;
    std::string input_, response_;  // to be stored
    bool is_closed_ = false;
    std::string tail_;
    Usage usage_;
    Time ended_at_;
    ChunkReader reader_;
    std::string* out_ = nullptr;  // while chunk() runs
    bool is_started_ = false;
    Ending ending_;
    std::int64_t reasoning_tokens_ = 0;
    std::int64_t sequence_ = 0;
    std::string output_;  // items that are done
    std::size_t kept_bytes_ = 0;

    // The open item.
    Item item_ = Item::none;
    int index_ = 0;
    std::string id_, reference_;
    std::string text_;            // JSON string without its closing quote
    std::string call_id_, name_;  // JSON strings
    std::int64_t call_index_ = -1;
    std::int64_t last_call_ = -1;
};

}  // namespace

std::unique_ptr<ClientEdge> make_edge(RequestId request, const Clock& clock, records::StoredResponses* store,
                                      bool may_be_native) {
    return std::make_unique<Edge>(request, clock, store, may_be_native);
}

}  // namespace nebula::gateway::responses
