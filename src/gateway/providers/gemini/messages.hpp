#pragma once
// The conversation of a chat request as Gemini's contents.

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <string>

#include "base/result.hpp"
#include "gateway/providers/openai_request.hpp"

namespace nebula::gateway::gemini {

/// One use. Turns of the same side become one content: results of calls made together must come together.
class Contents {
   public:
    /// `demands_signatures`: the model refuses calls of earlier turns without one (Gemini 3).
    explicit Contents(bool demands_signatures) : demands_signatures_(demands_signatures) {}

    Result<void> read(const boost::json::object& openai);
    boost::json::array take() { return std::move(contents_); }
    /// Parts of the system's instruction; may be empty.
    boost::json::array take_system() { return std::move(system_); }

   private:
    Result<void> add(const boost::json::object& message);
    Result<void> add_parts(const boost::json::object& message, boost::json::array& parts) const;
    Result<void> add_part(const boost::json::object& part, boost::json::array& parts) const;
    Result<void> add_media(std::string_view url, boost::json::array& parts) const;
    Result<void> add_assistant(const boost::json::object& message);
    Result<void> add_calls(const boost::json::object& message, boost::json::array& parts);
    Result<void> add_result(const boost::json::object& message);
    /// Of the call, or of the text when `id` is empty; empty: none was kept.
    std::string_view signature_of(const boost::json::object& message, std::string_view id) const;
    boost::json::array& turn_of(const char* role);

    const bool demands_signatures_;
    boost::json::array contents_, system_;
    std::string where_;
    openai_request::CallNames names_;
};

}  // namespace nebula::gateway::gemini
