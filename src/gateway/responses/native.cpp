#include "gateway/responses/native.hpp"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <cstring>

#include "base/text.hpp"
#include "gateway/members.hpp"
#include "gateway/raw_json.hpp"
#include "gateway/routing/preferences.hpp"

namespace nebula::gateway::responses {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr std::int64_t tool_calls_max = 128;
constexpr std::int64_t output_tokens_max = 1'000'000'000;

std::unexpected<Error> bad(std::string param, const char* why) {
    std::string message = param + ": " + why;
    return fail(Code::invalid_request, std::move(message), std::move(param));
}

bool is_in(std::string_view word, auto& list) { return std::ranges::find(list, word) != std::end(list); }

// Tools that the client runs itself. What is not known here runs at the provider.
constexpr std::string_view client_tools[] = {"function",    "custom",   "local_shell",
                                             "apply_patch", "computer", "computer_use_preview"};
// What a conversation may hold without asking for anything to be run.
constexpr std::string_view plain_items[] = {"message",
                                            "reasoning",
                                            "compaction",
                                            "function_call",
                                            "function_call_output",
                                            "custom_tool_call",
                                            "custom_tool_call_output",
                                            "computer_call",
                                            "computer_call_output",
                                            "local_shell_call",
                                            "local_shell_call_output",
                                            "apply_patch_call",
                                            "apply_patch_call_output",
                                            "web_search_call",
                                            "file_search_call",
                                            "code_interpreter_call",
                                            "image_generation_call",
                                            "mcp_list_tools",
                                            "mcp_call",
                                            "mcp_approval_request",
                                            "mcp_approval_response"};

// JSON that is read where offsets into it matter.
class Text {
   public:
    explicit Text(std::string_view json) : padded_(json) {
        padded_.resize(json.size() + simdjson::SIMDJSON_PADDING);
        is_good_ = !parser_.iterate(padded_.data(), json.size(), padded_.size()).get(document_);
    }

    /// Calls `take(name, key_at, value)` for each member of the outer object; false: it is none, or broken.
    template <class Take>
    bool each_member(Take take) {
        ondemand::object object;
        if (!is_good_ || document_.get_object().get(object)) return false;
        for (auto field : object) {
            ondemand::field member;
            std::string_view name;
            if (std::move(field).get(member)) return false;
            std::size_t key_at = offset(member.key().raw() - 1);
            if (member.unescaped_key().get(name)) return false;
            Span where;
            std::string owned(name);
            if (!span_of(member.value(), where)) return false;
            take(owned, key_at, where);
        }
        return true;
    }
    /// The same for each element of the outer array, `take(object, where)`; false where one is no object.
    template <class Take>
    bool each_object(Take take) {
        ondemand::array array;
        if (!is_good_ || document_.get_array().get(array)) return false;
        for (auto element : array) {
            ondemand::value value;
            ondemand::object object;
            std::string_view raw;
            if (std::move(element).get(value) || value.get_object().get(object)) return false;
            if (object.raw_json().get(raw)) return false;
            Span where{offset(raw.data()), trimmed(raw).size()};
            if (object.reset().error() || !take(object, where)) return false;
        }
        return true;
    }

   private:
    static std::string_view trimmed(std::string_view token) {
        while (!token.empty() && static_cast<unsigned char>(token.back()) <= ' ') token.remove_suffix(1);
        return token;
    }
    std::size_t offset(const char* at) const { return static_cast<std::size_t>(at - padded_.data()); }
    bool span_of(ondemand::value value, Span& where) const {
        std::string_view raw;
        if (simdjson::to_json_string(value).get(raw)) return false;
        raw = trimmed(raw);
        where = {offset(raw.data()), raw.size()};
        return true;
    }

    std::string padded_;
    ondemand::parser parser_;
    ondemand::document document_;
    bool is_good_ = false;
};

/// What a tool or an item of the input says that matters here.
struct Seen {
    std::string type;
    int types = 0;              // a provider may read another one than we
    bool has_role = false;      // a message may leave its type out
    bool has_thoughts = false;  // encrypted ones, which need no looking up
};

struct Look {
    bool is_tool = false;
    bool has_media = false;  // tokens that bytes do not tell
};

bool names_file(ondemand::value value, Look& look, std::size_t& elements);

// Whether an object names a file or container in the operator's account at the provider, which any customer
// could name. In a conversation only parts that are read do: what a model quoted may be told again. True
// also for what cannot be read.
bool names_file(ondemand::object& object, Look& look, Seen& seen) {
    bool has_name = false, is_read = look.is_tool, is_below = false;
    for (auto field : object) {
        ondemand::field member;
        std::string_view name;
        if (std::move(field).get(member) || member.unescaped_key().get(name)) return true;
        std::string key(name), text;
        ondemand::value value = member.value();
        if (!raw::is_string(value)) {
            std::size_t elements = 0;
            is_below = names_file(value, look, elements) || is_below;
            has_name = has_name || (key == "file_ids" && elements > 0);
            continue;
        }
        if (key == "image_url" || key == "file_url") look.has_media = true;
        if (key == "type" || key == "encrypted_content" || key == "role") {
            if (!raw::take_text(value, text)) return true;
        } else {
            has_name =
                has_name || key == "file_id" || key == "container_id" || (look.is_tool && key == "container");
            continue;
        }
        if (key == "role") seen.has_role = true;
        if (key == "encrypted_content") seen.has_thoughts = !text.empty();
        if (key != "type") continue;
        bool is_part = text.starts_with("input_") || text == "computer_screenshot";
        is_read = is_read || is_part || text == "code_interpreter_call";
        look.has_media = look.has_media || (is_part && text != "input_text");
        seen.type = std::move(text);
        ++seen.types;
    }
    return is_below || (has_name && is_read);
}

// Of an array, `elements` are counted.
bool names_file(ondemand::value value, Look& look, std::size_t& elements) {
    if (raw::is_of(value, ondemand::json_type::object)) {
        ondemand::object object;
        Seen unused;
        return value.get_object().get(object) || names_file(object, look, unused);
    }
    if (!raw::is_of(value, ondemand::json_type::array)) return false;
    ondemand::array array;
    if (value.get_array().get(array)) return true;
    bool is_found = false;
    for (auto element : array) {
        ondemand::value inner;
        std::size_t below = 0;
        if (std::move(element).get(inner)) return true;
        is_found = names_file(inner, look, below) || is_found;
        ++elements;
    }
    return is_found;
}

class Reader {
   public:
    explicit Reader(std::string_view body) : body_(body) {}

    Result<Native> read() {
        native_.request.object_open = body_.find('{') + 1;
        Result<void> done;
        bool is_object =
            Text(body_).each_member([&](const std::string& name, std::size_t key_at, Span where) {
                if (done) done = take(name, key_at, where);
            });
        if (!done) return fail(std::move(done.error()));
        if (!is_object) return fail(Code::invalid_request, "the request body must be a JSON object");
        return finish();
    }

   private:
    using Done = Result<void>;

    Done take(const std::string& name, std::size_t key_at, Span where) {
        struct Member {
            std::string_view name;
            Done (Reader::*read)(Span where);
        };
        static constexpr Member members[] = {
            {"model", &Reader::read_model},
            {"input", &Reader::read_input},
            {"stream", &Reader::read_stream},
            {"store", &Reader::read_store},
            {"max_output_tokens", &Reader::read_output_cap},
            {"max_tool_calls", &Reader::read_tool_cap},
            {"tools", &Reader::read_tools},
            {"temperature", &Reader::read_temperature},
            {"previous_response_id", &Reader::read_previous},
            {"conversation", &Reader::read_none},
            {"prompt", &Reader::read_none},
            {"background", &Reader::read_background},
        };
        Span whole{key_at, where.at + where.length - key_at};
        if (routing::member_of(name) == routing::Member::ours) {
            if (name == "models") native_.request.models_member = whole;
            native_.ours.push_back(whole);
            return {};
        }
        for (std::size_t i = 0; i < std::size(members); ++i) {
            if (name != members[i].name) continue;
            if ((seen_ & (1u << i)) != 0) return bad(name, "is given more than once");
            seen_ |= 1u << i;
            name_ = name;
            if (name == "previous_response_id") {
                native_.previous = whole;
                native_.ours.push_back(whole);
            }
            return (this->*members[i].read)(where);
        }
        return {};
    }

    std::string_view at(Span where) const { return body_.substr(where.at, where.length); }
    bool is_null(Span where) const { return at(where) == "null"; }

    Done read_model(Span where) {
        native_.request.model = raw::decoded(at(where));
        if (!at(where).starts_with('"') || native_.request.model.empty())
            return bad(name_, "a string is required");
        native_.request.model_value = where;
        return {};
    }
    Done read_stream(Span where) {
        native_.request.stream = at(where) == "true";
        return is_flag(where);
    }
    Done read_store(Span where) {
        native_.store = where;
        return is_flag(where);
    }
    Done read_background(Span where) {
        if (at(where) == "true") return bad(name_, "nothing runs in the background here");
        return is_flag(where);
    }
    Done is_flag(Span where) const {
        std::string_view text = at(where);
        if (text == "true" || text == "false" || text == "null") return {};
        return bad(name_, "must be true or false");
    }
    Done read_count(Span where, std::int64_t max, std::optional<std::int64_t>& out) const {
        if (is_null(where)) return {};
        out = parse_int<std::int64_t>(at(where));
        if (!out || *out < 1 || *out > max) return bad(name_, "must be a whole number of at least 1");
        return {};
    }
    Done read_output_cap(Span where) {
        native_.max_output_tokens = where;
        return read_count(where, output_tokens_max, native_.request.max_tokens);
    }
    Done read_tool_cap(Span where) {
        native_.max_tool_calls = where;
        return read_count(where, tool_calls_max, tool_calls_);
    }
    Done read_temperature(Span) {
        native_.request.has_temperature = true;
        return {};
    }
    // Resolved or refused before (see translate()).
    Done read_previous(Span) { return {}; }
    // They lie in the operator's account there.
    Done read_none(Span where) {
        return is_null(where) ? Done() : bad(name_, "nothing of the kind is kept at the provider");
    }

    Done read_tools(Span where) {
        if (is_null(where)) return {};
        Done done;
        bool is_list = Text(at(where)).each_object([&](ondemand::object& tool, Span) {
            Seen seen;
            Look look{.is_tool = true};
            bool is_file = names_file(tool, look, seen);
            bool is_ours = is_in(seen.type, client_tools);
            if (seen.types != 1)
                done = bad(name_, "each tool has one type");
            else if (is_file && !is_ours)
                done = bad(name_, "files and containers of the provider cannot be named");
            if (!is_ours) native_.hosted.push_back(std::move(seen.type));
            return done.has_value();
        });
        return !is_list && done ? bad(name_, "must be an array of objects") : done;
    }

    Done read_input(Span where) {
        if (is_null(where)) return {};
        native_.input = where;
        native_.input_is_text = at(where).starts_with('"');
        if (native_.input_is_text) return {};
        Done done;
        Look look;
        bool is_list = Text(at(where)).each_object([&](ondemand::object& item, Span place) {
            Seen seen;
            bool is_file = names_file(item, look, seen);
            std::string param = "input[" + std::to_string(native_.items++) + "]";
            if (is_file)
                done = bad(param, "files and containers are not kept here; give the data itself");
            else if (seen.types > 1)
                done = bad(param, "type is given more than once");
            else if (seen.type == "item_reference" || (seen.types == 0 && !seen.has_role))
                done = bad(param, "items are not kept under their ids here; give the item itself");
            if (seen.type == "reasoning" && !seen.has_thoughts)
                native_.forgotten.push_back({where.at + place.at, place.length});
            else if (seen.types > 0 && !is_in(seen.type, plain_items))
                native_.hosted.push_back(std::move(seen.type));
            return done.has_value();
        });
        native_.request.has_media = look.has_media;
        return !is_list && done ? bad(name_, "must be a string or an array of items") : done;
    }

    Result<Native> finish() {
        ChatRequest& request = native_.request;
        if (request.model.empty()) return bad("model", "a string is required");
        request.prompt_bytes = body_.size();
        if (!native_.hosted.empty()) {
            request.has_media = true;
            request.tool_calls_max = tool_calls_.value_or(tool_calls_default);
        }
        return std::move(native_);
    }

    std::string_view body_;
    Native native_;
    std::optional<std::int64_t> tool_calls_;
    unsigned seen_ = 0;
    std::string name_;
};

// Ids of these belong to what the provider keeps; those of all others may be left out.
bool has_own_id(std::string_view type) {
    bool is_told = type == "function_call" || type == "custom_tool_call";
    return (type.ends_with("_call") && !is_told) || type.starts_with("mcp_") || type == "compaction";
}

std::string_view text_of(const boost::json::object& object, std::string_view name) {
    return members::text_of(object, name);
}

}  // namespace

Result<Native> read_native(std::string_view body) { return Reader(body).read(); }

std::string edit_native(std::string_view body, const Native& native, const Edits& wanted,
                        std::string_view earlier) {
    const ChatRequest& request = native.request;
    const std::size_t open = request.object_open;
    std::vector<Edit> edits;
    auto set = [&](const std::optional<Span>& where, std::string_view name, std::string value) {
        if (where)
            edits.push_back({*where, std::move(value)});
        else
            edits.push_back({{open, 0}, "\"" + std::string(name) + "\":" + value + ","});
    };
    if (!wanted.upstream_model.empty() && wanted.upstream_model != request.model)
        edits.push_back({request.model_value, json_string(wanted.upstream_model)});
    std::vector<Span> removed;
    for (const Span& one : native.ours) {
        auto is = [&one](const std::optional<Span>& other) { return other && other->at == one.at; };
        if (!wanted.keeps_routing || is(native.previous) || is(request.models_member)) removed.push_back(one);
    }
    add_removals(body, removed, edits);
    set(native.store, "store", "false");
    if (wanted.output_cap && request.max_tokens.value_or(*wanted.output_cap + 1) > *wanted.output_cap)
        set(native.max_output_tokens, "max_output_tokens", std::to_string(*wanted.output_cap));
    if (!wanted.temperature.empty() && !request.has_temperature)
        set({}, "temperature", std::string(wanted.temperature));
    if (!native.hosted.empty() && request.tool_calls_max == tool_calls_default)
        set(native.max_tool_calls, "max_tool_calls", std::to_string(tool_calls_default));
    add_removals(body, native.forgotten, edits);
    if (!earlier.empty()) {
        std::string before(earlier);
        if (!native.input) {
            edits.push_back({{open, 0}, R"("input":[)" + before + "],"});
        } else if (native.input_is_text) {
            edits.push_back({{native.input->at, 0}, "[" + before + R"(,{"role":"user","content":)"});
            edits.push_back({{native.input->at + native.input->length, 0}, "}]"});
        } else {
            bool is_last = native.items == native.forgotten.size();
            edits.push_back({{native.input->at + 1, 0}, before + (is_last ? "" : ",")});
        }
    }
    return apply_edits(body, std::move(edits)).joined();
}

std::string items_to_send(const boost::json::array& earlier) {
    std::string out;
    for (const boost::json::value& one : earlier) {
        const boost::json::object* item = one.if_object();
        if (item == nullptr) continue;
        std::string_view type = text_of(*item, "type");
        if (type == "reasoning" && text_of(*item, "encrypted_content").empty()) continue;
        if (!out.empty()) out += ',';
        if (has_own_id(type)) {
            out += boost::json::serialize(*item);
            continue;
        }
        boost::json::object without = *item;
        without.stable_erase("id");
        out += boost::json::serialize(without);
    }
    return out;
}

std::optional<Marked> mark_response(std::string_view json, bool is_event, const Marks& marks) {
    std::string_view object = json;
    std::size_t begin = 0;
    Marked marked;
    if (is_event) {
        std::optional<Span> found;
        bool is_object = Text(json).each_member([&](const std::string& name, std::size_t, Span where) {
            if (name == "response" && json[where.at] == '{') found = where;
            if (name == "type") marked.type = raw::decoded(json.substr(where.at, where.length));
        });
        if (!is_object || !found) return std::nullopt;
        begin = found->at;
        object = json.substr(begin, found->length);
    }
    struct Member {
        std::string_view name;
        std::string value;
        bool is_there = false;
    };
    Member members[] = {
        {"id", json_string(marks.id)},
        {"store", marks.is_stored ? "true" : "false"},
        {"previous_response_id", marks.previous.empty() ? "null" : json_string(marks.previous)}};
    std::vector<Edit> edits;
    bool is_object = Text(object).each_member([&](const std::string& name, std::size_t, Span where) {
        for (Member& member : members) {
            if (name != member.name) continue;
            edits.push_back({where, member.value});
            member.is_there = true;
        }
    });
    std::size_t open = object.find('{');
    if (!is_object || open == std::string_view::npos) return std::nullopt;
    bool is_empty = object.find_first_not_of(" \t\r\n", open + 1) == object.rfind('}');
    std::string added;
    for (const Member& member : members) {
        if (member.is_there) continue;
        added += "\"" + std::string(member.name) + "\":" + member.value + ",";
    }
    if (is_empty && !added.empty()) added.pop_back();
    if (!added.empty()) edits.push_back({{open + 1, 0}, added});
    marked.object = apply_edits(object, std::move(edits)).joined();
    marked.json =
        std::string(json.substr(0, begin)) + marked.object + std::string(json.substr(begin + object.size()));
    return marked;
}

}  // namespace nebula::gateway::responses
