#pragma once
// Providers that speak OpenAI's API: bytes pass through. vLLM, SGLang, llama-server, LM Studio, Groq,
// Mistral, DeepSeek, Together and OpenAI itself; Azure's form of it; and our own runners.

#include "gateway/provider.hpp"

namespace nebula::gateway::openai {

const Provider& provider();
/// base_url https://NAME.openai.azure.com: deployments are named like the route's model, the key is
/// `api-key`.
const Provider& azure_provider();

}  // namespace nebula::gateway::openai
