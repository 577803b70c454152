#include "gateway/providers/anthropic/request_turns.hpp"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <utility>

namespace nebula::gateway::anthropic {
namespace {

namespace json = boost::json;
using namespace members;

json::object text_block(std::string_view text) { return {{"type", "text"}, {"text", text}}; }

// The API takes no other characters in ids; other providers' ids have them.
std::string tool_id(std::string_view id) {
    std::string out(id);
    for (char& c : out) {
        bool is_fine = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       c == '_' || c == '-';
        if (!is_fine) c = '_';
    }
    return out;
}

// "data:image/png;base64,…" as its halves; empty when it is none.
struct DataUrl {
    std::string_view media_type, data;
};
DataUrl data_url(std::string_view url) {
    std::size_t comma = url.find(',');
    if (!url.starts_with("data:") || comma == std::string_view::npos) return {};
    std::string_view head = url.substr(5, comma - 5);
    if (!head.ends_with(";base64")) return {};
    return {head.substr(0, head.find(';')), url.substr(comma + 1)};
}

bool is_http(std::string_view url) { return url.starts_with("https://") || url.starts_with("http://"); }

class Reader {
   public:
    Result<Turns> read(const json::object& from) {
        const json::array* messages = array_of(from, "messages");
        if (messages == nullptr) return bad("messages", "must be an array");
        std::size_t index = 0;
        for (const json::value& item : *messages) {
            where_ = "messages." + std::to_string(index++);
            const json::object* message = item.if_object();
            if (message == nullptr) return bad(where_, "must be an object");
            auto done = read_message(*message);
            if (!done) return fail(std::move(done.error()));
        }
        if (out_.turns.empty())
            return bad("messages",
                       "at least one message of a user is required by the provider of this model");
        finish();
        return std::move(out_);
    }

   private:
    Result<void> read_message(const json::object& message) {
        std::string_view role = text_of(message, "role");
        const json::value* content = message.if_contains("content");
        if (content != nullptr && !content->is_null() && !content->is_string() && !content->is_array())
            return bad(where_ + ".content", "must be a string or an array of parts");
        if (role == "system" || role == "developer") return read_system(content);
        if (role == "assistant") return read_assistant(message, content);
        if (role == "tool") return read_result(message, content);
        if (role != "user") return bad(where_ + ".role", "must be system, user, assistant or tool");
        auto blocks = parts(content);
        if (!blocks) return fail(std::move(blocks.error()));
        add("user", std::move(*blocks));
        goes_on_ = false;
        return {};
    }

    Result<void> read_system(const json::value* content) {
        auto blocks = parts(content);
        if (!blocks) return fail(std::move(blocks.error()));
        for (json::value& block : *blocks) {
            if (text_of(block.get_object(), "type") != "text")
                return bad(where_ + ".content", "system messages are text");
            system_.push_back(std::move(block));
        }
        return {};
    }

    Result<void> read_assistant(const json::object& message, const json::value* content) {
        json::array blocks;
        if (const json::array* details = array_of(message, "reasoning_details"))
            add_thoughts(*details, blocks);
        if (!std::exchange(goes_on_, true)) has_thoughts_ = !blocks.empty();
        auto said = parts(content);
        if (!said) return fail(std::move(said.error()));
        for (json::value& block : *said) blocks.push_back(std::move(block));
        if (std::string_view refusal = text_of(message, "refusal"); !refusal.empty())
            blocks.push_back(text_block(refusal));
        if (const json::array* calls = array_of(message, "tool_calls"))
            for (const json::value& item : *calls) {
                const json::object* call = item.if_object();
                const json::object* function = call != nullptr ? object_of(*call, "function") : nullptr;
                if (function == nullptr)
                    return bad(where_ + ".tool_calls", "the provider of this model takes functions only");
                blocks.push_back(json::object{{"type", "tool_use"},
                                              {"id", tool_id(text_of(*call, "id"))},
                                              {"name", text_of(*function, "name")},
                                              {"input", input_of(text_of(*function, "arguments"))}});
            }
        add("assistant", std::move(blocks));
        return {};
    }

    // Only signed thoughts may be sent back; what has no signature is left out.
    static void add_thoughts(const json::array& details, json::array& blocks) {
        json::object open;  // text and signature may come as entries of their own, as they were streamed
        auto close = [&] {
            if (!text_of(open, "signature").empty()) blocks.push_back(open);
            open.clear();
        };
        std::int64_t open_index = -1;
        for (const json::value& item : details) {
            const json::object* detail = item.if_object();
            if (detail == nullptr) continue;
            std::string_view type = text_of(*detail, "type");
            if (type == "reasoning.encrypted") {
                close();
                if (std::string_view data = text_of(*detail, "data"); !data.empty())
                    blocks.push_back(json::object{{"type", "redacted_thinking"}, {"data", data}});
            }
            if (type != "reasoning.text") continue;
            const json::value* place = detail->if_contains("index");
            std::int64_t index = place != nullptr && place->is_int64() ? place->get_int64() : -1;
            if (!open.empty() && (index != open_index || !text_of(open, "signature").empty())) close();
            open_index = index;
            if (open.empty()) open = {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}};
            json::string& thinking = open["thinking"].get_string();
            thinking.append(text_of(*detail, "text"));
            if (std::string_view signature = text_of(*detail, "signature"); !signature.empty())
                open["signature"] = signature;
        }
        close();
    }

    static json::value input_of(std::string_view arguments) {
        if (arguments.empty()) return json::object();
        boost::system::error_code failed;
        json::parse_options options;
        options.max_depth = 512;
        json::value input = json::parse(arguments, failed, {}, options);
        // A model may have written arguments that are no JSON object; the text must not be lost.
        if (failed || !input.is_object()) return json::object{{"arguments", arguments}};
        return input;
    }

    Result<void> read_result(const json::object& message, const json::value* content) {
        std::string_view id = text_of(message, "tool_call_id");
        if (id.empty()) return bad(where_ + ".tool_call_id", "a tool message needs the id of its call");
        auto blocks = parts(content);
        if (!blocks) return fail(std::move(blocks.error()));
        json::object result{{"type", "tool_result"}, {"tool_use_id", tool_id(id)}};
        if (!blocks->empty()) result["content"] = collapsed(std::move(*blocks));
        json::array turn;
        turn.push_back(std::move(result));
        add("user", std::move(turn));
        return {};
    }

    // Empty texts are left out: the API refuses them.
    Result<json::array> parts(const json::value* content) const {
        json::array blocks;
        if (content == nullptr || content->is_null()) return blocks;
        if (content->is_string()) {
            if (!content->get_string().empty()) blocks.push_back(text_block(content->get_string()));
            return blocks;
        }
        for (const json::value& item : content->get_array()) {
            const json::object* part = item.if_object();
            if (part == nullptr) return bad(where_ + ".content", "parts must be objects");
            auto block = read_part(*part);
            if (!block) return fail(std::move(block.error()));
            if (block->empty()) continue;
            copy_cache_control(*part, *block);
            blocks.push_back(std::move(*block));
        }
        return blocks;
    }

    Result<json::object> read_part(const json::object& part) const {
        std::string_view type = text_of(part, "type");
        if (type == "text" || type == "refusal") {
            std::string_view text = text_of(part, type);
            return text.empty() ? json::object() : text_block(text);
        }
        if (type == "image_url") {
            const json::object* image = object_of(part, "image_url");
            return read_source("image",
                               image != nullptr ? text_of(*image, "url") : text_of(part, "image_url"));
        }
        if (type == "file") {
            const json::object* file = object_of(part, "file");
            std::string_view data = file != nullptr ? text_of(*file, "file_data") : std::string_view();
            if (data.empty())
                return bad(where_ + ".content",
                           "files must come with their file_data: the provider has no others");
            auto block = read_source("document", data);
            if (block && !text_of(*file, "filename").empty()) (*block)["title"] = text_of(*file, "filename");
            return block;
        }
        return bad(where_ + ".content", "a part of type '" + std::string(type) +
                                            "' cannot be given to the provider of this model");
    }

    Result<json::object> read_source(const char* type, std::string_view url) const {
        json::object source;
        if (auto [media_type, data] = data_url(url); !data.empty())
            source = {{"type", "base64"}, {"media_type", media_type}, {"data", data}};
        else if (is_http(url))
            source = {{"type", "url"}, {"url", url}};
        else
            return bad(where_ + ".content",
                       std::string(type) + "s need a data: URL in base64 or an http URL");
        return json::object{{"type", type}, {"source", std::move(source)}};
    }

    // Behind a turn of the same role it becomes part of that one.
    void add(const char* role, json::array blocks) {
        if (blocks.empty()) return;
        if (out_.turns.empty() || text_of(out_.turns.back().get_object(), "role") != role) {
            out_.turns.push_back(json::object{{"role", role}, {"content", std::move(blocks)}});
            results_ = 0;
        } else {
            json::array& turn = out_.turns.back().get_object()["content"].get_array();
            for (json::value& block : blocks) {
                bool is_result = text_of(block.get_object(), "type") == "tool_result";
                auto place = is_result ? turn.begin() + static_cast<std::ptrdiff_t>(results_) : turn.end();
                if (is_result) ++results_;
                turn.insert(place, std::move(block));
            }
            return;
        }
        const json::array& turn = out_.turns.back().get_object()["content"].get_array();
        for (const json::value& block : turn)
            if (text_of(block.get_object(), "type") == "tool_result") ++results_;
    }

    void finish() {
        bool has_results = results_ > 0 && text_of(out_.turns.back().get_object(), "role") == "user";
        out_.may_think = !has_results || has_thoughts_;
        for (json::value& turn : out_.turns) {
            json::value& content = turn.get_object()["content"];
            content = collapsed(std::move(content.get_array()));
        }
        if (system_.empty()) return;
        bool is_plain = std::ranges::none_of(
            system_, [](const json::value& block) { return block.get_object().contains("cache_control"); });
        if (!is_plain) {
            out_.system = std::move(system_);
            return;
        }
        std::string text;
        for (const json::value& block : system_) {
            if (!text.empty()) text += "\n\n";
            text += text_of(block.get_object(), "text");
        }
        out_.system = text;
    }

    // One plain text is told as such.
    static json::value collapsed(json::array blocks) {
        bool is_plain = blocks.size() == 1 && blocks[0].get_object().size() == 2 &&
                        text_of(blocks[0].get_object(), "type") == "text";
        if (is_plain) return std::move(blocks[0].get_object()["text"]);
        return blocks;
    }

    Turns out_;
    json::array system_;
    std::string where_;
    std::size_t results_ = 0;    // at the front of the last turn
    bool goes_on_ = false;       // the assistant has spoken since the user did
    bool has_thoughts_ = false;  // what it said then began with signed thoughts
};

}  // namespace

Result<Turns> read_turns(const json::object& chat_request) { return Reader().read(chat_request); }

std::unexpected<Error> bad(std::string param, const std::string& why) {
    std::string message = param + ": " + why;
    return fail(Code::invalid_request, std::move(message), std::move(param));
}

void copy_cache_control(const json::object& from, json::object& to) {
    if (const json::object* control = object_of(from, "cache_control")) to["cache_control"] = *control;
}

}  // namespace nebula::gateway::anthropic
