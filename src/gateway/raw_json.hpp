#pragma once
// JSON strings that are passed on as they stand: between quotes, undecoded. The parser checks escapes only
// where it decodes them; what goes out undecoded is checked here.

#include <simdjson.h>

#include <cstring>
#include <string_view>
#include <vector>

namespace nebula::gateway {

inline bool is_of(simdjson::ondemand::value& value, simdjson::ondemand::json_type wanted) {
    simdjson::ondemand::json_type type;
    return !value.type().get(type) && type == wanted;
}
inline bool is_string(simdjson::ondemand::value& value) {
    return is_of(value, simdjson::ondemand::json_type::string);
}

/// The string with its quotes, as it stands in the provider's event; valid as long as that text. False when
/// it is no string of JSON. Halves of surrogate pairs are let through: providers cut texts between them.
bool raw_string(simdjson::ondemand::value& value, std::string_view& raw);

/// A parser that keeps its buffers. The parser wants padding behind the text; a copy of a small event is
/// cheaper than proving that it has some.
class JsonScratch {
   public:
    /// Views into the document are valid until the next start().
    simdjson::error_code start(std::string_view json, simdjson::ondemand::object& object) {
        if (text_.size() < json.size() + simdjson::SIMDJSON_PADDING)
            text_.resize(json.size() + simdjson::SIMDJSON_PADDING + 1024);
        std::memcpy(text_.data(), json.data(), json.size());
        if (auto error = parser_.iterate(text_.data(), json.size(), text_.size()).get(document_))
            return error;
        return document_.get_object().get(object);
    }
    /// Whether the object, read to its end, was all there is.
    bool is_at_end() {
        const char* more = nullptr;
        return document_.current_location().get(more) != simdjson::SUCCESS;
    }

   private:
    simdjson::ondemand::parser parser_;
    simdjson::ondemand::document document_;
    std::vector<char> text_;
};

}  // namespace nebula::gateway
