#include "gateway/model_lists.hpp"

#include <algorithm>

#include "base/clock.hpp"
#include "base/crypto.hpp"
#include "base/text.hpp"

namespace nebula::gateway {
namespace {

template <class F>
std::string joined(const catalog::Snapshot& snapshot, F one) {
    std::string text;
    for (const auto& model : snapshot.models) {
        if (!text.empty()) text += ',';
        text += one(*model);
    }
    return text;
}

std::string time_text(const catalog::Model& model) {
    return to_iso8601(Time(std::chrono::seconds(model.created)));
}

// nano-dollars per million as USD per token: 15 digits behind the point, without trailing zeros.
std::string usd_per_token(Nanos per_million) {
    std::string digits = std::to_string(per_million.value);
    if (digits.size() < 16) digits.insert(0, 16 - digits.size(), '0');
    digits.insert(digits.size() - 15, ".");
    digits.erase(digits.find_last_not_of('0') + 1);
    if (digits.back() == '.') digits.pop_back();
    return digits;
}

// A decimal number, exact: "0.35".
std::string usd_number(Nanos amount) {
    std::string text = amount.text();
    if (text.find('.') == std::string::npos) return text;
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
    return text;
}

std::string openrouter_model(const catalog::Model& model) {
    bool sees = model.model_class == "vision";
    const char* input = sees ? R"(["text","image"])" : R"(["text"])";
    return R"({"id":)" + json_string(model.id) + R"(,"canonical_slug":)" + json_string(model.id) +
           R"(,"hugging_face_id":null,"name":)" + json_string(model.id) + R"(,"created":)" +
           std::to_string(model.created) + R"(,"description":"","context_length":)" +
           std::to_string(model.context_length) + R"(,"architecture":{"modality":")" +
           (sees ? "text+image->text" : "text->text") + R"(","input_modalities":)" + input +
           R"(,"output_modalities":["text"],"tokenizer":"Other","instruct_type":null},"pricing":{"prompt":")" +
           usd_per_token(model.prices.input_per_m) + R"(","completion":")" +
           usd_per_token(model.prices.output_per_m) + R"(","request":")" + usd_number(model.prices.request) +
           R"(","image":"0","web_search":"0","internal_reasoning":"0","input_cache_read":")" +
           usd_per_token(model.prices.cached_input_per_m) + R"("},"top_provider":{"context_length":)" +
           std::to_string(model.context_length) + R"(,"max_completion_tokens":)" +
           std::to_string(model.max_output_tokens) +
           R"(,"is_moderated":false},"per_request_limits":null,"supported_parameters":["temperature","top_p",)"
           R"("max_tokens","stop","tools","tool_choice","response_format","structured_outputs","seed"],)"
           R"("default_parameters":null,"supported_voices":null,"links":{"details":)" +
           json_string("/api/v1/models/" + model.id + "/endpoints") + "}}";
}

std::string platform_model(const catalog::Model& model) {
    const char* type = model.serves("chat") || model.serves("completions") ? "Text"
                       : model.serves("embeddings")                        ? "Embedding"
                       : model.serves("rerank")                            ? "Rerank"
                                                                           : "Text";
    std::string alias = model.id.substr(model.id.rfind('/') + 1);
    return R"({"model_name":)" + json_string(model.id) + R"(,"model_alias":)" + json_string(alias) +
           R"(,"model_type":")" + type + R"(","context_length":)" + std::to_string(model.context_length) +
           R"(,"max_completion_tokens":)" + std::to_string(model.max_output_tokens) +
           R"(,"description":"","price":)" + usd_number(model.prices.input_per_m) + R"(,"input_price":)" +
           usd_number(model.prices.input_per_m) + R"(,"output_price":)" +
           usd_number(model.prices.output_per_m) + R"(,"huggingface_url":null})";
}

std::string ollama_details() {
    return R"({"parent_model":"","format":"gguf","family":"","families":null,"parameter_size":"",)"
           R"("quantization_level":""})";
}

std::string ollama_model(const catalog::Model& model) {
    // Clients compare digests to see whether a model changed; ours changes when it is configured anew.
    Sha256 digest = sha256(model.id + std::to_string(model.created));
    return R"({"name":)" + json_string(model.id) + R"(,"model":)" + json_string(model.id) +
           R"(,"modified_at":)" + json_string(time_text(model)) + R"(,"size":0,"digest":")" +
           to_hex(digest.bytes) + R"(","details":)" + ollama_details() + "}";
}

}  // namespace

std::string openai_model(const catalog::Model& model) {
    return R"({"id":)" + json_string(model.id) + R"(,"object":"model","created":)" +
           std::to_string(model.created) + R"(,"owned_by":)" + json_string(model.owned_by) +
           R"(,"context_length":)" + std::to_string(model.context_length) + R"(,"max_output_tokens":)" +
           std::to_string(model.max_output_tokens) + "}";
}

std::string openai_models(const catalog::Snapshot& snapshot) {
    return R"({"object":"list","data":[)" + joined(snapshot, openai_model) + "]}";
}

std::string anthropic_model(const catalog::Model& model) {
    return R"({"type":"model","id":)" + json_string(model.id) + R"(,"display_name":)" +
           json_string(model.id) + R"(,"created_at":)" + json_string(time_text(model)) +
           R"(,"max_input_tokens":)" + std::to_string(model.context_length) + R"(,"max_tokens":)" +
           std::to_string(model.max_output_tokens) + "}";
}

std::string anthropic_models(const catalog::Snapshot& snapshot) {
    auto id = [](const catalog::Model& model) { return json_string(model.id); };
    bool empty = snapshot.models.empty();
    return R"({"data":[)" + joined(snapshot, anthropic_model) + R"(],"has_more":false,"first_id":)" +
           (empty ? "null" : id(*snapshot.models.front())) + R"(,"last_id":)" +
           (empty ? "null" : id(*snapshot.models.back())) + "}";
}

std::string openrouter_models(const catalog::Snapshot& snapshot) {
    return R"({"data":[)" + joined(snapshot, openrouter_model) + R"(],"links":{"next":null},"total_count":)" +
           std::to_string(snapshot.models.size()) + "}";
}

std::string platform_models(const catalog::Snapshot& snapshot) {
    return R"({"data":{"models":[)" + joined(snapshot, platform_model) +
           R"(]},"message":"Get models list successfully.","status":"success"})";
}

std::string ollama_tags(const catalog::Snapshot& snapshot) {
    return R"({"models":[)" + joined(snapshot, ollama_model) + "]}";
}

std::string ollama_show(const catalog::Model& model) {
    return R"({"license":"","modelfile":"","parameters":"","template":"","details":)" + ollama_details() +
           R"(,"model_info":{"general.architecture":"unknown","unknown.context_length":)" +
           std::to_string(model.context_length) + R"(},"capabilities":[)" +
           (model.serves("chat") ? R"("completion","tools")" : R"("embedding")") + R"(],"modified_at":)" +
           json_string(time_text(model)) + "}";
}

}  // namespace nebula::gateway
