// Hugging Face's tokenizer.json, as far as it is BPE over bytes.
#include <simdjson.h>

#include <array>

#include "tokenizer/parts.hpp"
#include "tokenizer/utf8.hpp"

namespace nebula::tokenizer {
namespace {

namespace dom = simdjson::dom;
using Problem = std::optional<Error>;

constexpr std::size_t steps_max = 16;  // of normalizers and pre-tokenizers

Error refused(const std::string& member, const std::string& why) {
    return {.code = Code::invalid_request, .message = member + " " + why};
}

std::string_view text_of(dom::element object, const char* name) {
    std::string_view text;
    return object[name].get(text) ? std::string_view() : text;
}

bool flag_of(dom::element object, const char* name, bool usual) {
    bool value = usual;
    return object[name].get(value) ? usual : value;
}

// Absent, null, or as good as that.
bool is_empty(dom::element object, const char* name) {
    dom::element value;
    std::string_view text;
    double number = 0;
    if (object[name].get(value) || value.is_null()) return true;
    if (!value.get(text)) return text.empty();
    return !value.get(number) && number == 0;
}

// GPT-2's way to write bytes as characters: printable ones stand for themselves, the others follow U+0100.
class ByteAlphabet {
   public:
    ByteAlphabet() {
        bytes_.fill(-1);
        char32_t next = 256;
        for (int byte = 0; byte < 256; ++byte) {
            bool is_itself = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
            bytes_[is_itself ? static_cast<std::size_t>(byte) : next++] = static_cast<std::int16_t>(byte);
        }
    }
    // False: it has a character that stands for no byte.
    bool decode(std::string_view text, std::string& out) const {
        out.clear();
        for (std::size_t at = 0; at < text.size();) {
            char32_t c = next_character(text, at);
            if (c >= bytes_.size() || bytes_[c] < 0) return false;
            out += static_cast<char>(bytes_[c]);
        }
        return true;
    }

   private:
    std::array<std::int16_t, 256 + 68> bytes_{};
};

class Reader {
   public:
    Result<std::unique_ptr<Tokenizer::Parts>> read(std::string_view content) {
        dom::parser parser(Tokenizer::file_bytes_max + 1);
        dom::element root;
        if (auto problem = parser.parse(content.data(), content.size(), true).get(root))
            return fail(Code::invalid_request,
                        std::string("is no JSON: ") + simdjson::error_message(problem));
        if (!root.is_object()) return fail(Code::invalid_request, "is no JSON object");
        if (Problem problem = read_model(root)) return fail(std::move(*problem));
        dom::element part;
        if (!root["normalizer"].get(part))
            if (Problem problem = read_normalizer(part, "normalizer")) return fail(std::move(*problem));
        if (root["pre_tokenizer"].get(part) || part.is_null())
            return fail(refused("pre_tokenizer", "is missing: texts would not be cut as bytes"));
        if (Problem problem = read_splitting(part, "pre_tokenizer")) return fail(std::move(*problem));
        if (!has_bytes_)
            return fail(refused("pre_tokenizer", "has no ByteLevel: this is no vocabulary over bytes"));
        if (parts_->family == Family::llama3 && !is_llama(root)) parts_->family = Family::other;
        return std::move(parts_);
    }

   private:
    Problem read_model(dom::element root) {
        dom::element model;
        if (root["model"].get(model) || !model.is_object()) return refused("model", "is missing");
        std::string_view type = text_of(model, "type");
        // The oldest files do not say it.
        bool is_bpe = type == "BPE" || (type.empty() && !model["merges"].error());
        if (!is_bpe)
            return refused("model.type",
                           "is \"" + std::string(type) + "\"; only BPE over bytes can be counted");
        if (flag_of(model, "byte_fallback", false))
            return refused("model.byte_fallback", "is true: this is a SentencePiece vocabulary");
        for (const char* name : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"})
            if (!is_empty(model, name)) return refused(std::string("model.") + name, "is not supported");
        parts_->ranking = Ranking::by_pairs;
        parts_->takes_whole_words = flag_of(model, "ignore_merges", false);
        if (Problem problem = read_entries(model)) return problem;
        return read_merges(model);
    }

    Problem read_entries(dom::element model) {
        dom::object entries;
        if (model["vocab"].get(entries)) return refused("model.vocab", "is no object");
        std::size_t count = 0;
        for (auto entry : entries) {
            (void)entry;
            if (++count > Tokenizer::entries_max)
                return refused("model.vocab",
                               "has more than " + std::to_string(Tokenizer::entries_max) + " entries");
        }
        parts_->vocabulary = Vocabulary(count);
        std::string bytes;
        for (auto entry : entries) {
            std::uint64_t id = 0;
            if (entry.value.get(id) || id >= Vocabulary::none)
                return refused("model.vocab",
                               "has an entry whose value is no id: \"" + shown(entry.key) + "\"");
            // Special tokens may stand here, too: no text can become them.
            if (!alphabet_.decode(entry.key, bytes)) continue;
            parts_->vocabulary.add(bytes, static_cast<std::uint32_t>(id));
        }
        for (int byte = 0; byte < 256; ++byte)
            if (parts_->vocabulary.of_byte(static_cast<char>(byte)) == Vocabulary::none)
                return refused("model.vocab", "lacks the entry of the byte " + std::to_string(byte));
        return std::nullopt;
    }

    Problem read_merges(dom::element model) {
        dom::array merges;
        if (model["merges"].get(merges)) return refused("model.merges", "is no list");
        if (merges.size() > Tokenizer::entries_max)
            return refused("model.merges",
                           "has more than " + std::to_string(Tokenizer::entries_max) + " entries");
        // The size of a huge list is not told exactly.
        std::size_t count = 0;
        for (dom::element merge : merges) {
            (void)merge;
            if (++count > Tokenizer::entries_max) return refused("model.merges", "has too many entries");
        }
        parts_->vocabulary.reserve_merges(count);
        std::uint32_t rank = 0;
        for (dom::element merge : merges) {
            if (!add_merge(merge, rank))
                return refused("model.merges[" + std::to_string(rank) + "]",
                               "is no pair of entries that make a third one");
            ++rank;
        }
        return std::nullopt;
    }

    bool add_merge(dom::element merge, std::uint32_t rank) {
        std::string_view left, right, line;
        dom::array pair;
        if (!merge.get(line)) {
            std::size_t space = line.find(' ');
            if (space == std::string_view::npos) return false;
            left = line.substr(0, space);
            right = line.substr(space + 1);
        } else if (merge.get(pair) || pair.size() != 2 || pair.at(0).get(left) || pair.at(1).get(right)) {
            return false;
        }
        if (!alphabet_.decode(left, left_) || !alphabet_.decode(right, right_)) return false;
        const Vocabulary& entries = parts_->vocabulary;
        std::uint32_t first = entries.find(left_), second = entries.find(right_),
                      made = entries.find(left_ + right_);
        if (first == Vocabulary::none || second == Vocabulary::none || made == Vocabulary::none) return false;
        parts_->vocabulary.add_merge(first, second, {rank, made});
        return true;
    }

    Problem read_normalizer(dom::element part, const std::string& member) {
        if (part.is_null()) return std::nullopt;
        std::string_view type = text_of(part, "type");
        if (type == "NFC") {
            parts_->composes = true;
            return std::nullopt;
        }
        if (type != "Sequence")
            return refused(member, "of type \"" + std::string(type) + "\" is not supported");
        return read_list(part, "normalizers", member, &Reader::read_normalizer);
    }

    Problem read_list(dom::element part, const char* name, const std::string& member,
                      Problem (Reader::*read)(dom::element, const std::string&)) {
        dom::array list;
        if (part[name].get(list)) return refused(member + "." + name, "is no list");
        std::size_t i = 0;
        for (dom::element one : list) {
            if (++steps_ > steps_max) return refused(member, "has too many steps");
            if (Problem problem = (this->*read)(one, member + "[" + std::to_string(i++) + "]"))
                return problem;
        }
        return std::nullopt;
    }

    Problem read_splitting(dom::element part, const std::string& member) {
        std::string_view type = text_of(part, "type");
        if (has_bytes_) return refused(member, "stands behind ByteLevel");
        if (type == "Sequence") return read_list(part, "pretokenizers", member, &Reader::read_splitting);
        if (type == "Split") return read_split(part, member);
        if (type == "Digits") {
            bool each = flag_of(part, "individual_digits", false);
            return add_splitter(each ? "\\p{N}" : "\\p{N}+", Splitter::Gaps::kept, member);
        }
        if (type != "ByteLevel")
            return refused(member,
                           "of type \"" + std::string(type) + "\" is not supported: only BPE over bytes is");
        has_bytes_ = true;
        if (flag_of(part, "add_prefix_space", true)) {
            // Of each piece, which is the text while nothing cut it.
            if (!parts_->splitters.empty())
                return refused(member + ".add_prefix_space", "is not supported here");
            parts_->begins_with_blank = true;
        }
        if (!flag_of(part, "use_regex", true)) return std::nullopt;
        if (parts_->splitters.empty()) parts_->family = Family::gpt2;
        return add_splitter(pattern_of(Family::gpt2), Splitter::Gaps::kept, member);
    }

    Problem read_split(dom::element part, const std::string& member) {
        dom::element pattern;
        std::string_view regex, words;
        if (part["pattern"].get(pattern)) return refused(member + ".pattern", "is missing");
        if (pattern["Regex"].get(regex)) {
            if (pattern["String"].get(words) || words.empty())
                return refused(member + ".pattern", "is no pattern");
            std::string quoted;
            for (char c : words) {  // letters keep their meaning, all else loses it
                bool is_sign =
                    static_cast<unsigned char>(c) < 0x80 && !std::isalnum(static_cast<unsigned char>(c));
                if (is_sign) quoted += '\\';
                quoted += c;
            }
            return add_split(part, quoted, member);
        }
        auto translated = translated_pattern(regex);
        if (!translated) return refused(member + ".pattern", translated.error().message);
        if (parts_->splitters.empty()) parts_->family = family_of_pattern(regex);
        return add_split(part, *translated, member);
    }

    Problem add_split(dom::element part, const std::string& pattern, const std::string& member) {
        std::string_view behavior = text_of(part, "behavior");
        bool is_inverted = flag_of(part, "invert", false);
        // Cutting around matches is the same either way; keeping the matches alone is what is written as
        // removing what is none.
        if (behavior == "Isolated") return add_splitter(pattern, Splitter::Gaps::kept, member);
        if (behavior == "Removed" && is_inverted)
            return add_splitter(pattern, Splitter::Gaps::dropped, member);
        return refused(member + ".behavior", "\"" + std::string(behavior) + "\" is not supported");
    }

    Problem add_splitter(const std::string& pattern, Splitter::Gaps gaps, const std::string& member) {
        auto splitter = Splitter::compile(pattern, gaps);
        if (!splitter) return refused(member + ".pattern", splitter.error().message);
        parts_->splitters.push_back(std::move(*splitter));
        return std::nullopt;
    }

    // Others took over its pattern, but not its template.
    static bool is_llama(dom::element root) {
        dom::array added;
        if (root["added_tokens"].get(added)) return false;
        for (dom::element token : added)
            if (text_of(token, "content") == "<|start_header_id|>") return true;
        return false;
    }
    static std::string shown(std::string_view key) { return std::string(key.substr(0, 40)); }

    const ByteAlphabet alphabet_;
    std::unique_ptr<Tokenizer::Parts> parts_ = std::make_unique<Tokenizer::Parts>();
    std::string left_, right_;
    std::size_t steps_ = 0;
    bool has_bytes_ = false;
};

}  // namespace

Result<std::unique_ptr<Tokenizer::Parts>> read_tokenizer_json(std::string_view content) {
    return Reader().read(content);
}

}  // namespace nebula::tokenizer
