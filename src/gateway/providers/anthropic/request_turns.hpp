#pragma once
// The conversation of a chat request as Messages tells it: systems apart, turns of user and assistant that
// alternate, results of tools first in theirs.

#include <boost/json/value.hpp>
#include <string>

#include "base/result.hpp"
#include "gateway/members.hpp"

namespace nebula::gateway::anthropic {

struct Turns {
    boost::json::value system;  // null, a string, or blocks
    boost::json::array turns;
    /// False: the assistant's turn that tools were just called in lacks its signed thoughts. The API refuses
    /// to go on thinking behind it.
    bool may_think = true;
};
Result<Turns> read_turns(const boost::json::object& chat_request);

/// invalid_request naming the member.
std::unexpected<Error> bad(std::string param, const std::string& why);
/// OpenRouter's clients mark parts for caching as Anthropic's do.
void copy_cache_control(const boost::json::object& from, boost::json::object& to);

}  // namespace nebula::gateway::anthropic
