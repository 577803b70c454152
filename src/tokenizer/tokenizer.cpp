#include "tokenizer/tokenizer.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "tokenizer/composing.hpp"
#include "tokenizer/parts.hpp"
#include "tokenizer/utf8.hpp"

namespace nebula::tokenizer {
namespace {

constexpr std::size_t drain_bytes = 16 * 1024;

// Which content a file has, without reading it.
using Stamp = std::tuple<dev_t, ino_t, off_t, time_t, long>;

struct Loaded {
    Stamp stamp;
    std::weak_ptr<const Tokenizer> tokenizer;
};

class File {
   public:
    explicit File(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
    ~File() {
        if (fd_ >= 0) ::close(fd_);
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    Result<Stamp> stamp() const {
        struct stat facts{};
        if (fd_ < 0 || ::fstat(fd_, &facts) != 0 || !S_ISREG(facts.st_mode))
            return fail(Code::invalid_request, "cannot be read");
        if (static_cast<std::uint64_t>(facts.st_size) > Tokenizer::file_bytes_max)
            return fail(Code::invalid_request, "has more than 64 MiB");
        return Stamp{facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtim.tv_sec, facts.st_mtim.tv_nsec};
    }
    Result<std::string> content() const {
        std::string text;
        std::string piece(256 * 1024, '\0');
        while (true) {
            ssize_t got = ::read(fd_, piece.data(), piece.size());
            if (got < 0) return fail(Code::invalid_request, "cannot be read");
            if (got == 0) return text;
            text.append(piece, 0, static_cast<std::size_t>(got));
            if (text.size() > Tokenizer::file_bytes_max)
                return fail(Code::invalid_request, "has more than 64 MiB");
        }
    }

   private:
    int fd_;
};

Error named(const std::string& name, Error error) {
    error.message = "tokenizer " + name + ": " + error.message;
    return error;
}

}  // namespace

const char* family_name(Family family) {
    switch (family) {
        case Family::gpt2:
            return "gpt2";
        case Family::p50k:
            return "p50k";
        case Family::cl100k:
            return "cl100k";
        case Family::o200k:
            return "o200k";
        case Family::llama3:
            return "llama3";
        case Family::qwen2:
            return "qwen2";
        case Family::other:
            return "other";
    }
    return "other";
}

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

Result<std::shared_ptr<const Tokenizer>> Tokenizer::parse(std::string_view content, const std::string& name,
                                                          std::string_view family) {
    if (content.size() > file_bytes_max)
        return fail(named(name, {.code = Code::invalid_request, .message = "has more than 64 MiB"}));
    std::size_t first = content.find_first_not_of(" \t\r\n");
    bool is_json = first != std::string_view::npos && content[first] == '{';
    auto parts = is_json ? read_tokenizer_json(content) : read_rank_file(content, family);
    if (!parts) return fail(named(name, std::move(parts.error())));
    return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(*parts)));
}

Result<std::shared_ptr<const Tokenizer>> Tokenizer::load(const std::string& path, std::string_view family) {
    static std::mutex mutex;
    static std::map<std::string, Loaded> all;
    File file(path);
    auto stamp = file.stamp();
    if (!stamp) return fail(named(path, std::move(stamp.error())));
    std::string key = path + '\n' + std::string(family);
    std::lock_guard lock(mutex);
    std::erase_if(all, [](const auto& one) { return one.second.tokenizer.expired(); });
    if (auto known = all.find(key); known != all.end() && known->second.stamp == *stamp)
        if (auto tokenizer = known->second.tokenizer.lock()) return tokenizer;
    auto content = file.content();
    if (!content) return fail(named(path, std::move(content.error())));
    auto tokenizer = parse(*content, path, family);
    if (tokenizer) all[key] = {*stamp, *tokenizer};
    return tokenizer;
}

bool Tokenizer::Parts::count(std::string_view text, std::size_t splitter, std::int64_t& tokens,
                             Work& work) const {
    if (text.empty()) return true;
    if (splitter == splitters.size()) {
        if (text.size() > piece_bytes_max) return false;
        bool is_entry = takes_whole_words && vocabulary.find(text) != Vocabulary::none;
        tokens += is_entry ? 1 : count_word(vocabulary, ranking, text, work);
        return true;
    }
    const Splitter& step = splitters[splitter];
    for (std::size_t at = 0; at < text.size();) {
        Splitter::Match match = step.next(text, at, true);
        if (match.kind == Splitter::Match::Kind::failed) return false;
        bool is_found = match.kind == Splitter::Match::Kind::found;
        std::string_view gap = text.substr(at, is_found ? match.begin - at : std::string_view::npos);
        if (step.keeps_gaps() && !count(gap, splitter + 1, tokens, work)) return false;
        if (!is_found) return true;
        if (!count(text.substr(match.begin, match.end - match.begin), splitter + 1, tokens, work))
            return false;
        at = match.end;
    }
    return true;
}

std::optional<std::int64_t> Tokenizer::count(std::string_view text, Work* work) const {
    if (text.size() > text_bytes_max) return std::nullopt;
    std::string changed;
    if (!is_utf8(text)) text = changed = repaired(text);
    if (parts_->composes && !is_plain(text)) text = changed = composed(text);
    if (parts_->begins_with_blank && !text.empty() && text.front() != ' ') {
        changed = " " + std::string(text);
        text = changed;
    }
    Work ours;
    std::int64_t tokens = 0;
    if (!parts_->count(text, 0, tokens, work != nullptr ? *work : ours)) return std::nullopt;
    return tokens;
}

Family Tokenizer::family() const { return parts_->family; }
std::size_t Tokenizer::entries() const { return parts_->vocabulary.size(); }
std::string Tokenizer::describe() const {
    return std::string(family_name(parts_->family)) + ", " + std::to_string(entries()) + " entries";
}

ChatOverhead Tokenizer::chat() const {
    switch (parts_->family) {
        case Family::llama3:  // <|start_header_id|>role<|end_header_id|>\n\n … <|eot_id|>
            return {.message = 4, .reply = 5};
        case Family::qwen2:  // <|im_start|>role\n … <|im_end|>\n
            return {.message = 4, .reply = 3};
        default:
            return {};
    }
}

void Counter::add(std::string_view piece) {
    if (has_failed_ || piece.empty()) return;
    std::string& held = tokenizer_->parts_->composes ? raw_ : pending_;
    if (!has_begun_ && tokenizer_->parts_->begins_with_blank && piece.front() != ' ') held += ' ';
    has_begun_ = true;
    if (is_utf8(piece))
        held += piece;
    else
        held += repaired(piece);
    if (held_bytes() >= std::max(drain_at_, drain_bytes)) drain(false);
}

std::optional<std::int64_t> Counter::finish() {
    if (!has_failed_) drain(true);
    if (has_failed_) return std::nullopt;
    return tokens_;
}

void Counter::normalize(bool is_end) {
    if (raw_.empty()) return;
    std::size_t settled = is_end ? raw_.size() : settled_bytes(raw_);
    std::string_view text = std::string_view(raw_).substr(0, settled);
    if (is_plain(text))
        pending_ += text;
    else
        pending_ += composed(text);
    raw_.erase(0, settled);
}

// What is unfinished is looked at again when it has doubled, so that a long word costs no square.
void Counter::drain(bool is_end) {
    normalize(is_end);
    Work work;
    const Tokenizer::Parts& parts = *tokenizer_->parts_;
    std::size_t at = 0;
    bool has_more = !parts.splitters.empty() && !is_end;
    if (is_end) {
        has_failed_ = !parts.count(pending_, 0, tokens_, work);
        pending_.clear();
        return;
    }
    while (has_more && at < pending_.size()) {
        Splitter::Match match = parts.splitters.front().next(pending_, at, false);
        has_more = match.kind == Splitter::Match::Kind::found;
        if (match.kind == Splitter::Match::Kind::failed) has_failed_ = true;
        if (!has_more) break;
        std::string_view text = pending_;
        bool is_counted = parts.count(text.substr(match.begin, match.end - match.begin), 1, tokens_, work);
        if (parts.splitters.front().keeps_gaps())
            is_counted = is_counted && parts.count(text.substr(at, match.begin - at), 1, tokens_, work);
        if (!is_counted) has_failed_ = true;
        at = match.end;
    }
    pending_.erase(0, at);
    drain_at_ = 2 * held_bytes();
    if (held_bytes() > Tokenizer::piece_bytes_max) has_failed_ = true;
    if (has_failed_) {
        raw_ = std::string();
        pending_ = std::string();
    }
}

}  // namespace nebula::tokenizer
