#include "gateway/providers/embeddings.hpp"

#include <bit>
#include <cstdint>

namespace nebula::gateway {
namespace {

void add_base64(std::string_view bytes, std::string& out) {
    static constexpr char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    auto at = [&bytes](std::size_t i) {
        return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u;
    };
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        unsigned three = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
        out += letters[three >> 18];
        out += letters[three >> 12 & 63];
        out += i + 1 < bytes.size() ? letters[three >> 6 & 63] : '=';
        out += i + 2 < bytes.size() ? letters[three & 63] : '=';
    }
}

}  // namespace

bool EmbeddingsWriter::add(raw::ondemand::value& vector) {
    raw::ondemand::array numbers;
    if (vector.get_array().get(numbers)) return false;
    bytes_.clear();
    bool is_empty = true;
    for (auto element : numbers) {
        double number = 0;
        if (element.get_double().get(number)) return false;
        is_empty = false;
        if (!as_base64_) continue;
        auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(number));
        for (int shift = 0; shift < 32; shift += 8) bytes_ += static_cast<char>(bits >> shift & 0xFF);
    }
    if (is_empty) return false;
    data_ += count_ == 0 ? R"({"object":"embedding","index":)" : R"(,{"object":"embedding","index":)";
    data_ += std::to_string(count_++) + R"(,"embedding":)";
    if (as_base64_) {
        data_ += '"';
        add_base64(bytes_, data_);
        data_ += '"';
    } else {
        std::string_view text;
        if (numbers.reset().error() || numbers.raw_json().get(text)) return false;
        data_ += text;
    }
    data_ += '}';
    return true;
}

std::string EmbeddingsWriter::answer(std::string_view raw_model, std::string_view raw_tokens) const {
    std::string out = R"({"object":"list","data":[)" + data_ + R"(],"model":)";
    out += raw_model.empty() ? std::string_view("\"\"") : raw_model;
    if (!raw_tokens.empty())
        out.append(R"(,"usage":{"prompt_tokens":)")
            .append(raw_tokens)
            .append(R"(,"total_tokens":)")
            .append(raw_tokens)
            .append("}");
    return out + '}';
}

}  // namespace nebula::gateway
