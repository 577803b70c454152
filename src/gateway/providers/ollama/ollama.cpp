// Ollama's answers, lines and errors → OpenAI's.
#include "gateway/providers/ollama/ollama.hpp"

#include <optional>

#include "gateway/providers/embeddings.hpp"
#include "gateway/providers/openai_request.hpp"
#include "gateway/providers/openai_writer.hpp"
#include "gateway/raw_json.hpp"

namespace nebula::gateway::ollama {
namespace {

namespace ondemand = raw::ondemand;

struct ToolCall {
    std::string_view raw_id, raw_name, arguments;
};

// One line of a stream, or a whole answer: they have the same members.
struct Line {
    bool has_words = false;  // a message or a response, even an empty one
    bool is_done = false;
    std::string_view model, content, thinking, done_reason, logprobs, error;
    std::string_view prompt_count, output_count;
    std::vector<ToolCall> calls;

    void clear() {
        std::vector<ToolCall> kept = std::move(calls);
        kept.clear();
        *this = Line();
        calls = std::move(kept);
    }
};

// Null and absent are the same.
bool read_text(ondemand::value& value, std::string_view& raw) {
    if (raw::is_of(value, ondemand::json_type::null)) return true;
    return raw::is_string(value) && raw::string(value, raw);
}

bool read_calls(ondemand::value& value, std::vector<ToolCall>& calls) {
    constexpr std::size_t calls_max = 1024;
    if (raw::is_of(value, ondemand::json_type::null)) return true;
    ondemand::array list;
    if (value.get_array().get(list)) return false;
    for (auto element : list) {
        ondemand::object call, function;
        if (element.get_object().get(call) || calls.size() >= calls_max) return false;
        ToolCall one;
        for (auto field : call) {
            ondemand::field member;
            if (std::move(field).get(member)) return false;
            auto key = member.key();
            ondemand::value inner = member.value();
            if (key == "id") {
                if (!read_text(inner, one.raw_id)) return false;
            } else if (key == "function") {
                if (inner.get_object().get(function)) return false;
                for (auto part : function) {
                    ondemand::field piece;
                    if (std::move(part).get(piece)) return false;
                    auto what = piece.key();
                    ondemand::value said = piece.value();
                    if (what == "name" && !read_text(said, one.raw_name)) return false;
                    if (what == "arguments" && !raw::is_of(said, ondemand::json_type::null) &&
                        !raw::structure(said, one.arguments))
                        return false;
                }
            }
        }
        if (one.raw_name.size() <= 2) return false;
        calls.push_back(one);
    }
    return true;
}

bool read_message(ondemand::value& value, Line& line) {
    ondemand::object message;
    if (value.get_object().get(message)) return false;
    for (auto field : message) {
        ondemand::field member;
        if (std::move(field).get(member)) return false;
        auto key = member.key();
        ondemand::value inner = member.value();
        if (key == "content" && !read_text(inner, line.content)) return false;
        if (key == "thinking" && !read_text(inner, line.thinking)) return false;
        if (key == "tool_calls" && !read_calls(inner, line.calls)) return false;
    }
    return true;
}

bool read_member(ondemand::raw_json_string key, ondemand::value& value, Line& line) {
    if (key == "model") return read_text(value, line.model);
    if (key == "message" || key == "response") {
        line.has_words = true;
        return key == "message" ? read_message(value, line) : read_text(value, line.content);
    }
    if (key == "thinking") return read_text(value, line.thinking);
    if (key == "tool_calls") return read_calls(value, line.calls);
    if (key == "done") return !value.get_bool().get(line.is_done);
    if (key == "done_reason") return read_text(value, line.done_reason);
    if (key == "logprobs")
        return raw::is_of(value, ondemand::json_type::null) ||
               (raw::is_of(value, ondemand::json_type::array) && raw::structure(value, line.logprobs));
    if (key == "prompt_eval_count") return raw::scalar(value, line.prompt_count);
    if (key == "eval_count") return raw::scalar(value, line.output_count);
    if (key == "error") {
        if (raw::is_string(value)) return raw::string(value, line.error);
        line.error = "\"the provider reported an error\"";
    }
    return true;
}

bool read_line(raw::Document& document, std::string_view data, Line& line) {
    line.clear();
    ondemand::object object;
    if (!document.open(data, object)) return false;
    for (auto field : object) {
        ondemand::field member;
        if (std::move(field).get(member)) return false;
        ondemand::value value = member.value();
        if (!read_member(member.key(), value, line)) return false;
    }
    return document.is_at_end() && (line.has_words || line.is_done || !line.error.empty());
}

// Nothing generated is told as nothing. A prompt that was not counted is not one of no tokens: some versions
// count no tokens that they had cached, and then all is estimated.
ToldUsage usage_of(const Line& line) {
    ToldUsage usage{.prompt = line.prompt_count, .completion = line.output_count};
    if (usage.prompt.empty()) return {};
    if (usage.completion.empty()) usage.completion = "0";
    return usage;
}

class OllamaTranslator final : public Translator {
   public:
    OllamaTranslator(Endpoint endpoint, std::string_view id, Time created)
        : endpoint_(endpoint), writer_(endpoint, id, created) {}

    Result<std::string> request(std::string_view openai_request) override {
        auto from = openai_request::parse(openai_request);
        if (!from) return fail(std::move(from.error()));
        if (endpoint_ == Endpoint::embeddings) {
            auto as_base64 = openai_request::wants_base64(*from);
            if (!as_base64) return fail(std::move(as_base64.error()));
            as_base64_ = *as_base64;
            return to_embed(*from);
        }
        auto reasoning = openai_request::reasoning_of(*from);
        hides_thinking_ = reasoning && reasoning->is_hidden;
        return endpoint_ == Endpoint::chat ? to_chat(*from) : to_generate(*from);
    }

    Result<std::string> answer(std::string_view body) override {
        if (endpoint_ == Endpoint::embeddings) return embeddings(body);
        if (!read_line(document_, body, line_) || !line_.has_words || !line_.error.empty())
            return unreadable();
        writer_.to_lines(nullptr);
        tell();
        finish();
        return writer_.answer();
    }

    bool event(std::string_view data, std::string& lines) override {
        if (data.ends_with('\n')) data.remove_suffix(1);
        if (data.ends_with('\r')) data.remove_suffix(1);
        if (data.empty() || is_done_) return true;  // nothing follows the end
        if (!read_line(document_, data, line_)) return false;
        if (!line_.error.empty()) {
            add_error_line(line_.error, lines);
            return true;
        }
        writer_.to_lines(&lines);
        tell();
        if (line_.is_done) {
            finish();
            lines += "[DONE]\n";
            is_done_ = true;
        }
        return true;
    }

   private:
    static std::unexpected<Error> unreadable() {
        return fail(Code::upstream_failed, "the provider sent an invalid answer", {},
                    "answer of another shape");
    }

    void tell() {
        writer_.model(line_.model);
        if (line_.thinking.size() > 2 && !hides_thinking_) writer_.text(0, line_.thinking, true);
        if (line_.content.size() > 2 || line_.logprobs.size() > 2)
            writer_.text(0, line_.content.empty() ? "\"\"" : line_.content, false, line_.logprobs);
        for (const ToolCall& call : line_.calls) writer_.call(0, call.raw_id, call.raw_name, call.arguments);
    }

    void finish() {
        bool is_cut = raw::decoded(line_.done_reason) == "length";
        writer_.finish(0, is_cut ? "length" : writer_.has_calls(0) ? "tool_calls" : "stop");
        if (ToldUsage usage = usage_of(line_); usage.is_told()) writer_.usage(usage);
    }

    Result<std::string> embeddings(std::string_view body) {
        EmbeddingsWriter vectors(as_base64_);
        ondemand::object object;
        std::string_view model, tokens;
        if (!document_.open(body, object)) return unreadable();
        for (auto field : object) {
            ondemand::field member;
            if (std::move(field).get(member)) return unreadable();
            auto key = member.key();
            ondemand::value value = member.value();
            if (key == "embeddings") {
                ondemand::array list;
                if (value.get_array().get(list)) return unreadable();
                for (auto element : list) {
                    ondemand::value vector;
                    if (std::move(element).get(vector) || !vectors.add(vector)) return unreadable();
                }
            } else if (key == "model") {
                if (!read_text(value, model)) return unreadable();
            } else if (key == "prompt_eval_count") {
                if (!raw::scalar(value, tokens)) return unreadable();
            } else if (key == "error") {
                return unreadable();
            }
        }
        if (!document_.is_at_end() || vectors.count() == 0) return unreadable();
        return vectors.answer(model, tokens);
    }

    const Endpoint endpoint_;
    OpenAiWriter writer_;
    raw::Document document_;
    Line line_;
    bool as_base64_ = false;
    bool hides_thinking_ = false;
    bool is_done_ = false;
};

class OllamaProvider final : public Provider {
   public:
    Wire wire() const override { return Wire::ollama; }
    bool serves(Endpoint endpoint) const override {
        return endpoint == Endpoint::chat || endpoint == Endpoint::completions ||
               endpoint == Endpoint::embeddings;
    }
    std::string target(const catalog::Provider& provider, std::string_view, Endpoint endpoint,
                       bool) const override {
        const char* path = endpoint == Endpoint::chat         ? "/api/chat"
                           : endpoint == Endpoint::embeddings ? "/api/embed"
                                                              : "/api/generate";
        return provider.path + path;
    }
    void add_headers(const catalog::Provider&, const Secret& key, std::string& headers) const override {
        if (!key.empty()) headers += "authorization: Bearer " + key.reveal() + "\r\n";
    }
    bool streams_lines() const override { return true; }
    std::unique_ptr<Translator> translate(Endpoint endpoint, std::string_view id,
                                          Time created) const override {
        return std::make_unique<OllamaTranslator>(endpoint, id, created);
    }
    std::string error_message(std::string_view body) const override {
        auto object = openai_request::parse(body);
        if (!object) return {};
        if (const auto* error = openai_request::object_of(*object, "error"))
            return std::string(openai_request::text_of(*error, "message"));
        return std::string(openai_request::text_of(*object, "error"));
    }
};

}  // namespace

const Provider& provider() {
    static const OllamaProvider one;
    return one;
}

}  // namespace nebula::gateway::ollama
