#pragma once
// Counting without holding up an I/O thread: small texts at once, larger ones on a thread of their own.

#include <memory>
#include <optional>
#include <string_view>

#include "async/async.hpp"
#include "async/blocking_pool.hpp"
#include "base/metrics.hpp"
#include "gateway/tokens/answer_tokens.hpp"
#include "gateway/tokens/prompt_tokens.hpp"

namespace nebula::gateway {

class Counting {
   public:
    static constexpr std::size_t inline_bytes_max = 16 * 1024;  // about a millisecond
    static constexpr std::size_t bytes_max = 8 * 1024 * 1024;   // of JSON; beyond, tokens are estimated
    static constexpr std::size_t queue_max = 64;

    explicit Counting(metrics::Registry& registry);

    using Tokens = std::shared_ptr<const tokenizer::Tokenizer>;
    /// The views' owner awaits at once. Empty: too large, too much to do, or no JSON.
    Async<std::optional<PromptTokens>> prompt(Tokens tokenizer, Endpoint endpoint, std::string_view request);
    /// Of a whole JSON answer in OpenAI's words.
    Async<std::optional<std::int64_t>> answer(Tokens tokenizer, Endpoint endpoint, std::string_view answer);
    /// Of what a stream brought.
    Async<std::optional<std::int64_t>> finish(AnswerTokens& stream);

   private:
    template <class T, class F>
    Async<std::optional<T>> run(std::size_t bytes, F count);

    metrics::Counter& exact_;
    metrics::Counter& skipped_;
    BlockingPool pool_{1, queue_max};
};

}  // namespace nebula::gateway
