#include "gateway/providers/openai_writer.hpp"

#include "base/text.hpp"
#include "gateway/raw_json.hpp"

namespace nebula::gateway {
namespace {

// "req_X" → "X": ids of an answer's parts are made from the request's.
std::string_view tail_of(std::string_view id) { return id.starts_with("req_") ? id.substr(4) : id; }

std::string seconds_text(Time time) {
    return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count());
}

void add_to_list(std::string& list, std::string_view element) {
    if (!list.empty()) list += ',';
    list += element;
}

}  // namespace

std::string usage_json(const ToldUsage& usage) {
    std::string out = "{\"prompt_tokens\":";
    out.append(usage.prompt).append(",\"completion_tokens\":").append(usage.completion);
    auto prompt = parse_int<std::int64_t>(usage.prompt);
    auto completion = parse_int<std::int64_t>(usage.completion);
    constexpr std::int64_t sane = std::int64_t{1} << 60;
    if (prompt && completion && *prompt >= 0 && *completion >= 0 && *prompt < sane && *completion < sane)
        out.append(",\"total_tokens\":").append(std::to_string(*prompt + *completion));
    if (!usage.cached.empty()) {
        out.append(",\"prompt_tokens_details\":{\"cached_tokens\":").append(usage.cached);
        if (!usage.written.empty()) out.append(",\"cache_write_tokens\":").append(usage.written);
        out.append("}");
    }
    if (!usage.reasoning.empty())
        out.append(",\"completion_tokens_details\":{\"reasoning_tokens\":")
            .append(usage.reasoning)
            .append("}");
    return out + "}";
}

void add_error_line(std::string_view raw_message, std::string& lines) {
    lines.append(R"({"error":{"message":)").append(raw_message).append("}}\n");
}

OpenAiWriter::OpenAiWriter(Endpoint endpoint, std::string_view id, Time created)
    : endpoint_(endpoint),
      id_((endpoint == Endpoint::completions ? "cmpl-" : "chatcmpl-") + std::string(tail_of(id))),
      created_(seconds_text(created)) {}

std::string OpenAiWriter::head(const char* object) const {
    return R"({"id":)" + json_string(id_) + R"(,"object":")" + object + R"(","created":)" + created_ +
           R"(,"model":)" + model_;
}

void OpenAiWriter::model(std::string_view raw) {
    if (has_model_ || raw.size() <= 2) return;
    has_model_ = true;
    model_ = raw;
    head_.clear();
}

OpenAiWriter::Choice& OpenAiWriter::of(std::int64_t index) {
    for (Choice& choice : choices_)
        if (choice.index == index) return choice;
    choices_.emplace_back().index = index;
    return choices_.back();
}

// Up to where the delta's members (or the text) follow.
void OpenAiWriter::begin(Choice& choice) {
    if (head_.empty())
        head_ = head(is_text() ? "text_completion" : "chat.completion.chunk") + R"(,"choices":[{"index":)";
    lines_->append(head_).append(std::to_string(choice.index));
    if (is_text()) return;
    lines_->append(choice.is_begun ? R"(,"delta":{)" : R"(,"delta":{"role":"assistant",)");
    choice.is_begun = true;
}

void OpenAiWriter::end(std::string_view raw_logprobs, std::string_view finish) {
    if (!is_text()) lines_->append("}");
    lines_->append(",\"logprobs\":");
    if (raw_logprobs.empty())
        lines_->append("null");
    else
        lines_->append("{\"content\":").append(raw_logprobs).append(",\"refusal\":null}");
    lines_->append(",\"finish_reason\":").append(finish).append("}]}\n");
}

void OpenAiWriter::text(std::int64_t index, std::string_view raw, bool is_reasoning,
                        std::string_view raw_logprobs) {
    Choice& choice = of(index);
    if (lines_ == nullptr) {
        (is_reasoning ? choice.reasoning : choice.text) += raw::inside(raw);
        if (raw_logprobs.size() > 2) add_to_list(choice.logprobs, raw::inside(raw_logprobs));
        return;
    }
    if (raw.size() <= 2 && raw_logprobs.empty()) return;
    if (is_text() && is_reasoning) return;
    begin(choice);
    lines_->append(is_text()      ? ",\"text\":"
                   : is_reasoning ? "\"reasoning_content\":"
                                  : "\"content\":")
        .append(raw);
    end(raw_logprobs, "null");
}

void OpenAiWriter::call(std::int64_t index, std::string_view raw_id, std::string_view raw_name,
                        std::string_view arguments) {
    Choice& choice = of(index);
    if (raw_id.size() > 2)
        last_id_ = raw_id;
    else
        last_id_ = json_string("call_" + std::string(tail_of(id_.substr(id_.find('-') + 1))) + "_" +
                               std::to_string(made_ids_++));
    std::string told = R"({"index":)" + std::to_string(choice.calls++) + R"(,"id":)" + last_id_ +
                       R"(,"type":"function","function":{"name":)" + std::string(raw_name) +
                       R"(,"arguments":")";
    append_json_escaped(told, arguments.empty() ? "{}" : arguments);
    told += "\"}}";
    if (lines_ == nullptr) return add_to_list(choice.tool_calls, told);
    begin(choice);
    lines_->append("\"tool_calls\":[").append(told).append("]");
    end({}, "null");
}

void OpenAiWriter::refusal(std::int64_t index, std::string_view raw) {
    Choice& choice = of(index);
    if (lines_ == nullptr) {
        choice.refusal += raw::inside(raw);
        return;
    }
    begin(choice);
    lines_->append("\"refusal\":").append(raw);
    end({}, "null");
}

void OpenAiWriter::detail(std::int64_t index, std::string_view json) {
    Choice& choice = of(index);
    if (lines_ == nullptr) return add_to_list(choice.details, json);
    begin(choice);
    lines_->append("\"reasoning_details\":[").append(json).append("]");
    end({}, "null");
}

void OpenAiWriter::finish(std::int64_t index, std::string_view reason, std::string_view native) {
    Choice& choice = of(index);
    std::string word = json_string(reason);
    if (!native.empty()) word.append(",\"native_finish_reason\":").append(json_string(native));
    if (lines_ == nullptr) {
        choice.finish = std::move(word);
        return;
    }
    begin(choice);
    if (is_text())
        lines_->append(",\"text\":\"\"");
    else if (lines_->back() == ',')
        lines_->append("\"content\":\"\"");
    end({}, word);
}

void OpenAiWriter::usage(const ToldUsage& usage) {
    if (lines_ == nullptr) {
        usage_ = usage_json(usage);
        return;
    }
    lines_->append(head(is_text() ? "text_completion" : "chat.completion.chunk"))
        .append(R"(,"choices":[],"usage":)")
        .append(usage_json(usage))
        .append("}\n");
}

std::string OpenAiWriter::message(const Choice& choice) const {
    std::string out = R"({"role":"assistant","content":)";
    bool is_null = choice.text.empty() && (!choice.tool_calls.empty() || !choice.refusal.empty());
    out += is_null ? "null" : '"' + choice.text + '"';
    out += R"(,"refusal":)" + (choice.refusal.empty() ? "null" : '"' + choice.refusal + '"');
    if (!choice.reasoning.empty()) out += R"(,"reasoning_content":")" + choice.reasoning + '"';
    if (!choice.details.empty()) out += R"(,"reasoning_details":[)" + choice.details + ']';
    if (!choice.tool_calls.empty()) out += R"(,"tool_calls":[)" + choice.tool_calls + ']';
    return out + '}';
}

std::string OpenAiWriter::answer() const {
    std::string out = head(is_text() ? "text_completion" : "chat.completion") + R"(,"choices":[)";
    for (const Choice& choice : choices_) {
        if (&choice != &choices_.front()) out += ',';
        out += R"({"index":)" + std::to_string(choice.index);
        out += is_text() ? R"(,"text":")" + choice.text + '"' : R"(,"message":)" + message(choice);
        out += R"(,"logprobs":)";
        out +=
            choice.logprobs.empty() ? "null" : R"({"content":[)" + choice.logprobs + R"(],"refusal":null})";
        out += R"(,"finish_reason":)" + (choice.finish.empty() ? "null" : choice.finish) + '}';
    }
    out += ']';
    if (!usage_.empty()) out += R"(,"usage":)" + usage_;
    return out + '}';
}

}  // namespace nebula::gateway
