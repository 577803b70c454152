#pragma once
// What the rails leave of an answer: of OpenAI's whole answers and chunks, before any edge tells them. The
// texts of each choice are filtered as they arrive; arguments of tools are judged whole, at the end of the
// choice. A rail that blocks ends the choice where the match began, with the finish reason content_filter.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/guardrails/rails.hpp"

namespace nebula::gateway::guardrails {

class OutputGuard {
   public:
    static constexpr std::size_t channels_max = 256;             // texts that one stream may carry
    static constexpr std::size_t arguments_bytes_max = 1 << 20;  // kept back in all

    /// Keeps references. `placeholders` may be empty. `matched` gets each rail that found something, once.
    OutputGuard(const std::vector<const Rail*>& rails, const Placeholders& placeholders,
                std::vector<const Rail*>& matched);
    ~OutputGuard();

    /// One chunk's JSON. Appends the chunks to be told instead, each ended by a line feed. False: it cannot
    /// be judged (malformed, or beyond a bound).
    bool chunk(std::string_view data, std::string& lines);
    /// The stream is whole: what is left of choices that never finished.
    void finish(std::string& lines);
    /// Another provider's stream begins.
    void restart();
    /// Remembers so many bytes of what the client sees of the first choice.
    void listen(std::size_t bytes_max);
    std::string_view said() const;
    /// A whole answer. upstream_failed when it is malformed.
    Result<std::string> answer(std::string_view json);

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// The answer with nothing said: for an answer that is refused as a whole.
std::string withheld(std::string_view answer);

}  // namespace nebula::gateway::guardrails
