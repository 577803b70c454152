#pragma once
// Providers that speak OpenAI's API: bytes pass through. vLLM, SGLang, llama-server, LM Studio, Groq,
// Mistral, DeepSeek, Together and OpenAI itself; Azure's form of it; and our own runners. Those that have
// POST /responses are asked there by clients of the Responses API.

#include "gateway/provider.hpp"

namespace nebula::gateway::openai {

const Provider& provider();
/// base_url https://NAME.openai.azure.com: deployments are named like the route's model, the key is
/// `api-key`.
const Provider& azure_provider();
/// Where it has OpenAI's Responses API, too: for clients of that API, whose bytes pass.
const Provider& responses_provider();

}  // namespace nebula::gateway::openai
