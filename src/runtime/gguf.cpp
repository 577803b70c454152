#include "runtime/gguf.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>

namespace nebula::runtime {
namespace {

constexpr std::uint64_t key_bytes_max = 65'535;
constexpr std::size_t name_bytes_max = 256;
constexpr int array_depth_max = 4;
constexpr std::int64_t count_max = std::int64_t{1} << 31;  // context, layers and the like
constexpr std::uint64_t tensor_dimensions_max = 8;

enum class Type : std::uint32_t {
    u8 = 0,
    i8 = 1,
    u16 = 2,
    i16 = 3,
    u32 = 4,
    i32 = 5,
    f32 = 6,
    boolean = 7,
    text = 8,
    array = 9,
    u64 = 10,
    i64 = 11,
    f64 = 12
};

// Bytes of one value of fixed size; 0 for texts, arrays and types that do not exist.
std::uint64_t fixed_bytes(Type type) {
    switch (type) {
        case Type::u8:
        case Type::i8:
        case Type::boolean:
            return 1;
        case Type::u16:
        case Type::i16:
            return 2;
        case Type::u32:
        case Type::i32:
        case Type::f32:
            return 4;
        case Type::u64:
        case Type::i64:
        case Type::f64:
            return 8;
        case Type::text:
        case Type::array:
            return 0;
    }
    return 0;
}

class Reader {
   public:
    Reader(std::string_view head, std::uint64_t file_bytes)
        : rest_(head), head_bytes_(head.size()), file_bytes_(file_bytes) {}

    Result<GgufFacts> read() {
        if (!read_header() || !read_values() || !choose_facts() || !read_tensors())
            return fail(Code::invalid_request, "not a usable GGUF file: " + why_, {},
                        is_short_ ? std::string(need_more) : std::string());
        return std::move(facts_);
    }

   private:
    bool damaged(std::string why) {
        if (why_.empty()) why_ = std::move(why);
        return false;
    }

    // The one place that moves forward.
    bool take(std::uint64_t bytes, std::string_view& out) {
        if (bytes > rest_.size()) {
            std::uint64_t behind = file_bytes_ > head_bytes_ ? file_bytes_ - head_bytes_ : 0;
            is_short_ = bytes - rest_.size() <= behind;
            return damaged("it ends inside its header");
        }
        out = rest_.substr(0, static_cast<std::size_t>(bytes));
        rest_.remove_prefix(static_cast<std::size_t>(bytes));
        return true;
    }
    template <class Int>
    bool number(Int& out) {
        std::string_view bytes;
        if (!take(sizeof out, bytes)) return false;
        std::memcpy(&out, bytes.data(), sizeof out);  // GGUF is little endian, as are our machines
        return true;
    }
    bool text(std::string_view& out, std::uint64_t bytes_max) {
        std::uint64_t bytes = 0;
        if (!number(bytes)) return false;
        if (bytes > bytes_max) return damaged("a name is too long");
        return take(bytes, out);
    }

    bool read_header() {
        std::string_view magic;
        std::uint32_t version = 0;
        if (!take(4, magic)) return false;
        if (magic != "GGUF") return damaged("it does not start with GGUF");
        if (!number(version)) return false;
        if (version != 2 && version != 3)
            return damaged("version " + std::to_string(version) + " is not supported");
        if (!number(tensors_) || !number(values_)) return false;
        // The shortest value takes 13 bytes, the shortest tensor 24.
        if (values_ > file_bytes_ / 13 || tensors_ > file_bytes_ / 24)
            return damaged("it announces more than it can hold");
        return true;
    }

    bool read_values() {
        std::set<std::string_view> keys;
        for (std::uint64_t i = 0; i < values_; ++i) {
            std::string_view key;
            std::uint32_t type = 0;
            if (!text(key, key_bytes_max) || !number(type)) return false;
            if (key.empty()) return damaged("a value has no name");
            if (!keys.insert(key).second) return damaged("a value is there twice");
            if (!read_value(key, static_cast<Type>(type))) return false;
        }
        return true;
    }

    bool read_value(std::string_view key, Type type) {
        if (type == Type::text) {
            std::string_view value;
            if (!text(value, file_bytes_)) return false;
            if (key == "general.architecture") facts_.architecture = value.substr(0, name_bytes_max);
            if (key == "general.name") facts_.name = value.substr(0, name_bytes_max);
            return true;
        }
        if (type == Type::array) return skip_array(0);
        std::string_view bytes;
        if (fixed_bytes(type) == 0) return damaged("a value has an unknown type");
        if (!take(fixed_bytes(type), bytes)) return false;
        for (std::string_view wanted : {".context_length", ".block_count", ".embedding_length",
                                        ".attention.head_count", ".attention.head_count_kv"})
            if (key.ends_with(wanted))
                numbers_[std::string(key.substr(0, name_bytes_max))] = whole(type, bytes);
        if (key == "general.alignment") alignment_ = whole(type, bytes).value_or(0);
        return true;
    }

    bool skip_array(int depth) {
        std::uint32_t type_number = 0;
        std::uint64_t count = 0;
        if (!number(type_number) || !number(count)) return false;
        auto type = static_cast<Type>(type_number);
        std::string_view ignored;
        if (std::uint64_t each = fixed_bytes(type); each != 0) {
            if (count > file_bytes_ / each) return damaged("a list is longer than the file");
            return take(count * each, ignored);
        }
        if (type != Type::text && type != Type::array) return damaged("a list has an unknown type");
        if (depth == array_depth_max) return damaged("lists are nested too deep");
        // Each turn consumes at least 8 bytes or ends, so a lying count costs no more than the bytes that are
        // there.
        for (std::uint64_t i = 0; i < count; ++i)
            if (type == Type::text ? !text(ignored, file_bytes_) : !skip_array(depth + 1)) return false;
        return true;
    }

    static std::optional<std::int64_t> whole(Type type, std::string_view bytes) {
        if (type == Type::f32 || type == Type::f64 || type == Type::boolean) return std::nullopt;
        bool is_signed = type == Type::i8 || type == Type::i16 || type == Type::i32 || type == Type::i64;
        std::uint64_t value = 0;
        std::memcpy(&value, bytes.data(), bytes.size());
        bool is_negative = is_signed && (static_cast<unsigned char>(bytes.back()) & 0x80) != 0;
        if (is_negative || value > static_cast<std::uint64_t>(count_max)) return std::nullopt;
        return static_cast<std::int64_t>(value);
    }

    // A number of this architecture: 0 when not there; false when it makes no sense.
    bool fact(const char* name, std::int64_t& out) {
        auto found = numbers_.find(facts_.architecture + name);
        if (found == numbers_.end()) return true;
        if (!found->second) return damaged(found->first + " makes no sense");
        out = *found->second;
        return true;
    }

    bool choose_facts() {
        const std::string& word = facts_.architecture;
        bool is_word = !word.empty() && word.size() <= 64 && std::ranges::all_of(word, [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                   c == '-' || c == '.';
        });
        if (!is_word) return damaged("it names no architecture");
        std::int64_t layers = 0, width = 0, heads = 0, heads_kv = 0;
        if (!fact(".context_length", facts_.context_length) || !fact(".block_count", layers) ||
            !fact(".embedding_length", width) || !fact(".attention.head_count", heads) ||
            !fact(".attention.head_count_kv", heads_kv))
            return false;
        constexpr std::int64_t sane_max = 1 << 20;
        if (layers > sane_max || width > sane_max || heads > sane_max || heads_kv > sane_max)
            return damaged("its dimensions make no sense");
        if (heads_kv == 0) heads_kv = heads;
        if (layers > 0 && width > 0 && heads > 0)  // keys and values, two bytes each
            facts_.kv_bytes_per_token =
                std::min<std::int64_t>(layers * (width / heads * heads_kv), 1 << 28) * 4;
        return true;
    }

    // A cut file is the commonest damage: every tensor must begin inside it.
    bool read_tensors() {
        std::uint64_t last_offset = 0;
        for (std::uint64_t i = 0; i < tensors_; ++i) {
            std::string_view ignored;
            std::uint32_t dimensions = 0;
            std::uint32_t type = 0;
            std::uint64_t offset = 0;
            if (!text(ignored, key_bytes_max) || !number(dimensions)) return false;
            if (dimensions > tensor_dimensions_max) return damaged("a tensor has too many dimensions");
            if (!take(std::uint64_t{dimensions} * 8, ignored) || !number(type) || !number(offset))
                return false;
            last_offset = std::max(last_offset, offset);
        }
        if (tensors_ == 0) return damaged("it holds no tensors");
        if (alignment_ <= 0 || alignment_ > 65'536 || (alignment_ & (alignment_ - 1)) != 0)
            return damaged("its alignment makes no sense");
        auto unit = static_cast<std::uint64_t>(alignment_);
        std::uint64_t start = (head_bytes_ - rest_.size() + unit - 1) / unit * unit;
        if (start >= file_bytes_ || last_offset >= file_bytes_ - start) return damaged("it is cut short");
        return true;
    }

    std::string_view rest_;
    std::uint64_t head_bytes_;
    std::uint64_t file_bytes_;
    std::uint64_t tensors_ = 0;
    std::uint64_t values_ = 0;
    std::int64_t alignment_ = 32;
    std::map<std::string, std::optional<std::int64_t>> numbers_;
    GgufFacts facts_;
    std::string why_;
    bool is_short_ = false;
};

}  // namespace

Result<GgufFacts> read_gguf(std::string_view head, std::uint64_t file_bytes) {
    return Reader(head, file_bytes).read();
}

}  // namespace nebula::runtime
