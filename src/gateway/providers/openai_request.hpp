#pragma once
// Reading OpenAI's requests for providers of other APIs.

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "gateway/members.hpp"

namespace nebula::gateway::openai_request {

namespace json = boost::json;
using members::object_of;
using members::text_of;

/// invalid_request: "`param` `why`".
std::unexpected<Error> bad(std::string param, const std::string& why);

Result<json::object> parse(std::string_view body);

/// Null when absent or JSON's null.
const json::value* member(const json::object& object, std::string_view name);
/// The smaller one of the two caps.
std::optional<std::int64_t> output_cap(const json::object& request);
/// `stop` as the list that it may be.
json::array stop_list(const json::object& request);

/// The parts of data:TYPE;base64,DATA.
struct DataUrl {
    std::string_view type;
    std::string_view base64;
};
std::optional<DataUrl> data_url(std::string_view url);

/// The URL of an image_url part, which is an object or the text itself.
std::string_view url_of(const json::object& part, std::string_view name);

/// Arguments of a call: an object there, a text here. What is no object is kept as the text it is.
json::object arguments_of(std::string_view text);

/// How much the model is to think, in every form that clients know (reasoning_effort, reasoning,
/// include_reasoning).
struct Reasoning {
    bool is_asked = false;  // something was said about it
    bool is_off = false;    // none at all
    std::string effort;     // minimal, low, medium, high, xhigh, max; empty: as the model likes
    std::optional<std::int64_t> tokens_max;
    bool is_hidden = false;  // think, but do not tell
};
Result<Reasoning> reasoning_of(const json::object& request);

/// The name that belongs to a result's call, from the calls seen so far.
class CallNames {
   public:
    void seen(std::string_view id, std::string_view name) { names_[std::string(id)] = name; }
    std::string_view of(std::string_view id) const {
        auto found = names_.find(id);
        return found == names_.end() ? std::string_view() : std::string_view(found->second);
    }

   private:
    std::map<std::string, std::string, std::less<>> names_;
};

/// `input` of embeddings as texts; tokens are refused.
Result<json::array> embedding_inputs(const json::object& request);
/// Whether vectors are wanted as base64; refuses unknown formats.
Result<bool> wants_base64(const json::object& request);

}  // namespace nebula::gateway::openai_request
