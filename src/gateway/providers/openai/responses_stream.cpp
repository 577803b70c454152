// Events of a stream → chunks. Texts are copied as the JSON they are, without being decoded.
#include <map>
#include <string>

#include "base/text.hpp"
#include "gateway/providers/openai/responses.hpp"
#include "gateway/providers/openai_writer.hpp"
#include "gateway/raw_json.hpp"

namespace nebula::gateway::openai {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr std::size_t calls_max = 1024;

/// What an event says, whatever the order of its members. Raw: JSON strings with their quotes.
struct Event {
    std::string type;
    std::int64_t output_index = -1;
    std::string_view raw_delta;
    // Of an item.
    std::string item_type;
    std::string_view raw_item_id, raw_call_id, raw_name, raw_said, raw_sealed;
    // Of the response.
    std::string_view raw_id, raw_model;
    std::string reason;  // why it is incomplete
    std::string_view raw_error;
    ToldUsage usage;
};

// A count as it was told; what is no scalar becomes one that cannot be true, so that whoever meters sees it.
bool read_count(ondemand::value& value, std::string_view& out) {
    ondemand::json_type type;
    if (value.type().get(type)) return false;
    if (type == ondemand::json_type::null) return true;
    bool is_scalar = type != ondemand::json_type::object && type != ondemand::json_type::array;
    if (!is_scalar) out = "-1";
    return !is_scalar || raw::scalar(value, out);
}

bool read_usage(ondemand::value& value, ToldUsage& usage) {
    return raw::each_member(value, [&usage](auto key, ondemand::value& inner) {
        if (key == "input_tokens") return read_count(inner, usage.prompt);
        if (key == "output_tokens") return read_count(inner, usage.completion);
        if (key == "input_tokens_details")
            return raw::each_member(inner, [&usage](auto name, ondemand::value& count) {
                if (name == "cached_tokens") return read_count(count, usage.cached);
                return !(name == "cache_write_tokens") || read_count(count, usage.written);
            });
        if (key == "output_tokens_details")
            return raw::each_member(inner, [&usage](auto name, ondemand::value& count) {
                return !(name == "reasoning_tokens") || read_count(count, usage.reasoning);
            });
        return true;
    });
}

bool read_message(ondemand::value& value, std::string_view& raw_message) {
    return raw::each_member(value, [&raw_message](auto key, ondemand::value& inner) {
        return !(key == "message") || raw::take(inner, raw_message);
    });
}

bool read_response(ondemand::value& value, Event& event) {
    return raw::each_member(value, [&event](auto key, ondemand::value& inner) {
        if (key == "id") return raw::take(inner, event.raw_id);
        if (key == "model") return raw::take(inner, event.raw_model);
        if (key == "usage") return read_usage(inner, event.usage);
        if (key == "error") return read_message(inner, event.raw_error);
        if (key == "incomplete_details")
            return raw::each_member(inner, [&event](auto name, ondemand::value& reason) {
                return !(name == "reason") || raw::take_text(reason, event.reason);
            });
        return true;
    });
}

bool read_item(ondemand::value& value, Event& event) {
    return raw::each_member(value, [&event](auto key, ondemand::value& inner) {
        if (key == "type") return raw::take_text(inner, event.item_type);
        if (key == "id") return raw::take(inner, event.raw_item_id);
        if (key == "call_id") return raw::take(inner, event.raw_call_id);
        if (key == "name") return raw::take(inner, event.raw_name);
        if (key == "arguments" || key == "input") return raw::take(inner, event.raw_said);
        if (key == "encrypted_content") return raw::take(inner, event.raw_sealed);
        return true;
    });
}

bool is_empty(std::string_view raw) { return raw.size() <= 2; }  // "" or absent

}  // namespace

struct ResponsesReader::Impl {
    Impl(std::string_view the_id, std::int64_t the_created) : id(the_id), created(the_created) {}

    bool read(std::string_view data, std::string& lines) {
        if (is_whole) return true;  // nothing may follow the end
        Event event;
        if (!parse(data, event)) return false;
        out = &lines;
        std::string_view type = event.type;
        if (!type.starts_with("response.")) {
            if (type == "error") add_error(event);
            return true;  // what may be added
        }
        type.remove_prefix(9);
        // By how often they come.
        if (type.ends_with(".delta")) return delta(type, event);
        if (type == "output_item.added") return item_added(event);
        if (type == "output_item.done") return item_done(event);
        // It is kept and read again: then everything in it must be JSON.
        if (type == "completed" || type == "incomplete") return raw::is_json(data) && end(type, event);
        if (type == "failed" || type == "cancelled") add_error(event);
        if (type == "created" || type == "in_progress" || type == "queued") start(event);
        return true;
    }

    bool has_begun = false;
    std::int64_t tool_calls = 0;

   private:
    struct Call {
        std::size_t index = 0;  // among the calls
        bool has_said = false;
    };

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
                is_fine = raw::is_string(value) && raw::take_text(value, event.type);
            else if (key == "delta")
                is_fine = raw::take(value, event.raw_delta);
            else if (key == "output_index")
                is_fine = !value.get_int64().get(event.output_index);
            else if (key == "item")
                is_fine = read_item(value, event);
            else if (key == "response")
                is_fine = read_response(value, event);
            else if (key == "message")
                is_fine = raw::take(value, event.raw_error);
            else if (key == "error")
                is_fine = read_message(value, event.raw_error);
            if (!is_fine) return false;
        }
        return !event.type.empty() && document.is_at_end();
    }

    void start(const Event& event) {
        if (!prefix.empty()) return;
        std::string own_id = is_empty(event.raw_id) ? json_string(id) : std::string(event.raw_id);
        head = R"({"id":)" + own_id + R"(,"object":"chat.completion.chunk","created":)" +
               std::to_string(created) + R"(,"model":)" +
               (is_empty(event.raw_model) ? std::string("\"\"") : std::string(event.raw_model)) +
               R"(,"choices":[)";
        prefix = head + R"({"index":0,"delta":)";
        add(R"({"role":"assistant","content":""})");
    }

    template <class... Pieces>
    void add(const Pieces&... delta) {
        out->append(prefix);
        (out->append(delta), ...);
        out->append(",\"logprobs\":null,\"finish_reason\":null}]}\n");
    }

    bool delta(std::string_view type, const Event& event) {
        start(event);
        if (is_empty(event.raw_delta)) return true;
        if (type == "output_text.delta") {
            add(R"({"content":)", event.raw_delta, "}");
        } else if (type == "refusal.delta") {
            add(R"({"refusal":)", event.raw_delta, "}");
        } else if (type == "reasoning_text.delta" || type == "reasoning_summary_text.delta") {
            add(R"({"reasoning_content":)", event.raw_delta, "}");
        } else if (type == "function_call_arguments.delta" || type == "custom_tool_call_input.delta") {
            auto call = calls.find(event.output_index);
            if (call == calls.end()) return false;  // of an item that was not told
            say(call->second, event.raw_delta);
        } else if (type.find("_call_") != std::string_view::npos) {
            // The model writes for a tool that runs there; the client may be told.
            add(R"({"reasoning_content":)", event.raw_delta, "}");
        }
        return true;
    }

    void say(Call& call, std::string_view raw) {
        call.has_said = true;
        add(R"({"tool_calls":[{"index":)", std::to_string(call.index), R"(,"function":{"arguments":)", raw,
            "}}]}");
    }

    bool item_added(const Event& event) {
        start(event);
        bool is_call = event.item_type == "function_call" || event.item_type == "custom_tool_call";
        if (!is_call) {
            has_begun = has_begun || (event.item_type != "message" && event.item_type != "reasoning");
            return true;
        }
        if (is_empty(event.raw_name) || calls.size() >= calls_max) return false;
        auto [call, is_new] = calls.try_emplace(event.output_index, Call{.index = calls.size()});
        if (!is_new) return false;
        std::string call_id = is_empty(event.raw_call_id)
                                  ? json_string("call_" + id + "_" + std::to_string(call->second.index))
                                  : std::string(event.raw_call_id);
        add(R"({"tool_calls":[{"index":)", std::to_string(call->second.index), R"(,"id":)", call_id,
            R"(,"type":"function","function":{"name":)", event.raw_name, R"(,"arguments":""}}]})");
        return true;
    }

    bool item_done(const Event& event) {
        start(event);
        if (is_tool_use(event.item_type)) ++tool_calls;
        if (event.item_type == "reasoning" && !is_empty(event.raw_sealed)) {
            add(R"({"reasoning_details":[{"type":"reasoning.encrypted","data":)", event.raw_sealed,
                R"(,"id":)", is_empty(event.raw_item_id) ? std::string_view("null") : event.raw_item_id,
                R"(,"format":"openai-responses-v1"}]})");
        }
        // Some servers tell the arguments only here.
        auto call = calls.find(event.output_index);
        if (call != calls.end() && !call->second.has_said && !is_empty(event.raw_said))
            say(call->second, event.raw_said);
        return true;
    }

    bool end(std::string_view type, const Event& event) {
        start(event);
        const char* reason = calls.empty() ? "stop" : "tool_calls";
        if (type == "incomplete") reason = event.reason == "content_filter" ? "content_filter" : "length";
        out->append(prefix).append(R"({},"logprobs":null,"finish_reason":")").append(reason);
        out->append("\"}]}\n");
        if (event.usage.is_told())
            out->append(head).append(R"(],"usage":)").append(usage_json(event.usage)).append("}\n");
        is_whole = true;
        out->append("[DONE]\n");
        return true;
    }

    void add_error(const Event& event) {
        add_error_line(is_empty(event.raw_error) ? R"("the provider reported an error")" : event.raw_error,
                       *out);
    }

    const std::string id;
    const std::int64_t created;
    raw::Document document;
    std::string head, prefix;  // of every chunk; empty before the start
    std::string* out = nullptr;
    std::map<std::int64_t, Call> calls;  // by output_index
    bool is_whole = false;
};

ResponsesReader::ResponsesReader(std::string_view id, std::int64_t created)
    : impl_(std::make_unique<Impl>(id, created)) {}
ResponsesReader::~ResponsesReader() = default;

bool ResponsesReader::read(std::string_view data, std::string& lines) { return impl_->read(data, lines); }
bool ResponsesReader::has_begun() const { return impl_->has_begun; }
std::int64_t ResponsesReader::tool_calls() const { return impl_->tool_calls; }

}  // namespace nebula::gateway::openai
