#pragma once
// The catalog as each API lists it. JSON texts.

#include <memory>
#include <string>
#include <string_view>

#include "accounts/accounts.hpp"
#include "catalog/catalog.hpp"

namespace nebula::gateway {

/// What the key may use of the catalog, for every list; `key` null: all of it.
std::shared_ptr<const catalog::Snapshot> seen_by(const accounts::Key* key,
                                                 std::shared_ptr<const catalog::Snapshot> snapshot);
/// Null, too, when the key may not use the model: to it, that one does not exist.
std::shared_ptr<const catalog::Model> find_seen(const accounts::Key* key, const catalog::Snapshot& snapshot,
                                                std::string_view id);

/// OpenAI: {"id","object":"model",…}, and the list of all.
std::string openai_model(const catalog::Model& model);
std::string openai_models(const catalog::Snapshot& snapshot);
/// Anthropic: {"data":[{"type":"model","id","display_name","created_at",…}],"has_more","first_id","last_id"}.
std::string anthropic_model(const catalog::Model& model);
std::string anthropic_models(const catalog::Snapshot& snapshot);
/// OpenRouter: prices as decimal text in USD per token; {"data":[…]}. The parts of one model, too.
std::string openrouter_pricing(const billing::Prices& prices, const std::string& unit);
std::string openrouter_architecture(const catalog::Model& model);
std::string openrouter_parameters();
std::string openrouter_model(const catalog::Model& model);
std::string openrouter_models(const catalog::Snapshot& snapshot);
/// Novita: OpenAI's with context_size and prices in 0.0001 USD per million tokens; {"object","data":[…]}.
std::string novita_model(const catalog::Model& model);
std::string novita_models(const catalog::Snapshot& snapshot);
/// Platform: {"data":{"models":[{"model_name",…,"price"}]},"message","status"}.
std::string platform_models(const catalog::Snapshot& snapshot);
/// Ollama: /api/tags, /api/ps and /api/show.
std::string ollama_tags(const catalog::Snapshot& snapshot);
std::string ollama_ps(const catalog::Snapshot& snapshot);
std::string ollama_show(const catalog::Model& model);

}  // namespace nebula::gateway
