#pragma once
// Tokens of an answer whose provider reports none, from the texts that came.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/tokenizer.hpp"

namespace nebula::gateway {

/// Filled while an answer or the chunks of a stream are read. Texts are kept, at most 16 KiB each, and
/// counted when more comes or somebody asks: whoever reports usage costs a copy.
class AnswerTokens {
   public:
    /// Texts of one choice that the model made one by one. `same_reasoning`: some providers tell thoughts
    /// under both names.
    enum class Part : std::uint8_t { content, reasoning, same_reasoning, refusal, arguments };
    static constexpr std::size_t lanes_max = 128;
    static constexpr std::size_t held_bytes_max = 1024 * 1024;

    /// `text_bytes_max`: of one text that comes at once; above it nothing is counted.
    AnswerTokens(std::shared_ptr<const tokenizer::Tokenizer> tokenizer, std::size_t text_bytes_max)
        : tokenizer_(std::move(tokenizer)), text_bytes_max_(text_bytes_max) {}

    /// Of the choice that is being read.
    void text(Part part, std::string_view text);
    /// A call of a tool begins: its arguments are not those of the one before.
    void call(std::string_view name);
    /// The choice's number; texts that came before it are of that choice, too.
    void choice(std::int64_t index);
    void end_choice();

    std::size_t held_bytes() const;
    /// Nothing may be added afterwards. Empty: above the bounds.
    std::optional<std::int64_t> count();

   private:
    struct Lane {
        std::int64_t choice;
        Part part;
        tokenizer::Counter counter;
        std::int64_t tokens = 0;  // of what ended
    };
    struct Early {
        Part part;
        bool is_call;
        std::string text;
    };
    void add(Part part, std::string_view text);
    void begin_call(std::string_view name);
    Lane* lane(Part part);

    std::shared_ptr<const tokenizer::Tokenizer> tokenizer_;
    const std::size_t text_bytes_max_;
    std::vector<Lane> lanes_;
    std::vector<Early> early_;  // texts of a choice whose number is not known yet
    std::optional<std::int64_t> choice_;
    std::optional<std::int64_t> counted_;
    bool has_failed_ = false;
};

}  // namespace nebula::gateway
