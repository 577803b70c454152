#include "gateway/completion.hpp"

#include <simdjson.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "gateway/tokens/answer_tokens.hpp"

namespace nebula::gateway {
namespace {

namespace ondemand = simdjson::ondemand;
using simdjson::SUCCESS;

// The parser wants padding behind the text; a copy of a small event is cheaper than proving that it has some.
struct Scratch {
    ondemand::parser parser;
    std::vector<char> text;
    ondemand::document document;

    simdjson::error_code start(std::string_view json, std::size_t room) {
        if (room >= json.size() + simdjson::SIMDJSON_PADDING)
            return parser.iterate(simdjson::padded_string_view(json.data(), json.size(), room)).get(document);
        if (text.size() < json.size() + simdjson::SIMDJSON_PADDING)
            text.resize(json.size() + simdjson::SIMDJSON_PADDING + 1024);
        std::memcpy(text.data(), json.data(), json.size());
        return parser.iterate(text.data(), json.size(), text.size()).get(document);
    }
    // One huge answer must not pin its size in every thread for ever.
    void trim() {
        if (text.size() > 4 * 1024 * 1024) text = std::vector<char>(64 * 1024);
    }
};

// The text of a string as it stands, with its quotes.
std::string_view raw_text(ondemand::value value) {
    std::string_view raw = value.raw_json_token();
    if (raw.empty() || raw.front() != '"') return {};
    while (raw.back() == ' ' || raw.back() == '\n' || raw.back() == '\r' || raw.back() == '\t')
        raw.remove_suffix(1);
    return raw;
}

// Absent and null are the same; anything else must be a count within the bounds.
void read_count(ondemand::value value, std::int64_t max, std::int64_t& out, bool& seen, bool& refused) {
    bool is_null = false;
    if (!value.is_null().get(is_null) && is_null) return;
    std::int64_t count = 0;
    if (value.get_int64().get(count) || count < 0 || count > max) {
        refused = true;
        return;
    }
    out = count;
    seen = true;
}

// A duration, rounded up; some tell it as a text. What cannot be true is as if it were not told.
void read_seconds(ondemand::value value, std::int64_t max, std::int64_t& out) {
    ondemand::json_type type;
    double seconds = 0;
    if (value.type().get(type)) return;
    bool is_text = type == ondemand::json_type::string;
    if (is_text ? value.get_double_in_string().get(seconds) : value.get_double().get(seconds)) return;
    if (seconds > 0 && seconds <= static_cast<double>(max))
        out = std::max(out, static_cast<std::int64_t>(std::ceil(seconds)));
}

// What the prompt's or the answer's tokens were; anything but an object is ignored.
void read_details(ondemand::value value, const UsageBounds& bounds, billing::TokenUsage& usage,
                  bool& refused) {
    ondemand::json_type type;
    ondemand::object details;
    if (value.type().get(type) || type != ondemand::json_type::object || value.get_object().get(details))
        return;
    for (auto field : details) {
        ondemand::field member;
        if (std::move(field).get(member)) {
            refused = true;
            return;
        }
        auto key = member.key();
        bool ignored = false;
        if (key == "cached_tokens")
            read_count(member.value(), bounds.input_max, usage.cached, ignored, refused);
        else if (key == "cache_write_tokens" || key == "cache_creation_tokens")
            read_count(member.value(), bounds.input_max, usage.cache_write, ignored, refused);
        else if (key == "reasoning_tokens")
            read_count(member.value(), bounds.output_max, usage.reasoning, ignored, refused);
    }
}

ReportedUsage read_usage(ondemand::value value, const UsageBounds& bounds) {
    ReportedUsage report;
    bool is_null = false;
    if (!value.is_null().get(is_null) && is_null) return report;
    bool seen = false, refused = false, has_total = false;
    std::int64_t total = 0;
    ondemand::object usage;
    if (value.get_object().get(usage)) {
        refused = true;
    } else {
        for (auto field : usage) {
            ondemand::field member;
            if (std::move(field).get(member)) {
                refused = true;
                break;
            }
            auto key = member.key();
            if (key == "prompt_tokens" || key == "input_tokens") {
                read_count(member.value(), bounds.input_max, report.usage.input, seen, refused);
            } else if (key == "completion_tokens" || key == "output_tokens") {
                read_count(member.value(), bounds.output_max, report.usage.output, seen, refused);
            } else if (key == "seconds") {
                read_seconds(member.value(), bounds.seconds_max, report.seconds);
            } else if (key == "total_tokens" && bounds.output_max == 0) {
                read_count(member.value(), bounds.input_max, total, has_total, refused);
            } else if (key == "prompt_tokens_details" || key == "input_tokens_details" ||
                       key == "completion_tokens_details" || key == "output_tokens_details") {
                read_details(member.value(), bounds, report.usage, refused);
            }
        }
    }
    if (refused) return {.state = ReportedUsage::State::refused, .usage = {}};
    // Rerankers tell the total only.
    if (!seen && has_total) report.usage.input = total;
    if (!seen && !has_total) return {.usage = {}, .seconds = report.seconds};
    // Some providers count cached tokens beside the prompt's; never discount more than the prompt.
    billing::TokenUsage& counts = report.usage;
    counts.cached = std::min(counts.cached, counts.input);
    counts.cache_write = std::min(counts.cache_write, counts.input - counts.cached);
    // Nor take more for thought than for answers. (Some count it beside them.)
    counts.reasoning = std::min(counts.reasoning, counts.output);
    report.state = ReportedUsage::State::good;
    return report;
}

using Part = AnswerTokens::Part;

// Where the texts of an answer go beside being measured.
struct Texts {
    AnswerTokens* tokens = nullptr;
    void add(Part part, std::string_view text) const {
        if (tokens != nullptr) tokens->text(part, text);
    }
};

// The bytes of a text are all that an estimate needs. Half a surrogate pair cannot be decoded, but is sent
// on: then the bytes on the wire count.
std::string_view decoded_text(ondemand::value value) {
    ondemand::json_type type;
    if (value.type().get(type) || type != ondemand::json_type::string) return {};
    std::string_view raw = value.raw_json_token();
    std::string_view text;
    return value.get_string().get(text) ? raw : text;
}
std::size_t text_bytes(ondemand::value value) { return decoded_text(value).size(); }

simdjson::error_code read_call(ondemand::value value, std::size_t& bytes, const Texts& texts) {
    ondemand::object call;
    if (auto error = value.get_object().get(call)) return error;
    for (auto field : call) {
        ondemand::field member;
        if (auto error = std::move(field).get(member)) return error;
        auto key = member.key();
        if (key == "name" || key == "arguments") {
            std::string_view text = decoded_text(member.value());
            bytes += text.size();
            if (key == "arguments")
                texts.add(Part::arguments, text);
            else if (texts.tokens != nullptr)
                texts.tokens->call(text);
        }
        if (key == "function")
            if (auto error = read_call(member.value(), bytes, texts)) return error;
    }
    return SUCCESS;
}

bool is_of(ondemand::value& value, ondemand::json_type wanted) {
    ondemand::json_type type;
    return !value.type().get(type) && type == wanted;
}

template <class Key>
Part part_of(const Key& key) {
    if (key == "reasoning_content") return Part::reasoning;
    if (key == "reasoning") return Part::same_reasoning;
    return key == "refusal" ? Part::refusal : Part::content;
}

// delta of a chunk or message of an answer.
simdjson::error_code read_content(ondemand::value value, const Texts& texts, Completion& out) {
    if (!is_of(value, ondemand::json_type::object)) return SUCCESS;
    ondemand::object part;
    if (auto error = value.get_object().get(part)) return error;
    std::size_t bytes = 0;
    for (auto field : part) {
        ondemand::field member;
        if (auto error = std::move(field).get(member)) return error;
        auto key = member.key();
        ondemand::value content = member.value();
        if (key == "content" || key == "reasoning_content" || key == "reasoning" || key == "refusal") {
            std::string_view text = decoded_text(content);
            bytes += text.size();
            texts.add(part_of(key), text);
        } else if (key == "tool_calls" && is_of(content, ondemand::json_type::array)) {
            for (auto call : content.get_array()) {
                ondemand::value one;
                if (auto error = std::move(call).get(one)) return error;
                out.has_content = true;
                if (auto error = read_call(one, bytes, texts)) return error;
            }
        } else if (key == "function_call" && is_of(content, ondemand::json_type::object)) {
            if (auto error = read_call(content, bytes, texts)) return error;
        } else if (key == "audio" && is_of(content, ondemand::json_type::object)) {
            out.has_content = true;
        }
    }
    out.content_bytes += bytes;
    if (bytes > 0) out.has_content = true;
    return SUCCESS;
}

simdjson::error_code read_choices(ondemand::value value, std::string_view part_name, const Texts& texts,
                                  Completion& out) {
    ondemand::array choices;
    if (auto error = value.get_array().get(choices)) return error;
    for (auto element : choices) {
        ondemand::value choice;
        ondemand::object fields;
        if (auto error = std::move(element).get(choice)) return error;
        if (auto error = choice.get_object().get(fields)) return error;
        out.has_choices = true;
        for (auto field : fields) {
            ondemand::field member;
            if (auto error = std::move(field).get(member)) return error;
            auto key = member.key();
            ondemand::value inner = member.value();
            if (key == part_name) {
                if (auto error = read_content(inner, texts, out)) return error;
            } else if (key == "text") {
                std::string_view text = decoded_text(inner);
                out.content_bytes += text.size();
                if (!text.empty()) out.has_content = true;
                texts.add(Part::content, text);
            } else if (texts.tokens != nullptr && key == "index") {
                std::int64_t index = 0;
                if (!inner.get_int64().get(index)) texts.tokens->choice(index);
            } else if (key == "finish_reason" && is_of(inner, ondemand::json_type::string)) {
                out.has_finish = true;
                out.raw_finish = raw_text(inner);
            }
        }
        if (texts.tokens != nullptr) texts.tokens->end_choice();
    }
    return SUCCESS;
}

void read_error(ondemand::value value, Completion& out) {
    out.kind = Completion::Kind::error;
    std::string_view message;
    if (is_of(value, ondemand::json_type::string)) {
        if (!value.get_string().get(message)) out.error_message = message;
    } else if (is_of(value, ondemand::json_type::object)) {
        if (!value["message"].get_string().get(message)) out.error_message = message;
    }
}

// The `data` of an image answer: objects, each with an image or where it is.
simdjson::error_code read_images(ondemand::value value, Completion& out) {
    ondemand::array images;
    if (auto error = value.get_array().get(images)) return error;
    for (auto element : images) {
        ondemand::object image;
        if (auto error = element.get_object().get(image)) return error;
        bool is_there = false;
        for (auto field : image) {
            ondemand::field member;
            if (auto error = std::move(field).get(member)) return error;
            auto key = member.key();
            ondemand::value inner = member.value();
            if (key == "b64_json" || key == "url")
                is_there = is_there ||
                           (is_of(inner, ondemand::json_type::string) && inner.raw_json_token().size() > 2);
        }
        if (is_there) ++out.images;
    }
    out.has_choices = out.images > 0;
    return SUCCESS;
}

// What images are priced by; false for other members.
template <class Key>
bool read_look(const Key& key, ondemand::value& value, Completion& out) {
    bool is_size = key == "size";
    if (!is_size && !(key == "quality")) return false;
    std::string_view text;
    if (is_of(value, ondemand::json_type::string) && !value.get_string().get(text))
        (is_size ? out.size : out.quality) = text.substr(0, 64);
    return true;
}

// What an answer has instead of choices.
simdjson::error_code read_list(ondemand::value value, Endpoint endpoint, Completion& out) {
    if (info(endpoint).is_image) return read_images(value, out);
    if (endpoint == Endpoint::transcriptions || endpoint == Endpoint::translations) {
        if (!is_of(value, ondemand::json_type::string)) return simdjson::INCORRECT_TYPE;
        out.content_bytes += text_bytes(value);
        out.has_choices = true;
        return SUCCESS;
    }
    ondemand::array items;
    if (auto error = value.get_array().get(items)) return error;
    out.has_choices = true;
    return SUCCESS;
}

const char* list_name_of(Endpoint endpoint) {
    switch (endpoint) {
        case Endpoint::chat:
        case Endpoint::completions:
        case Endpoint::speech:
            return "choices";
        case Endpoint::embeddings:
        case Endpoint::images:
        case Endpoint::image_edits:
        case Endpoint::image_variations:
            return "data";
        case Endpoint::rerank:
        case Endpoint::moderations:
            return "results";
        case Endpoint::transcriptions:
        case Endpoint::translations:
            return "text";
    }
    return "choices";
}

struct Shape {
    std::string_view part_name;  // of a choice
    Endpoint endpoint = Endpoint::chat;
    std::size_t room = 0;
    Texts texts = {};
};

// Malformed unless the whole text is one object with `choices` (or what stands for them), or with an `error`.
Completion read(std::string_view text, const Shape& shape, const UsageBounds& bounds) {
    const std::string_view list_name = list_name_of(shape.endpoint);
    thread_local Scratch scratch;
    Completion malformed;
    Completion out;
    ondemand::object object;
    if (scratch.start(text, shape.room) || scratch.document.get_object().get(object)) return malformed;
    bool has_choices = false, has_error = false;
    for (auto field : object) {
        ondemand::field member;
        if (std::move(field).get(member)) return malformed;
        auto key = member.key();
        ondemand::value value = member.value();
        if (key == "error") {
            bool is_null = false;
            if (!value.is_null().get(is_null) && is_null) continue;
            read_error(value, out);
            has_error = true;
            break;
        }
        if (list_name != "choices" && key == list_name) {
            if (read_list(value, shape.endpoint, out)) return malformed;
            has_choices = true;
        } else if (key == "choices") {
            if (read_choices(value, shape.part_name, shape.texts, out)) return malformed;
            has_choices = true;
        } else if (key == "id") {
            out.raw_id = raw_text(value);
        } else if (key == "usage") {
            std::int64_t seconds = out.usage.seconds;
            out.usage = read_usage(value, bounds);
            out.usage.seconds = std::max(out.usage.seconds, seconds);
        } else if (info(shape.endpoint).is_image && read_look(key, value, out)) {
            continue;
        } else if (key == "duration" && bounds.seconds_max > 0) {
            read_seconds(value, bounds.seconds_max, out.usage.seconds);
        }
    }
    const char* more = nullptr;
    if (has_error) return out;
    if (!has_choices || !scratch.document.current_location().get(more)) return malformed;
    scratch.trim();
    out.kind = Completion::Kind::chunk;
    return out;
}

}  // namespace

Completion read_chunk(std::string_view data, const UsageBounds& bounds, AnswerTokens* texts) {
    if (data.empty()) return {.kind = Completion::Kind::comment};
    if (data == "[DONE]") return {.kind = Completion::Kind::done};
    return read(data, {.part_name = "delta", .texts = {texts}}, bounds);
}

Completion read_media_event(std::string_view data, const UsageBounds& bounds) {
    if (data.empty()) return {.kind = Completion::Kind::comment};
    if (data == "[DONE]") return {.kind = Completion::Kind::done};
    thread_local Scratch scratch;
    Completion out, malformed;
    ondemand::object object;
    if (scratch.start(data, 0) || scratch.document.get_object().get(object)) return malformed;
    for (auto field : object) {
        ondemand::field member;
        if (std::move(field).get(member)) return malformed;
        auto key = member.key();
        ondemand::value value = member.value();
        std::string_view text;
        if (key == "error") {
            bool is_null = false;
            if (!value.is_null().get(is_null) && is_null) continue;
            read_error(value, out);
            return out;
        }
        if (key == "type") {
            if (value.get_string().get(text)) return malformed;
            if (text == "error") return {.kind = Completion::Kind::error};
            bool is_image = text.starts_with("image_") && text.ends_with(".completed");
            out.has_finish = is_image || text.ends_with(".done");
            out.images = is_image ? 1 : 0;
        } else if (read_look(key, value, out)) {
            continue;
        } else if (key == "delta" || key == "text" || key == "b64_json" || key == "audio") {
            std::size_t bytes = value.raw_json_token().size();
            if (bytes > 2) out.has_content = true;
            if (key != "text") out.content_bytes += bytes;  // the text repeats what the deltas said
        } else if (key == "usage") {
            out.usage = read_usage(value, bounds);
        }
    }
    const char* more = nullptr;
    if (!scratch.document.current_location().get(more)) return malformed;
    scratch.trim();
    out.kind = Completion::Kind::chunk;
    return out;
}

Completion read_answer(std::string_view body, const UsageBounds& bounds, Endpoint endpoint, std::size_t room,
                       AnswerTokens* texts) {
    const Shape shape{.part_name = "message", .endpoint = endpoint, .room = room, .texts = {texts}};
    Completion out = read(body, shape, bounds);
    // An answer without a choice is none.
    if (out.kind == Completion::Kind::chunk && !out.has_choices) out.kind = Completion::Kind::malformed;
    return out;
}

std::int64_t estimate_tokens(std::size_t bytes, std::int64_t content_events) {
    return std::max(static_cast<std::int64_t>((bytes + 3) / 4), content_events);
}

}  // namespace nebula::gateway
