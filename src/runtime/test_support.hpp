#pragma once
// For the tests of this module: a temporary directory and small valid model files.

#include <stdlib.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace nebula::runtime::test {

class TempDir {
   public:
    TempDir() {
        const char* inside = std::getenv("NEBULA_TEST_TEMP");  // of a parent that cleans up for us
        path_ = std::string(inside != nullptr ? inside : "/tmp") + "/nebula-test-XXXXXX";
        if (::mkdtemp(path_.data()) == nullptr) std::abort();
    }
    TempDir(const TempDir&) = delete;
    TempDir& operator=(const TempDir&) = delete;
    ~TempDir() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    const std::string& path() const { return path_; }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

   private:
    std::string path_;
};

inline void write_file(const std::string& path, std::string_view bytes) {
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// Writes the GGUF format piece by piece, also wrongly.
class GgufBuilder {
   public:
    template <class Int>
    GgufBuilder& raw(Int number) {
        char bytes[sizeof number];
        std::memcpy(bytes, &number, sizeof number);
        out_.append(bytes, sizeof number);
        return *this;
    }
    GgufBuilder& bytes(std::string_view text) {
        out_ += text;
        return *this;
    }
    GgufBuilder& text(std::string_view value) {
        raw<std::uint64_t>(value.size());
        return bytes(value);
    }
    GgufBuilder& head(std::uint64_t tensors, std::uint64_t values, std::uint32_t version = 3) {
        bytes("GGUF");
        return raw(version).raw(tensors).raw(values);
    }
    GgufBuilder& key(std::string_view name, std::uint32_t type) { return text(name).raw(type); }
    GgufBuilder& text_value(std::string_view name, std::string_view value) {
        return key(name, 8).text(value);
    }
    GgufBuilder& number_value(std::string_view name, std::uint32_t value) { return key(name, 4).raw(value); }
    GgufBuilder& tensor(std::string_view name, std::uint64_t offset) {
        return text(name).raw<std::uint32_t>(1).raw<std::uint64_t>(32).raw<std::uint32_t>(0).raw(offset);
    }
    GgufBuilder& data(std::size_t count) {
        while (out_.size() % 32 != 0) out_ += '\0';
        out_.append(count, 'w');
        return *this;
    }
    const std::string& done() const { return out_; }

   private:
    std::string out_;
};

inline std::string small_model(std::uint32_t context = 512) {
    return GgufBuilder()
        .head(2, 5)
        .text_value("general.architecture", "llama")
        .text_value("general.name", "Test")
        .key("tokenizer.ggml.tokens", 9)
        .raw<std::uint32_t>(8)
        .raw<std::uint64_t>(3)
        .text("a")
        .text("bc")
        .text("")
        .key("tokenizer.ggml.scores", 9)
        .raw<std::uint32_t>(6)
        .raw<std::uint64_t>(3)
        .raw(0.5F)
        .raw(1.5F)
        .raw(2.5F)
        .number_value("llama.context_length", context)
        .tensor("one", 0)
        .tensor("two", 128)
        .data(256)
        .done();
}

}  // namespace nebula::runtime::test
