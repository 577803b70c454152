#include "gateway/guardrails/texts.hpp"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/text.hpp"

namespace nebula::gateway::guardrails {
namespace {

constexpr std::size_t depth_max = 512;
constexpr std::size_t number_bytes_min = 7;  // shorter ones identify nobody

// Members that hold words of the protocol or bytes of media.
constexpr std::string_view words[] = {"role",
                                      "type",
                                      "id",
                                      "tool_call_id",
                                      "tool_use_id",
                                      "call_id",
                                      "model",
                                      "media_type",
                                      "mime_type",
                                      "mimeType",
                                      "format",
                                      "detail",
                                      "signature",
                                      "data",
                                      "url",
                                      "image_url",
                                      "file_data",
                                      "images",
                                      "input_audio",
                                      "thought",
                                      "thoughtSignature",
                                      "cache_control",
                                      "status",
                                      "encrypted_content",
                                      "tool_choice",
                                      "service_tier",
                                      "encoding_format",
                                      "reasoning_effort",
                                      "modalities",
                                      "verbosity"};
// Members below which every value is the client's own.
constexpr std::string_view own_values[] = {"input",    "arguments", "args",
                                           "response", "output",    "partial_json"};

bool is_in(std::string_view name, auto& list) { return std::ranges::find(list, name) != std::end(list); }

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

void append_utf8(std::string& out, std::uint32_t c) {
    if (c < 0x80) {
        out += static_cast<char>(c);
    } else if (c < 0x800) {
        out += static_cast<char>(0xC0 | (c >> 6));
        out += static_cast<char>(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        out += static_cast<char>(0xE0 | (c >> 12));
        out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
        out += static_cast<char>(0x80 | (c & 0x3F));
    } else {
        out += static_cast<char>(0xF0 | (c >> 18));
        out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
        out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
        out += static_cast<char>(0x80 | (c & 0x3F));
    }
}

std::optional<std::uint32_t> hex4(std::string_view text) {
    if (text.size() < 4) return std::nullopt;
    std::uint32_t value = 0;
    auto [end, problem] = std::from_chars(text.data(), text.data() + 4, value, 16);
    if (problem != std::errc() || end != text.data() + 4) return std::nullopt;
    return value;
}

class Walker {
   public:
    Walker(std::string_view json, const EditText& edit) : json_(json), edit_(edit) {}

    /// `is_own`: the document is itself a value of the client's.
    bool walk(bool is_own) {
        stack_.clear();
        if (!value({.is_own = is_own})) return false;
        while (!stack_.empty()) {
            if (!step()) return false;
        }
        skip();
        if (at_ != json_.size()) return false;
        if (out_.is_changed) out_.json.append(json_.substr(copied_));
        return true;
    }
    EditedTexts take() {
        if (!out_.is_changed) out_.json = json_;
        return std::move(out_);
    }

   private:
    /// What is known of a value from where it stands.
    struct Place {
        bool is_own = false;     // every value counts
        bool is_word = false;    // of the protocol: not looked at
        bool is_prompt = false;  // outermost prompt or input: numbers are tokens
        bool is_list = false;    // outermost messages or contents: elements are counted
        bool is_arguments = false;
    };
    struct Frame {
        bool is_object;
        bool is_first = true;
        Place place;
    };

    void skip() {
        while (at_ < json_.size() && is_space(json_[at_])) ++at_;
    }
    char peek() {
        skip();
        return at_ < json_.size() ? json_[at_] : '\0';
    }

    // One member or element, or the end of the innermost container.
    bool step() {
        Frame& frame = stack_.back();
        char close = frame.is_object ? '}' : ']';
        if (peek() == close) {
            ++at_;
            stack_.pop_back();
            return true;
        }
        if (!frame.is_first) {
            if (peek() != ',') return false;
            ++at_;
        }
        frame.is_first = false;
        if (!frame.is_object) {
            Place place = frame.place;
            if (place.is_list) ++out_.messages;
            place.is_list = false;
            return value(place);
        }
        if (peek() != '"') return false;
        auto name = raw_string();
        if (!name || peek() != ':') return false;
        ++at_;
        return value(place_of(frame.place, decode_string(*name)));
    }

    Place place_of(const Place& outer, std::string_view name) const {
        Place place{.is_own = outer.is_own, .is_word = outer.is_word};
        bool is_outermost = stack_.size() == 1;
        if (outer.is_own || outer.is_word) return place;
        if (is_outermost) {
            place.is_prompt = name == "prompt" || name == "input";
            place.is_list = name == "messages" || name == "contents";
            place.is_word = is_in(name, words) && !place.is_prompt;
            return place;
        }
        place.is_word = is_in(name, words);
        place.is_own = is_in(name, own_values);
        place.is_arguments = name == "arguments" || name == "partial_json";
        return place;
    }

    bool value(Place place) {
        char c = peek();
        if (c == '{' || c == '[') {
            if (stack_.size() >= depth_max) return false;
            ++at_;
            place.is_list = place.is_list && c == '[';
            if (c == '{') place.is_prompt = false;
            stack_.push_back({c == '{', true, place});
            return true;
        }
        if (c == '"') {
            std::size_t begin = at_;
            auto raw = raw_string();
            if (!raw) return false;
            if (!place.is_word) take_text(*raw, begin, place);
            return true;
        }
        std::size_t begin = at_;
        while (at_ < json_.size() &&
               std::string_view(",]} \n\r\t").find(json_[at_]) == std::string_view::npos)
            ++at_;
        std::string_view token = json_.substr(begin, at_ - begin);
        if (token.empty()) return false;
        bool is_number = token.front() == '-' || (token.front() >= '0' && token.front() <= '9');
        if (!is_number) return token == "true" || token == "false" || token == "null";
        if (place.is_prompt) out_.has_tokens = true;
        if (place.is_own && token.size() >= number_bytes_min) take_number(token, begin);
        return true;
    }

    std::optional<std::string_view> raw_string() {
        std::size_t begin = ++at_;
        while (at_ < json_.size() && json_[at_] != '"') {
            if (json_[at_] == '\\') ++at_;
            ++at_;
        }
        if (at_ >= json_.size()) return std::nullopt;
        return json_.substr(begin, at_++ - begin);
    }

    void take_text(std::string_view raw, std::size_t begin, const Place& place) {
        std::string decoded;
        std::string_view text = raw;
        if (raw.find('\\') != std::string_view::npos) text = decoded = decode_string(raw);
        std::string instead;
        if (place.is_arguments && take_arguments(text, instead)) {
            if (!instead.empty()) replace(begin, instead);
            return;
        }
        out_.bytes += text.size();
        if (edit_(text, instead)) replace(begin, instead);
    }

    // JSON in a string: the texts in it. False when it is none.
    bool take_arguments(std::string_view text, std::string& instead) {
        std::size_t first = text.find_first_not_of(" \n\r\t");
        if (first == std::string_view::npos || text[first] != '{') return false;
        // Half a document must change nothing: it is looked at as text then.
        static const EditText leave = [](std::string_view, std::string&) { return false; };
        if (!Walker(text, leave).walk(true)) return false;
        Walker inner(text, edit_);
        inner.walk(true);
        out_.bytes += inner.out_.bytes;
        if (inner.out_.is_changed) instead = inner.take().json;
        return true;
    }

    void take_number(std::string_view token, std::size_t begin) {
        std::string instead;
        if (edit_(token, instead)) replace(begin, instead);
    }

    void replace(std::size_t begin, std::string_view text) {
        out_.is_changed = true;
        out_.json.append(json_.substr(copied_, begin - copied_));
        out_.json += '"';
        append_json_escaped(out_.json, text);
        out_.json += '"';
        copied_ = at_;
    }

    std::string_view json_;
    const EditText& edit_;
    std::size_t at_ = 0;
    std::size_t copied_ = 0;  // so far json_ has been taken over
    std::vector<Frame> stack_;
    EditedTexts out_;
};

}  // namespace

std::string decode_string(std::string_view raw) {
    std::string out;
    out.reserve(raw.size());
    for (std::size_t at = 0; at < raw.size(); ++at) {
        if (raw[at] != '\\' || at + 1 >= raw.size()) {
            out += raw[at];
            continue;
        }
        char c = raw[++at];
        constexpr std::string_view from = "nrtbf", to = "\n\r\t\b\f";
        if (auto known = from.find(c); known != std::string_view::npos) {
            out += to[known];
        } else if (c != 'u') {
            out += c;
        } else {
            auto unit = hex4(raw.substr(at + 1));
            at += unit ? 4 : 0;
            std::uint32_t code = unit.value_or(0xFFFD);
            if (code >= 0xD800 && code < 0xDC00 && raw.substr(at + 1).starts_with("\\u")) {
                auto low = hex4(raw.substr(at + 3));
                if (low && *low >= 0xDC00 && *low < 0xE000) {
                    code = 0x10000 + ((code - 0xD800) << 10) + (*low - 0xDC00);
                    at += 6;
                }
            }
            append_utf8(out, code >= 0xD800 && code < 0xE000 ? 0xFFFD : code);
        }
    }
    return out;
}

std::optional<std::string> edit_own_texts(std::string_view text, const EditText& edit) {
    std::size_t first = text.find_first_not_of(" \n\r\t");
    if (first != std::string_view::npos && text[first] == '{') {
        static const EditText leave = [](std::string_view, std::string&) { return false; };
        if (Walker(text, leave).walk(true)) {
            Walker walker(text, edit);
            walker.walk(true);
            EditedTexts edited = walker.take();
            if (edited.is_changed) return std::move(edited.json);
            return std::nullopt;
        }
    }
    std::string instead;
    if (edit(text, instead)) return instead;
    return std::nullopt;
}

Result<EditedTexts> edit_texts(std::string_view json, const EditText& edit) {
    Walker walker(json, edit);
    if (!walker.walk(false)) return fail(Code::invalid_request, "the request body is not valid JSON");
    return walker.take();
}

}  // namespace nebula::gateway::guardrails
