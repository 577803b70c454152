// Events of a stream → chunks. Texts are copied as the JSON they are, without being decoded.
#include <optional>
#include <string>

#include "base/text.hpp"
#include "gateway/providers/anthropic/messages.hpp"
#include "gateway/providers/anthropic/words.hpp"
#include "gateway/raw_json.hpp"

namespace nebula::gateway::anthropic {
namespace {

namespace ondemand = simdjson::ondemand;

/// A count as it was told. Nonsense is passed on as a count that cannot be true, so that whoever meters sees
/// it.
struct Count {
    std::optional<std::int64_t> number;
    bool is_nonsense = false;
};

struct Usage {
    Count input, cached, written, output, thinking;
};

/// What an event says, whatever the order of its members. Raw: JSON strings with their quotes.
struct Event {
    std::string type;
    std::int64_t index = -1;
    std::string block_type, stop_reason;
    std::string_view raw_id, raw_model;  // of the message
    std::string_view raw_block_id, raw_name, raw_data, raw_input;
    std::string_view raw_text, raw_thinking, raw_signature, raw_arguments;
    std::string error_message;
};

bool read_count(ondemand::value& value, Count& out) {
    ondemand::json_type type;
    if (value.type().get(type)) return false;
    if (type == ondemand::json_type::null) return true;
    std::int64_t number = 0;
    out = {};
    if (type == ondemand::json_type::number && !value.get_int64().get(number) && number >= 0 &&
        number <= counts_max)
        out.number = number;
    else
        out.is_nonsense = true;
    return true;
}

// Calls `take` for each member of the object; false when the JSON is broken or `take` says so. Anything but
// an object is passed over.
template <class Take>
bool each_member(ondemand::value& value, Take take) {
    if (!raw::is_of(value, ondemand::json_type::object)) return true;
    ondemand::object object;
    if (value.get_object().get(object)) return false;
    for (auto field : object) {
        ondemand::field member;
        if (std::move(field).get(member)) return false;
        ondemand::value inner = member.value();
        if (!take(member.key(), inner)) return false;
    }
    return true;
}

bool take_raw(ondemand::value& value, std::string_view& raw) {
    return !raw::is_string(value) || raw::string(value, raw);
}

bool take_text(ondemand::value& value, std::string& out) {
    if (!raw::is_string(value)) return true;
    std::string_view text;
    if (value.get_string().get(text)) return false;
    out = text;
    return true;
}

bool read_usage(ondemand::value& value, Usage& usage) {
    return each_member(value, [&usage](auto key, ondemand::value& inner) {
        if (key == "input_tokens") return read_count(inner, usage.input);
        if (key == "cache_read_input_tokens") return read_count(inner, usage.cached);
        if (key == "cache_creation_input_tokens") return read_count(inner, usage.written);
        if (key == "output_tokens") return read_count(inner, usage.output);
        if (key == "output_tokens_details")
            return each_member(inner, [&usage](auto name, ondemand::value& count) {
                return name != "thinking_tokens" || read_count(count, usage.thinking);
            });
        return true;
    });
}

bool read_message(ondemand::value& value, Event& event, Usage& usage) {
    return each_member(value, [&](auto key, ondemand::value& inner) {
        if (key == "id") return take_raw(inner, event.raw_id);
        if (key == "model") return take_raw(inner, event.raw_model);
        if (key == "usage") return read_usage(inner, usage);
        return true;
    });
}

bool read_block(ondemand::value& value, Event& event) {
    return each_member(value, [&event](auto key, ondemand::value& inner) {
        if (key == "type") return take_text(inner, event.block_type);
        if (key == "id") return take_raw(inner, event.raw_block_id);
        if (key == "name") return take_raw(inner, event.raw_name);
        if (key == "data") return take_raw(inner, event.raw_data);
        if (key == "text") return take_raw(inner, event.raw_text);
        if (key == "thinking") return take_raw(inner, event.raw_thinking);
        if (key == "input" && raw::is_of(inner, ondemand::json_type::object))
            return raw::structure(inner, event.raw_input);
        return true;
    });
}

bool read_delta(ondemand::value& value, Event& event) {
    return each_member(value, [&event](auto key, ondemand::value& inner) {
        if (key == "text") return take_raw(inner, event.raw_text);
        if (key == "partial_json") return take_raw(inner, event.raw_arguments);
        if (key == "thinking") return take_raw(inner, event.raw_thinking);
        if (key == "signature") return take_raw(inner, event.raw_signature);
        if (key == "stop_reason") return take_text(inner, event.stop_reason);
        return true;
    });
}

bool is_empty(std::string_view raw) { return raw.size() <= 2; }  // "" or absent

}  // namespace

struct EventReader::Impl {
    Impl(std::string_view the_id, std::int64_t the_created) : id(the_id), created(the_created) {}

    bool read(std::string_view data, const Telling& telling, std::string& lines) {
        if (is_whole) return true;  // nothing may follow the end
        Event event;
        if (!parse(data, event)) return false;
        out = &lines;
        tells_reasoning = telling.tells_reasoning;
        // By how often they come.
        if (event.type == "content_block_delta") return delta(event);
        if (event.type == "content_block_start") return block_start(event);
        if (event.type == "content_block_stop") return block_stop(event);
        if (event.type == "message_start") {
            usage.output = {};  // what has been generated by then; the whole comes last
            return start(event.raw_id, event.raw_model);
        }
        if (event.type == "message_delta") return message_delta(event);
        if (event.type == "message_stop") return message_stop();
        if (event.type == "error") error(event);
        return true;  // ping, and what may be added
    }

    bool has_begun = false;

   private:
    enum class Block { none, text, thinking, tool, other };

    bool parse(std::string_view data, Event& event) {
        ondemand::object object;
        if (!document.open(data, object)) return false;
        for (auto field : object) {
            ondemand::field member;
            if (std::move(field).get(member)) return false;
            auto key = member.key();
            ondemand::value value = member.value();
            bool is_fine = true;
            if (key == "type")
                is_fine = raw::is_string(value) && take_text(value, event.type);
            else if (key == "index")
                is_fine = !value.get_int64().get(event.index);
            else if (key == "delta")
                is_fine = read_delta(value, event);
            else if (key == "content_block")
                is_fine = read_block(value, event);
            else if (key == "message")
                is_fine = read_message(value, event, usage);
            else if (key == "usage")
                is_fine = read_usage(value, usage);
            else if (key == "error")
                is_fine = each_member(value, [&event](auto name, ondemand::value& inner) {
                    return name != "message" || take_text(inner, event.error_message);
                });
            if (!is_fine) return false;
        }
        return !event.type.empty() && document.is_at_end();
    }

    bool start(std::string_view raw_id, std::string_view raw_model) {
        if (!prefix.empty()) return true;
        std::string own_id = is_empty(raw_id) ? json_string(id) : std::string(raw_id);
        head = R"({"id":)" + own_id + R"(,"object":"chat.completion.chunk","created":)" +
               std::to_string(created) + R"(,"model":)" +
               (is_empty(raw_model) ? std::string("\"\"") : std::string(raw_model)) + R"(,"choices":[)";
        prefix = head + R"({"index":0,"delta":)";
        add(R"({"role":"assistant","content":""})");
        return true;
    }

    template <class... Pieces>
    void add(const Pieces&... delta) {
        out->append(prefix);
        (out->append(delta), ...);
        out->append(",\"logprobs\":null,\"finish_reason\":null}]}\n");
    }

    bool block_start(const Event& event) {
        if (prefix.empty()) start({}, {});
        index = event.index;
        has_arguments = false;
        block = Block::other;
        if (event.block_type == "text") {
            block = Block::text;
            if (!is_empty(event.raw_text)) text(event.raw_text);
        } else if (event.block_type == "thinking") {
            block = Block::thinking;
            ++detail;
            if (!is_empty(event.raw_thinking)) thinking(event.raw_thinking);
        } else if (event.block_type == "redacted_thinking") {
            ++detail;
            if (tells_reasoning && !is_empty(event.raw_data))
                add_detail("reasoning.encrypted", "data", event.raw_data);
        } else if (event.block_type == "tool_use") {
            if (is_empty(event.raw_name) || calls >= calls_max) return false;
            block = Block::tool;
            ++calls;
            std::string own_id = is_empty(event.raw_block_id)
                                     ? json_string("toolu_" + id + "_" + std::to_string(calls))
                                     : std::string(event.raw_block_id);
            add(R"({"tool_calls":[{"index":)", std::to_string(calls - 1), R"(,"id":)", own_id,
                R"(,"type":"function","function":{"name":)", event.raw_name, R"(,"arguments":""}}]})");
            // Some servers tell the whole input here instead of in pieces.
            if (event.raw_input.find('"') != std::string_view::npos) arguments(json_string(event.raw_input));
        }
        has_begun = has_begun || block == Block::other;
        return true;
    }

    bool delta(const Event& event) {
        if (event.index != index) return false;  // of a block that is not open
        switch (block) {
            case Block::none:
                return false;
            case Block::text:
                if (!is_empty(event.raw_text)) text(event.raw_text);
                return true;
            case Block::thinking:
                if (!is_empty(event.raw_thinking)) thinking(event.raw_thinking);
                if (tells_reasoning && !is_empty(event.raw_signature))
                    add_detail("reasoning.text", "signature", event.raw_signature);
                return true;
            case Block::tool:
                if (!is_empty(event.raw_arguments)) arguments(event.raw_arguments);
                return true;
            case Block::other:
                return true;
        }
        return true;
    }

    bool block_stop(const Event& event) {
        if (event.index != index) return false;
        if (block == Block::tool && !has_arguments) arguments("\"{}\"");
        block = Block::none;
        return true;
    }

    void text(std::string_view raw) { add(R"({"content":)", raw, "}"); }

    void thinking(std::string_view raw) {
        if (!tells_reasoning) return;
        add(R"({"reasoning_content":)", raw, R"(,"reasoning_details":[{"type":"reasoning.text","text":)", raw,
            R"(,"format":")", reasoning_format, R"(","index":)", std::to_string(detail), "}]}");
    }

    void add_detail(const char* type, const char* name, std::string_view raw) {
        add(R"({"reasoning_details":[{"type":")", type, R"(",")", name, R"(":)", raw, R"(,"format":")",
            reasoning_format, R"(","index":)", std::to_string(detail), "}]}");
    }

    void arguments(std::string_view raw) {
        has_arguments = true;
        add(R"({"tool_calls":[{"index":)", std::to_string(calls - 1), R"(,"function":{"arguments":)", raw,
            "}}]}");
    }

    bool message_delta(const Event& event) {
        if (prefix.empty()) return false;
        if (!event.stop_reason.empty() && !is_finished) {
            is_finished = true;
            out->append(prefix).append(R"({},"logprobs":null,"finish_reason":")");
            out->append(finish_reason(event.stop_reason)).append("\"}]}\n");
        }
        // Counts are cumulative; those of the prompt came with the start.
        bool has_output = usage.output.number || usage.output.is_nonsense;
        if (is_finished && has_output) report();
        return true;
    }

    bool message_stop() {
        if (!is_finished) return false;
        is_whole = true;
        out->append("[DONE]\n");
        return true;
    }

    void error(const Event& event) {
        std::string message =
            event.error_message.empty() ? "the provider reported an error" : event.error_message;
        out->append(R"({"error":{"message":)").append(json_string(message)).append("}}\n");
    }

    void report() {
        std::int64_t prompt = 0, output = usage.output.is_nonsense ? -1 : usage.output.number.value_or(0);
        for (const Count* count : {&usage.input, &usage.cached, &usage.written})
            prompt += count->number.value_or(0);
        if (usage.input.is_nonsense || usage.cached.is_nonsense || usage.written.is_nonsense) prompt = -1;
        out->append(head).append(R"(],"usage":{"prompt_tokens":)").append(std::to_string(prompt));
        out->append(R"(,"completion_tokens":)").append(std::to_string(output));
        out->append(R"(,"total_tokens":)").append(std::to_string(prompt + output));
        out->append(R"(,"prompt_tokens_details":{"cached_tokens":)");
        out->append(std::to_string(usage.cached.number.value_or(0))).append(R"(,"cache_write_tokens":)");
        out->append(std::to_string(usage.written.number.value_or(0))).append("}");
        if (usage.thinking.number)
            out->append(R"(,"completion_tokens_details":{"reasoning_tokens":)")
                .append(std::to_string(*usage.thinking.number))
                .append("}");
        out->append("}}\n");
    }

    static constexpr std::int64_t calls_max = 1024;

    const std::string id;
    const std::int64_t created;
    raw::Document document;
    Usage usage;
    std::string head, prefix;  // of every chunk; empty before the start
    std::string* out = nullptr;
    bool tells_reasoning = true;
    Block block = Block::none;
    std::int64_t index = -1;   // of the open block
    std::int64_t calls = 0;    // so far
    std::int64_t detail = -1;  // of the reasoning details, the current one
    bool has_arguments = false;
    bool is_finished = false;
    bool is_whole = false;
};

EventReader::EventReader(std::string_view id, std::int64_t created)
    : impl_(std::make_unique<Impl>(id, created)) {}
EventReader::~EventReader() = default;

bool EventReader::has_begun() const { return impl_->has_begun; }

bool EventReader::read(std::string_view data, const Telling& telling, std::string& lines) {
    return impl_->read(data, telling, lines);
}

}  // namespace nebula::gateway::anthropic
