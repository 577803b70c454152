#pragma once
// Vectors as OpenAI's embeddings answer tells them.

#include <string>
#include <string_view>

#include "gateway/raw_json.hpp"

namespace nebula::gateway {

/// {"object":"list","data":[…]} in the making.
class EmbeddingsWriter {
   public:
    explicit EmbeddingsWriter(bool as_base64) : as_base64_(as_base64) {}
    /// The next vector, a list of numbers; false when it is none.
    bool add(raw::ondemand::value& vector);
    std::size_t count() const { return count_; }
    /// `raw_model` a raw string; `raw_tokens` the prompt's as a raw scalar, empty when nobody told.
    std::string answer(std::string_view raw_model, std::string_view raw_tokens) const;

   private:
    const bool as_base64_;
    std::size_t count_ = 0;
    std::string data_;
    std::string bytes_;
};

}  // namespace nebula::gateway
