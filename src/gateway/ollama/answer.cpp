// Chat and embeddings answers in Ollama's words; streams as lines.
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <map>

#include "base/text.hpp"
#include "gateway/chunk_reader.hpp"
#include "gateway/members.hpp"
#include "gateway/ollama/native.hpp"
#include "gateway/ollama/ollama.hpp"

namespace nebula::gateway::ollama {
namespace {

namespace json = boost::json;
using members::count_of;
using members::text_of;

const char* done_reason(std::string_view finish_reason) {
    return finish_reason == "length" ? "length" : "stop";
}

// Arguments are an object here and a text there.
json::value arguments_of(std::string_view text) {
    boost::system::error_code failed;
    json::value value = json::parse(text, failed);
    if (failed || !value.is_object()) return json::object{{"arguments", text}};
    return value;
}

class Edge final : public ClientEdge, private ChunkSink {
   public:
    Edge(Kind kind, const Clock& clock) : kind_(kind), clock_(clock), started_(clock.ticks()) {}

    const char* api() const override { return "ollama"; }
    Result<std::string> request(std::string_view body) override {
        auto make = kind_ == Kind::chat       ? chat_request
                    : kind_ == Kind::generate ? generate_request
                    : kind_ == Kind::embed    ? embed_request
                                              : embeddings_request;
        auto made = make(body, &facts_);
        model_ = json_string(facts_.model);
        return made;
    }

    // The older form of embeddings is not among what providers are asked.
    Wire wire() const override {
        return facts_.may_pass && kind_ != Kind::embeddings ? Wire::ollama : Wire::openai;
    }
    std::string_view native_path() const override {
        return kind_ == Kind::chat ? "/api/chat" : kind_ == Kind::generate ? "/api/generate" : "/api/embed";
    }
    Result<ChatRequest> native(std::string_view body) override {
        auto native = read_native(body);
        if (!native) return fail(std::move(native.error()));
        native_ = std::move(*native);
        if (kind_ == Kind::embed) native_.request.stream = false;
        return native_.request;
    }
    std::string native_body(std::string_view body, const ChatRequest&, const Edits& edits) override {
        return edit_native(body, native_, edits);
    }

    Result<std::string> answer(std::string_view openai_answer) override {
        boost::system::error_code failed;
        json::value value = json::parse(openai_answer, failed);
        if (failed || !value.is_object()) return unreadable();
        bool has_words = kind_ == Kind::chat || kind_ == Kind::generate;
        return has_words ? message(value.get_object()) : embeddings(value.get_object());
    }

    std::string_view stream_type() const override { return "application/x-ndjson"; }

    bool chunk(std::string_view data, std::string& out) override {
        out_ = &out;
        return reader_.read(data, *this);
    }

    void restart() override {
        reader_.restart();
        done_reason_ = "stop";
        calls_.clear();
    }

    std::string end(const billing::TokenUsage& usage) override {
        std::string line = head();
        if (kind_ == Kind::chat) {
            json::object message{{"role", "assistant"}, {"content", ""}};
            if (!calls_.empty()) message["tool_calls"] = take_calls();
            line += R"("message":)" + json::serialize(message);
        } else {
            line += R"("response":"")";
        }
        return line + tail(done_reason_, usage.input, usage.output) + "\n";
    }

    std::string broken(const Error& error) override {
        return R"({"error":)" + json_string(error.message) + "}\n";
    }

   private:
    struct Call {
        std::string id, name;
        std::string raw_arguments;  // inside of a JSON string
    };

    // Pieces are put together before they are decoded: a piece may end within a surrogate pair.
    static std::string inside(std::string_view raw) {
        return raw.size() <= 2 ? std::string() : std::string(raw.substr(1, raw.size() - 2));
    }
    static std::string decoded(std::string_view raw) {
        boost::system::error_code failed;
        json::value text = raw.empty() ? json::value("") : json::parse(raw, failed);
        return failed || !text.is_string() ? std::string() : std::string(text.get_string());
    }

    static std::unexpected<Error> unreadable() {
        return fail(Code::upstream_failed, "the provider sent an invalid answer", {},
                    "answer of another shape");
    }

    Result<std::string> message(const json::object& answer) {
        const json::value* choices = answer.if_contains("choices");
        const json::array* list = choices != nullptr ? choices->if_array() : nullptr;
        const json::object* choice = list != nullptr && !list->empty() ? list->front().if_object() : nullptr;
        const json::value* from = choice != nullptr ? choice->if_contains("message") : nullptr;
        if (from == nullptr || !from->is_object()) return unreadable();
        const json::object& said = from->get_object();
        std::string_view thinking = text_of(said, "reasoning_content");
        if (thinking.empty()) thinking = text_of(said, "reasoning");
        std::int64_t input = 0, output = 0;
        if (const json::value* usage = answer.if_contains("usage"); usage != nullptr && usage->is_object()) {
            input = count_of(usage->get_object(), "prompt_tokens");
            output = count_of(usage->get_object(), "completion_tokens");
        }
        std::string body = head();
        if (kind_ == Kind::generate) {
            body += R"("response":)" + json_string(text_of(said, "content"));
            if (!thinking.empty()) body += R"(,"thinking":)" + json_string(thinking);
        } else {
            json::object told{{"role", "assistant"}, {"content", text_of(said, "content")}};
            if (!thinking.empty()) told["thinking"] = thinking;
            read_calls(said);
            if (!calls_.empty()) told["tool_calls"] = take_calls();
            body += R"("message":)" + json::serialize(told);
        }
        return body + tail(done_reason(text_of(*choice, "finish_reason")), input, output);
    }

    Result<std::string> embeddings(const json::object& answer) {
        const json::value* data = answer.if_contains("data");
        if (data == nullptr || !data->is_array()) return unreadable();
        json::array vectors;
        for (const json::value& item : data->get_array()) {
            const json::object* one = item.if_object();
            const json::value* vector = one != nullptr ? one->if_contains("embedding") : nullptr;
            if (vector == nullptr || !vector->is_array()) return unreadable();
            vectors.push_back(*vector);
        }
        if (kind_ == Kind::embeddings) {
            if (vectors.empty()) return unreadable();
            return R"({"embedding":)" + json::serialize(vectors[0]) + "}";
        }
        std::int64_t input = 0;
        if (const json::value* usage = answer.if_contains("usage"); usage != nullptr && usage->is_object())
            input = count_of(usage->get_object(), "prompt_tokens");
        return R"({"model":)" + model_ + R"(,"embeddings":)" + json::serialize(vectors) +
               R"(,"total_duration":)" + std::to_string(elapsed_ns()) +
               R"(,"load_duration":0,"prompt_eval_count":)" + std::to_string(input) + "}";
    }

    void read_calls(const json::object& message) {
        const json::value* calls = message.if_contains("tool_calls");
        if (calls == nullptr || !calls->is_array()) return;
        std::int64_t index = 0;
        for (const json::value& item : calls->get_array()) {
            const json::object* call = item.if_object();
            const json::value* function = call != nullptr ? call->if_contains("function") : nullptr;
            if (function == nullptr || !function->is_object()) continue;
            calls_[index++] = {std::string(text_of(*call, "id")),
                               std::string(text_of(function->get_object(), "name")),
                               inside(json_string(text_of(function->get_object(), "arguments")))};
        }
    }
    json::array take_calls() {
        json::array told;
        for (auto& [index, call] : calls_) {
            json::object function{{"index", index},
                                  {"name", call.name},
                                  {"arguments", arguments_of(decoded('"' + call.raw_arguments + '"'))}};
            told.push_back(json::object{{"id", call.id}, {"function", std::move(function)}});
        }
        calls_.clear();
        return told;
    }

    // A client names the model; what it is called at the provider is not its business.
    void model(std::string_view) override {}
    void finished(std::string_view reason) override { done_reason_ = done_reason(reason); }
    void text(std::string_view raw, bool is_reasoning) override {
        if (raw.size() <= 2) return;
        std::string& out = *out_;
        out += head();
        if (kind_ == Kind::generate)
            out.append(is_reasoning ? R"("response":"","thinking":)" : R"("response":)").append(raw);
        else
            out.append(is_reasoning ? R"("message":{"role":"assistant","content":"","thinking":)"
                                    : R"("message":{"role":"assistant","content":)")
                .append(raw)
                .append("}");
        out += ",\"done\":false}\n";
    }
    // Told whole with the last line: clients expect an object, not pieces of a text.
    bool call(std::int64_t index, std::string_view raw_id, std::string_view raw_name,
              std::string_view raw_arguments) override {
        constexpr std::size_t calls_max = 128, bytes_max = 4 * 1024 * 1024;
        if (!calls_.contains(index) && calls_.size() >= calls_max) return false;
        Call& call = calls_[index];
        if (call.id.empty()) call.id = decoded(raw_id);
        if (call.name.empty()) call.name = decoded(raw_name);
        call.raw_arguments += inside(raw_arguments);
        return call.raw_arguments.size() <= bytes_max;
    }

    std::string head() const {
        return R"({"model":)" + model_ + R"(,"created_at":)" + json_string(to_iso8601(clock_.now())) + ",";
    }
    std::int64_t elapsed_ns() const {
        return std::chrono::duration_cast<std::chrono::nanoseconds>(clock_.ticks() - started_).count();
    }
    std::string tail(const char* reason, std::int64_t input, std::int64_t output) const {
        std::string ns = std::to_string(elapsed_ns());
        return std::string(R"(,"done":true,"done_reason":")") + reason + R"(","total_duration":)" + ns +
               R"(,"load_duration":0,"prompt_eval_count":)" + std::to_string(input) +
               R"(,"prompt_eval_duration":0,"eval_count":)" + std::to_string(output) +
               R"(,"eval_duration":)" + ns + "}";
    }

    const Kind kind_;
    const Clock& clock_;
    const Ticks started_;
    ChunkReader reader_;
    Facts facts_;
    Native native_;
    std::string* out_ = nullptr;  // while chunk() runs
    std::string model_ = "\"\"";  // JSON text
    const char* done_reason_ = "stop";
    std::map<std::int64_t, Call> calls_;
};

}  // namespace

http::Response error(const Error& error, RequestId) {
    http::Response response;
    response.status = http::status_of(error.code);
    response.body = R"({"error":)" + json_string(error.message) + "}";
    if (error.retry_after_ms > 0)
        response.headers.emplace_back("retry-after", std::to_string((error.retry_after_ms + 999) / 1000));
    return response;
}

std::string loaded(const Load& load, Kind kind, const Clock& clock) {
    const char* said =
        kind == Kind::chat ? R"("message":{"role":"assistant","content":""})" : R"("response":"")";
    return R"({"model":)" + json_string(load.model) + R"(,"created_at":)" +
           json_string(to_iso8601(clock.now())) + "," + said + R"(,"done":true,"done_reason":")" +
           (load.is_unload ? "unload" : "load") + "\"}";
}

std::unique_ptr<ClientEdge> make_edge(Kind kind, const Clock& clock) {
    return std::make_unique<Edge>(kind, clock);
}

}  // namespace nebula::gateway::ollama
