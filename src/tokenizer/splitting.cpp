#include "tokenizer/splitting.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>

namespace nebula::tokenizer {
namespace {

constexpr std::size_t pattern_bytes_max = 64 * 1024;
constexpr std::uint32_t match_limit = 20'000'000;
constexpr std::uint32_t heap_limit_kib = 64 * 1024;  // of a program that may not compile at run time
constexpr std::size_t jit_stack_first = 32 * 1024, jit_stack_max = 1024 * 1024;

// White space as Unicode defines it and as tiktoken and Oniguruma read \s; PCRE2's has U+180E too.
constexpr std::string_view white =
    R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

// As published: OpenAI's in tiktoken (openai_public.py), Llama 3's and Qwen's with their models. S is white
// space. cl100k's and gpt2's end is tiktoken's present spelling.
constexpr std::string_view gpt2_pattern =
    R"('(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++\z|\s+(?!\S)|\s)";
constexpr std::string_view cl100k_pattern =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+)"
    R"(|\s++\z|\s*[\r\n]|\s+(?!\S)|\s)";
constexpr std::string_view o200k_pattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view llama3_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen2_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::string_view source_of(Family family) {
    switch (family) {
        case Family::gpt2:
        case Family::p50k:
        case Family::other:
            return gpt2_pattern;
        case Family::cl100k:
            return cl100k_pattern;
        case Family::o200k:
            return o200k_pattern;
        case Family::llama3:
            return llama3_pattern;
        case Family::qwen2:
            return qwen2_pattern;
    }
    return gpt2_pattern;
}

// Reads a pattern from left to right and writes it for PCRE2.
class Translation {
   public:
    explicit Translation(std::string_view pattern) : pattern_(pattern) {}

    Result<std::string> run() {
        while (at_ < pattern_.size() && problem_.empty()) {
            char c = pattern_[at_];
            if (c == '\\')
                escape();
            else if (in_class_)
                in_class(c);
            else
                outside(c);
        }
        if (problem_.empty() && in_class_) problem_ = "has an open bracket";
        if (problem_.empty()) return std::move(out_);
        return fail(Code::invalid_request, problem_);
    }

   private:
    void refuse(std::string_view what) {
        if (problem_.empty()) problem_ = "has " + std::string(what) + ", which libraries read differently";
    }
    void copy(std::size_t bytes) {
        out_ += pattern_.substr(at_, bytes);
        at_ += std::min(bytes, pattern_.size() - at_);
    }

    void in_class(char c) {
        std::string_view rest = pattern_.substr(at_);
        if (c == '[') return refuse("a bracket within brackets");
        if (rest.starts_with("&&")) return refuse("&&");
        if (c == ']') in_class_ = false;
        copy(1);
    }

    void outside(char c) {
        std::string_view rest = pattern_.substr(at_);
        if (c == '.' || c == '^') return refuse(std::string_view(&c, 1));
        if (c == '$') {
            if (!pattern_.substr(0, at_).ends_with("\\s++")) return refuse("$");
            out_ += "\\z";
            ++at_;
            return;
        }
        if (rest.starts_with("(?<") || rest.starts_with("(*") || rest.starts_with("(?P") ||
            rest.starts_with("(?#") || rest.starts_with("(?(") || rest.starts_with("(?>"))
            return refuse(rest.substr(0, 3));
        // {1,3}+ repeats for Oniguruma and holds on for PCRE2: the same where nothing follows that could give
        // way, which nobody proves here.
        if (c == '}' && rest.size() > 1 && rest[1] == '+') return refuse("}+");
        if (c == '[') {
            in_class_ = true;
            copy(rest.starts_with("[^") ? 2 : 1);
            if (pattern_.substr(at_).starts_with(']')) refuse("empty brackets");
            return;
        }
        copy(1);
    }

    void escape() {
        if (at_ + 1 >= pattern_.size()) return refuse("a lonely backslash");
        char c = pattern_[at_ + 1];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (c == 's') {
            out_ += in_class_ ? std::string(white) : "[" + std::string(white) + "]";
            at_ += 2;
        } else if (c == 'S' && !in_class_) {
            out_ += "[^" + std::string(white) + "]";
            at_ += 2;
        } else if (c == 'd' || c == 'D') {
            out_ += c == 'd' ? "\\p{Nd}" : "\\P{Nd}";
            at_ += 2;
        } else if ((c == 'p' || c == 'P') && at_ + 2 < pattern_.size() && pattern_[at_ + 2] == '{') {
            property();
        } else if (c == 'x' && at_ + 2 < pattern_.size() && pattern_[at_ + 2] == '{') {
            std::size_t close = pattern_.find('}', at_);
            if (close == std::string_view::npos || close > at_ + 12) return refuse("an open \\x{");
            copy(close + 1 - at_);
        } else if (c == 'r' || c == 'n' || c == 't' || c == 'f' || !is_letter) {
            copy(2);
        } else if (c == 'z' && !in_class_) {
            copy(2);
        } else {
            refuse(pattern_.substr(at_, 2));
        }
    }

    // Categories have one letter or two; longer names are scripts, which PCRE2 would read as the wider
    // Script_Extensions.
    void property() {
        std::size_t close = pattern_.find('}', at_);
        if (close == std::string_view::npos || close > at_ + 32) return refuse("an open \\p{");
        std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
        auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
        if (name.empty() || !std::ranges::all_of(name, is_letter))
            return refuse(pattern_.substr(at_, close + 1 - at_));
        out_ += pattern_.substr(at_, 3);
        if (name.size() > 2) out_ += "sc:";
        out_.append(name) += '}';
        at_ = close + 1;
    }

    std::string_view pattern_;
    std::size_t at_ = 0;
    bool in_class_ = false;
    std::string out_;
    std::string problem_;
};

// What a match needs to run; each thread has one.
struct Scratch {
    pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
    pcre2_match_context* context = pcre2_match_context_create(nullptr);
    pcre2_jit_stack* stack = pcre2_jit_stack_create(jit_stack_first, jit_stack_max, nullptr);
    Scratch() {
        pcre2_set_match_limit(context, match_limit);
        pcre2_set_heap_limit(context, heap_limit_kib);
        pcre2_jit_stack_assign(context, nullptr, stack);
    }
    ~Scratch() {
        pcre2_jit_stack_free(stack);
        pcre2_match_context_free(context);
        pcre2_match_data_free(data);
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
};

}  // namespace

std::string pattern_of(Family family) {
    // Its classes are all of those that can be translated, but for possessive counts.
    std::string out;
    std::string_view pattern = source_of(family);
    bool in_class = false;
    for (std::size_t i = 0; i < pattern.size(); ++i) {
        bool is_white = pattern.substr(i).starts_with("\\s"), is_black = pattern.substr(i).starts_with("\\S");
        if (is_white || is_black) {
            out += in_class ? std::string(white) : (is_white ? "[" : "[^") + std::string(white) + "]";
            ++i;
            continue;
        }
        if (pattern[i] == '[' || pattern[i] == ']') in_class = pattern[i] == '[';
        out += pattern[i];
    }
    return out;
}

Family family_of_pattern(std::string_view pattern) {
    for (Family family : {Family::gpt2, Family::cl100k, Family::o200k, Family::llama3, Family::qwen2}) {
        std::string known(source_of(family));
        if (auto at = known.find("\\z"); at != std::string::npos) known.replace(at, 2, "$");
        if (pattern == known) return family;
    }
    return Family::other;
}

Result<std::string> translated_pattern(std::string_view pattern) {
    if (pattern.size() > pattern_bytes_max) return fail(Code::invalid_request, "is too long");
    // Spelled with possessive counts that change nothing.
    if (Family family = family_of_pattern(pattern); family != Family::other) return pattern_of(family);
    return Translation(pattern).run();
}

void Splitter::Free::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

Result<Splitter> Splitter::compile(const std::string& pattern, Gaps gaps) {
    int problem = 0;
    std::size_t where = 0;
    constexpr std::uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE | PCRE2_NEVER_BACKSLASH_C;
    Splitter splitter;
    splitter.gaps_ = gaps;
    splitter.code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options,
                                       &problem, &where, nullptr));
    if (!splitter.code_) {
        std::array<PCRE2_UCHAR, 200> words{};
        pcre2_get_error_message(problem, words.data(), words.size());
        return fail(Code::invalid_request,
                    "cannot be compiled: " + std::string(reinterpret_cast<const char*>(words.data())));
    }
    std::uint32_t matches_empty = 0;
    pcre2_pattern_info(splitter.code_.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
    if (matches_empty != 0) return fail(Code::invalid_request, "matches nothing at all");
    // Where memory must not become code, the interpreter does the same more slowly.
    pcre2_jit_compile(splitter.code_.get(), PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
    return splitter;
}

Splitter::Match Splitter::next(std::string_view text, std::size_t from, bool is_end) const {
    thread_local Scratch scratch;
    std::uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY | (is_end ? 0 : PCRE2_PARTIAL_HARD);
    int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                            options, scratch.data, scratch.context);
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(scratch.data);
    if (found >= 0) return {Match::Kind::found, bounds[0], bounds[1]};
    if (found == PCRE2_ERROR_NOMATCH) return {Match::Kind::none};
    if (found == PCRE2_ERROR_PARTIAL) return {Match::Kind::unfinished, bounds[0], text.size()};
    return {Match::Kind::failed};
}

}  // namespace nebula::tokenizer
