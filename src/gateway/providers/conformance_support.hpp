#pragma once
// Inside of the conformance suite: what an answer is for OpenAI's clients, and random conversations.

#include <gtest/gtest.h>

#include <boost/json/value.hpp>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/providers/conformance.hpp"

namespace nebula::gateway::conformance {

namespace json = boost::json;

inline std::string_view text_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_string() ? std::string_view(value->get_string())
                                                  : std::string_view();
}
inline const json::object* object_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr ? value->if_object() : nullptr;
}
inline const json::array* array_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr ? value->if_array() : nullptr;
}
inline std::int64_t count_of(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && value->is_int64() ? value->get_int64() : -1;
}
/// Bytes of the character at `at`.
inline std::size_t character_at(std::string_view text, std::size_t at) {
    auto lead = static_cast<unsigned char>(text[at]);
    std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    return std::min(length, text.size() - at);
}
json::value call_value(const Call& call);

/// Written out, without what the kind cannot say: two that mean the same are the same text.
std::string told(const Kind& kind, const Asked& asked);
std::string told(const Kind& kind, const Said& said);

/// A whole answer as OpenAI's clients read it.
Said read_answer_strictly(const std::string& body);

/// Puts the lines of a stream together as OpenAI's clients do, and checks the shape of each.
class StreamReader {
   public:
    void take(std::string_view lines);
    bool is_done() const { return is_done_; }
    bool has_finish() const { return !said_.finish.empty(); }
    const std::string& error() const { return error_; }
    Said said() const;

   private:
    void line(std::string_view text);
    void read_choice(const json::object& choice);
    void read_call(const json::object& call);

    Said said_{.finish = {}, .prompt = -1, .output = -1};
    std::string id_, error_;
    bool has_role_ = false, has_usage_ = false, is_done_ = false;
};

/// The same JSON (as serialize() writes it) with characters of its values written as escapes.
std::string escaped_randomly(std::string_view text, std::mt19937_64& random);

class Generator {
   public:
    explicit Generator(std::uint64_t seed) : random_(seed) {}
    std::mt19937_64& random() { return random_; }
    std::uint64_t below(std::uint64_t n) { return random_() % n; }
    std::string text(std::size_t words_max);
    std::string arguments();
    Call call(const std::string& id);
    Said said();
    std::string request();

   private:
    json::value content();
    std::mt19937_64 random_;
    int serial_ = 0;
};

}  // namespace nebula::gateway::conformance
