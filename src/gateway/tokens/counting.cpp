#include "gateway/tokens/counting.hpp"

#include "gateway/completion.hpp"

namespace nebula::gateway {

Counting::Counting(metrics::Registry& registry)
    : exact_(registry.counter("nebula_token_counts_total", "Texts to be counted by a model's vocabulary.",
                              {{"result", "exact"}})),
      skipped_(registry.counter("nebula_token_counts_total", "Texts to be counted by a model's vocabulary.",
                                {{"result", "skipped"}})) {
    registry.gauge_callback("nebula_token_counts_queued", "Large texts that wait to be counted.",
                            [this] { return static_cast<std::int64_t>(pool_.queued()); });
}

// `count` returns std::optional<T> and holds only what lives until this is done.
template <class T, class F>
Async<std::optional<T>> Counting::run(std::size_t bytes, F count) {
    std::optional<T> counted;
    if (bytes <= inline_bytes_max) {
        counted = count();
    } else if (bytes <= bytes_max) {
        auto work = [count = std::move(count)]() -> Result<std::optional<T>> { return count(); };
        auto done = co_await pool_.run(std::move(work));
        if (done) counted = *done;
    }
    (counted ? exact_ : skipped_).add();
    co_return counted;
}

Async<std::optional<PromptTokens>> Counting::prompt(Tokens tokenizer, Endpoint endpoint,
                                                    std::string_view request) {
    auto count = [tokenizer = std::move(tokenizer), endpoint, request] {
        return prompt_tokens(*tokenizer, endpoint, request);
    };
    co_return co_await run<PromptTokens>(request.size(), std::move(count));
}

Async<std::optional<std::int64_t>> Counting::answer(Tokens tokenizer, Endpoint endpoint,
                                                    std::string_view answer) {
    auto count = [tokenizer = std::move(tokenizer), endpoint, answer]() -> std::optional<std::int64_t> {
        AnswerTokens tokens(tokenizer, tokenizer::Tokenizer::text_bytes_max);
        if (read_answer(answer, {}, endpoint, 0, &tokens).kind != Completion::Kind::chunk)
            return std::nullopt;
        return tokens.count();
    };
    co_return co_await run<std::int64_t>(answer.size(), std::move(count));
}

Async<std::optional<std::int64_t>> Counting::finish(AnswerTokens& stream) {
    auto count = [&stream] { return stream.count(); };
    co_return co_await run<std::int64_t>(stream.held_bytes(), count);
}

}  // namespace nebula::gateway
