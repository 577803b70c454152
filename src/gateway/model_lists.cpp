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

bool makes_images(const catalog::Model& model) {
    return model.serves("images") || model.serves("image_edits") || model.serves("image_variations");
}

std::string platform_model(const catalog::Model& model) {
    bool paints = makes_images(model);
    const char* type = paints                                                ? "Image"
                       : model.serves("chat") || model.serves("completions") ? "Text"
                       : model.serves("embeddings")                          ? "Embedding"
                       : model.serves("rerank")                              ? "Rerank"
                                                                             : "Text";
    std::string alias = model.id.substr(model.id.rfind('/') + 1);
    return R"({"model_name":)" + json_string(model.id) + R"(,"model_alias":)" + json_string(alias) +
           R"(,"model_type":")" + type + R"(","context_length":)" +
           (paints ? "null" : std::to_string(model.context_length)) + R"(,"max_completion_tokens":)" +
           std::to_string(model.max_output_tokens) + R"(,"description":"","price":)" +
           (model.unit == "image" ? model.prices.unit : model.prices.input_per_m).short_text() +
           R"(,"input_price":)" + model.prices.input_per_m.short_text() + R"(,"output_price":)" +
           model.prices.output_per_m.short_text() + R"(,"huggingface_url":null})";
}

// In 0.0001 USD per million tokens: 3900 is 0.39. Rounded up, so that nothing costs more than it says here.
std::string novita_price(Nanos per_million) {
    constexpr std::int64_t step = 100'000;
    return std::to_string(per_million.value / step + (per_million.value % step > 0 ? 1 : 0));
}

std::string novita_endpoints(const catalog::Model& model) {
    std::string list;
    auto add = [&](const char* endpoint, const char* path) {
        if (model.serves(endpoint)) list += (list.empty() ? "\"" : ",\"") + std::string(path) + "\"";
    };
    add("chat", "chat/completions");
    add("completions", "completions");
    add("chat", "responses");
    add("embeddings", "embeddings");
    add("rerank", "rerank");
    add("moderations", "moderations");
    return "[" + list + "]";
}

std::string ollama_details(const catalog::Model& model) {
    return R"({"parent_model":"","format":"gguf","family":"","families":[],"parameter_size":"",)"
           R"("quantization_level":"","context_length":)" +
           std::to_string(model.context_length) + "}";
}

// Which of a client's features the model is for.
std::string ollama_capabilities(const catalog::Model& model) {
    std::string list;
    auto add = [&list](const char* word) {
        list.append(list.empty() ? "\"" : ",\"").append(word).append("\"");
    };
    if (model.serves("chat") || model.serves("completions")) add("completion");
    if (model.serves("chat")) add("tools");
    if (model.serves("chat") && model.model_class == "vision") add("vision");
    if (model.serves("embeddings")) add("embedding");
    return "[" + list + "]";
}

// Up to where a list adds its own members.
std::string ollama_head(const catalog::Model& model) {
    // Clients compare digests to see whether a model changed; ours changes when it is configured anew.
    Sha256 digest = sha256(model.id + std::to_string(model.created));
    return R"({"name":)" + json_string(model.id) + R"(,"model":)" + json_string(model.id) +
           R"(,"size":0,"digest":")" + to_hex(digest.bytes) + R"(","details":)" + ollama_details(model);
}

std::string ollama_model(const catalog::Model& model) {
    return ollama_head(model) + R"(,"modified_at":)" + json_string(time_text(model)) + R"(,"capabilities":)" +
           ollama_capabilities(model) + "}";
}

// Every model is ready, and stays so: clients show this time as "forever".
std::string ollama_running(const catalog::Model& model) {
    return ollama_head(model) + R"(,"expires_at":"9999-12-31T23:59:59Z","size_vram":0,"context_length":)" +
           std::to_string(model.context_length) + "}";
}

}  // namespace

std::shared_ptr<const catalog::Snapshot> seen_by(const accounts::Key* key,
                                                 std::shared_ptr<const catalog::Snapshot> snapshot) {
    if (key == nullptr || key->models.empty()) return snapshot;
    auto some = std::make_shared<catalog::Snapshot>();
    some->providers = snapshot->providers;
    for (const auto& model : snapshot->models)
        if (key->may_use_model(model->id)) some->models.push_back(model);
    for (const catalog::Alias& alias : snapshot->aliases)
        if (key->may_use_model(alias.model->id)) some->aliases.push_back(alias);
    return some;
}

std::shared_ptr<const catalog::Model> find_seen(const accounts::Key* key, const catalog::Snapshot& snapshot,
                                                std::string_view id) {
    auto model = snapshot.find(id);
    return model && key != nullptr && !key->may_use_model(model->id) ? nullptr : model;
}

std::string openai_model(const catalog::Model& model) {
    return R"({"id":)" + json_string(model.id) + R"(,"object":"model","created":)" +
           std::to_string(model.created) + R"(,"owned_by":)" + json_string(model.owned_by) +
           R"(,"context_length":)" + std::to_string(model.context_length) + R"(,"max_output_tokens":)" +
           std::to_string(model.max_output_tokens) + "}";
}

std::string openai_models(const catalog::Snapshot& snapshot) {
    std::string list = joined(snapshot, openai_model);
    for (const catalog::Alias& alias : snapshot.aliases) {
        std::string one = openai_model(*alias.model);
        std::string own = R"({"id":)" + json_string(alias.model->id);
        list += R"(,{"id":)" + json_string(alias.name) + R"(,"alias_of":)" + json_string(alias.model->id) +
                one.substr(own.size());
    }
    return R"({"object":"list","data":[)" + list + "]}";
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

std::string openrouter_pricing(const billing::Prices& prices, const std::string& unit) {
    // "0" where thinking is not priced apart: it is part of the answer then.
    bool is_apart = prices.reasoning_per_m != prices.output_per_m;
    return R"({"prompt":")" + price_of_one(prices.input_per_m) + R"(","completion":")" +
           price_of_one(prices.output_per_m) + R"(","request":")" + prices.request.short_text() +
           R"(","image":")" + (unit == "image" ? prices.unit.short_text() : "0") +
           R"(","web_search":"0","internal_reasoning":")" +
           (is_apart ? price_of_one(prices.reasoning_per_m) : "0") + R"(","input_cache_read":")" +
           price_of_one(prices.cached_input_per_m) + R"(","input_cache_write":")" +
           price_of_one(prices.cache_write_per_m) + R"("})";
}

std::string openrouter_architecture(const catalog::Model& model) {
    bool sees = model.model_class == "vision";
    const char* input = model.serves("transcriptions") ? "audio" : "text";
    const char* output = model.serves("images")           ? "image"
                         : model.serves("embeddings")     ? "embeddings"
                         : model.serves("rerank")         ? "rerank"
                         : model.serves("speech")         ? "speech"
                         : model.serves("transcriptions") ? "transcription"
                                                          : "text";
    return R"({"modality":")" + std::string(input) + (sees ? "+image->" : "->") + output +
           R"(","input_modalities":[")" + input + (sees ? R"(","image"])" : R"("])") +
           R"(,"output_modalities":[")" + output + R"("],"tokenizer":"Other","instruct_type":null})";
}

std::string openrouter_parameters() {
    return R"(["temperature","top_p","max_tokens","stop","tools","tool_choice","response_format",)"
           R"("structured_outputs","seed"])";
}

std::string openrouter_model(const catalog::Model& model) {
    return R"({"id":)" + json_string(model.id) + R"(,"canonical_slug":)" + json_string(model.id) +
           R"(,"hugging_face_id":null,"name":)" + json_string(model.id) + R"(,"created":)" +
           std::to_string(model.created) + R"(,"description":"","context_length":)" +
           std::to_string(model.context_length) + R"(,"architecture":)" + openrouter_architecture(model) +
           R"(,"pricing":)" + openrouter_pricing(model.prices, model.unit) +
           R"(,"top_provider":{"context_length":)" + std::to_string(model.context_length) +
           R"(,"max_completion_tokens":)" + std::to_string(model.max_output_tokens) +
           R"(,"is_moderated":false},"per_request_limits":null,"supported_parameters":)" +
           openrouter_parameters() +
           R"(,"default_parameters":null,"supported_voices":null,"links":{"details":)" +
           json_string("/api/v1/models/" + model.id + "/endpoints") + "}}";
}

std::string openrouter_models(const catalog::Snapshot& snapshot) {
    return R"({"data":[)" + joined(snapshot, openrouter_model) + R"(],"links":{"next":null},"total_count":)" +
           std::to_string(snapshot.models.size()) + "}";
}

std::string novita_model(const catalog::Model& model) {
    const char* type = model.serves("chat") || model.serves("completions") ? "chat"
                       : model.serves("embeddings")                        ? "embedding"
                       : model.serves("rerank")                            ? "reranker"
                                                                           : "chat";
    bool sees = model.model_class == "vision";
    std::string name = json_string(model.id.substr(model.id.rfind('/') + 1));
    return R"({"id":)" + json_string(model.id) + R"(,"object":"model","created":)" +
           std::to_string(model.created) + R"(,"owned_by":)" + json_string(model.owned_by) + R"(,"title":)" +
           name + R"(,"display_name":)" + name + R"(,"description":"","context_size":)" +
           std::to_string(model.context_length) + R"(,"max_output_tokens":)" +
           std::to_string(model.max_output_tokens) + R"(,"input_token_price_per_m":)" +
           novita_price(model.prices.input_per_m) + R"(,"output_token_price_per_m":)" +
           novita_price(model.prices.output_per_m) + R"(,"model_type":")" + type + R"(","endpoints":)" +
           novita_endpoints(model) + R"(,"features":[)" +
           (model.serves("chat") ? R"("function-calling","structured-outputs",)" : "") +
           R"("serverless"],"input_modalities":[)" + (sees ? R"("text","image")" : R"("text")") +
           R"(],"output_modalities":["text"],"status":1,"rpm":)" + std::to_string(model.rpm) + "}";
}

std::string novita_models(const catalog::Snapshot& snapshot) {
    return R"({"object":"list","data":[)" + joined(snapshot, novita_model) + "]}";
}

std::string platform_models(const catalog::Snapshot& snapshot) {
    return R"({"data":{"models":[)" + joined(snapshot, platform_model) +
           R"(]},"message":"Get models list successfully.","status":"success"})";
}

std::string ollama_tags(const catalog::Snapshot& snapshot) {
    return R"({"models":[)" + joined(snapshot, ollama_model) + "]}";
}

std::string ollama_ps(const catalog::Snapshot& snapshot) {
    return R"({"models":[)" + joined(snapshot, ollama_running) + "]}";
}

std::string ollama_show(const catalog::Model& model) {
    return R"({"license":"","modelfile":"","parameters":"","template":"","details":)" +
           ollama_details(model) +
           R"(,"model_info":{"general.architecture":"nebula","nebula.context_length":)" +
           std::to_string(model.context_length) + R"(},"capabilities":)" + ollama_capabilities(model) +
           R"(,"modified_at":)" + json_string(time_text(model)) + "}";
}

}  // namespace nebula::gateway
