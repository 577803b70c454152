#pragma once
// Exact token counts of texts by byte-level BPE, from vocabularies that the operator obtained: OpenAI's rank
// files and Hugging Face's tokenizer.json.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace nebula::tokenizer {

/// Whose text splitting and chat template it is. other: what a tokenizer.json says itself.
enum class Family : std::uint8_t { gpt2, p50k, cl100k, o200k, llama3, qwen2, other };
const char* family_name(Family family);

/// Tokens that chat templates write around the texts: OpenAI's as its cookbook counts them ("How to count
/// tokens with tiktoken"), Llama 3's and Qwen's as their published templates write them.
struct ChatOverhead {
    std::int64_t message = 3;  // around each message, without its role
    std::int64_t name = 1;     // of its sender, beside the name's own
    std::int64_t reply = 3;    // what opens the answer, and the begin of the text
};

/// What counting took: merges looked at. Tells tests that long words do not take quadratic time.
struct Work {
    std::uint64_t steps = 0;
};

class Counter;

/// A vocabulary with its rules; immutable, for any thread.
class Tokenizer {
   public:
    static constexpr std::size_t file_bytes_max = 64 * 1024 * 1024;
    static constexpr std::size_t entries_max = 1'000'000;
    static constexpr std::size_t text_bytes_max = 4 * 1024 * 1024;
    static constexpr std::size_t piece_bytes_max = 512 * 1024;  // one word; longer ones occur in attacks only

    /// `content` of a rank file or tokenizer.json; `name` stands in errors. `family` is for rank files whose
    /// number of entries does not tell it; empty: it must. Errors: invalid_request, with line or member.
    static Result<std::shared_ptr<const Tokenizer>> parse(std::string_view content, const std::string& name,
                                                          std::string_view family = {});
    /// Reads the file; who names it again while it is unchanged and in use gets the same object.
    static Result<std::shared_ptr<const Tokenizer>> load(const std::string& path,
                                                         std::string_view family = {});
    ~Tokenizer();
    Tokenizer(const Tokenizer&) = delete;
    Tokenizer& operator=(const Tokenizer&) = delete;

    /// Tokens of a text. Spellings of special tokens in it are text like any other; bytes that are no UTF-8
    /// count as U+FFFD. Empty: above the bounds.
    std::optional<std::int64_t> count(std::string_view text, Work* work = nullptr) const;
    Family family() const;
    ChatOverhead chat() const;
    std::size_t entries() const;
    /// "cl100k, 100256 entries"
    std::string describe() const;

    struct Parts;  // the module's own

   private:
    friend class Counter;
    explicit Tokenizer(std::unique_ptr<const Parts> parts);
    std::unique_ptr<const Parts> parts_;
};

/// Counts a text that comes in pieces, cut anywhere between characters. Keeps 16 KiB, or what one word needs
/// if that is more; the end of a stream that nobody asks for costs nothing. One thread.
class Counter {
   public:
    explicit Counter(std::shared_ptr<const Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) {}
    void add(std::string_view piece);
    /// Tokens of the whole text; nothing may be added afterwards. Empty: above the bounds.
    std::optional<std::int64_t> finish();
    std::size_t held_bytes() const { return raw_.size() + pending_.size(); }

   private:
    void drain(bool is_end);
    void normalize(bool is_end);

    std::shared_ptr<const Tokenizer> tokenizer_;
    std::string raw_;      // not yet composed
    std::string pending_;  // not yet counted
    std::size_t drain_at_ = 0;
    std::int64_t tokens_ = 0;
    bool has_begun_ = false;
    bool has_failed_ = false;
};

}  // namespace nebula::tokenizer
