#include "catalog/catalog.hpp"

namespace nebula::catalog {

using settings::Apply;

void CatalogSettings::describe(settings::Visitor& v) {
    v.field(
        {.name = "discover",
         .help = "After the start, look once for servers of models on this machine that are not configured, "
                 "and log how to use them."},
        discover);
    v.field({.name = "discover_at",
             .help = "Where to look: by default where Ollama, llama-server and vLLM listen.",
             .max = 100},
            discover_at);
}

void ProviderSettings::describe(settings::Visitor& v) {
    constexpr auto live = Apply::live;
    v.field({.name = "name", .help = "Name that routes refer to.", .apply = live, .required = true}, name);
    v.field(
        {.name = "kind",
         .help =
             "openai: any server that speaks OpenAI's API; azure: the same with Azure's paths and header; "
             "anthropic: Anthropic's Messages API; ollama: Ollama's own API; gemini: Google's Gemini API; "
             "runtime: model files on this machine.",
         .apply = live,
         .one_of = {"openai", "azure", "anthropic", "ollama", "gemini", "runtime"}},
        kind);
    v.field({.name = "base_url",
             .help = "Where its API starts, as http://127.0.0.1:8000/v1 or unix:/run/model.sock:/v1. Kinds "
                     "anthropic, ollama and gemini have a usual place: empty means it; anthropic's stands "
                     "without /v1.",
             .apply = live},
            base_url);
    v.field(
        {.name = "api_version",
         .help =
             "azure: api-version of the query; anthropic: the header anthropic-version. Empty: the version "
             "that this program was made for.",
         .apply = live},
        api_version);
    v.field({.name = "api_key_env",
             .help = "Environment variable that holds its API key; empty: none is sent.",
             .apply = live},
            api_key_env);
    v.field({.name = "api_key_file",
             .help = "File that holds its API key (mode 0600 is advised); instead of api_key_env.",
             .apply = live},
            api_key_file);
    v.field({.name = "ca_file", .help = "PEM file of a further trusted authority for https.", .apply = live},
            ca_file);
    v.field({.name = "responses",
             .help = "Its server has OpenAI's Responses API (POST base_url/responses): clients of that API "
                     "reach it with their own bytes. Kind openai only.",
             .apply = live},
            responses);
    v.field({.name = "hosted_tools",
             .help = "Tools that run at the provider which Responses clients may ask for, as \"web_search\" "
                     "(with its dated and preview names), \"code_interpreter\" or \"mcp\". What it charges "
                     "for each use is only passed on by a model with the unit tool_call. Empty: none.",
             .apply = live},
            hosted_tools);
    v.field({.name = "concurrency_max",
             .help = "Calls in progress at once; further ones go elsewhere or wait, see queue_max.",
             .apply = live,
             .min = 1,
             .max = 1'000'000},
            concurrency_max);
    v.field(
        {.name = "connect_timeout_ms", .help = "Resolve, connect, TLS handshake.", .apply = live, .min = 1},
        connect_timeout);
    v.field({.name = "first_byte_timeout_ms",
             .help = "From the request to the first byte of the answer.",
             .apply = live,
             .min = 1},
            first_byte_timeout);
    v.field({.name = "idle_timeout_ms", .help = "Between two pieces of an answer.", .apply = live, .min = 1},
            idle_timeout);
    v.field({.name = "total_timeout_ms", .help = "The whole call.", .apply = live, .min = 1}, total_timeout);
    v.field({.name = "breaker_failures",
             .help = "Failures in a row after which calls go elsewhere for a while.",
             .apply = live,
             .min = 1,
             .max = 1'000'000},
            breaker_failures);
    v.field({.name = "breaker_open_ms", .help = "How long, before one call tries again.", .apply = live},
            breaker_open);
    describe_routing(v);
}

void ImagePriceSettings::describe(settings::Visitor& v) {
    v.field({.name = "size", .help = "As \"1024x1024\"; empty: every size.", .apply = Apply::live}, size);
    v.field({.name = "quality", .help = "As \"high\"; empty: every quality.", .apply = Apply::live}, quality);
    v.field({.name = "price", .help = "USD per image.", .apply = Apply::live, .required = true}, price);
}

void ModelSettings::describe(settings::Visitor& v) {
    constexpr auto live = Apply::live;
    constexpr std::int64_t tokens_max = 1'000'000'000;
    v.field({.name = "id", .help = "Name that clients send as \"model\".", .apply = live, .required = true},
            id);
    v.field({.name = "context_length",
             .help = "Tokens of prompt and answer together.",
             .apply = live,
             .min = 1,
             .max = tokens_max},
            context_length);
    v.field({.name = "max_output_tokens",
             .help = "Longest answer, in tokens; at most context_length counts.",
             .apply = live,
             .min = 1,
             .max = tokens_max},
            max_output_tokens);
    v.field({.name = "price_input_per_m", .help = "USD per million prompt tokens.", .apply = live},
            price_input_per_m);
    v.field({.name = "price_output_per_m", .help = "USD per million answer tokens.", .apply = live},
            price_output_per_m);
    v.field(
        {.name = "price_cached_input_per_m",
         .help = "USD per million prompt tokens that the provider had cached; empty: as other prompt tokens.",
         .apply = live},
        price_cached_input_per_m);
    v.field(
        {.name = "price_cache_write_per_m",
         .help = "USD per million prompt tokens that were written to the provider's cache; empty: as other "
                 "prompt tokens.",
         .apply = live},
        price_cache_write_per_m);
    v.field({.name = "price_reasoning_per_m",
             .help = "USD per million reasoning tokens; empty: as other answer tokens.",
             .apply = live},
            price_reasoning_per_m);
    v.field({.name = "price_request", .help = "USD per request, on top of everything else.", .apply = live},
            price_request);
    v.field({.name = "price_unit",
             .help = "USD per unit: for what is not counted in tokens, or on top of them.",
             .apply = live},
            price_unit);
    v.field({.name = "unit",
             .help = "What price_unit is for. Empty: the model is paid for by tokens and requests alone.",
             .apply = live,
             .one_of = {"", "image", "second", "character", "document", "tool_call"}},
            unit);
    v.list(
        {.name = "image_prices",
         .help =
             "Prices of images by size and quality; the first that fits, else price_unit. What neither the "
             "request nor the answer tells costs the most that it may be.",
         .apply = live},
        image_prices);
    v.field({.name = "endpoints",
             .help = "What it may be used for.",
             .apply = live,
             .one_of = {"chat", "completions", "embeddings", "rerank", "moderations", "images", "image_edits",
                        "image_variations", "speech", "transcriptions", "translations"}},
            endpoints);
    v.list({.name = "routes", .help = "Who serves it; empty: the model file of that name.", .apply = live},
           routes);
    describe_routing(v);
    v.field(
        {.name = "disconnect",
         .help =
             "When a client leaves: bill_delivered ends the call and bills what was delivered, drain reads "
             "the answer to its end and bills it, cancel ends the call and bills nothing.",
         .apply = live,
         .one_of = {"bill_delivered", "drain", "cancel"}},
        disconnect);
    v.field(
        {.name = "cache",
         .help = "Answers from the cache: asked serves requests and keys that ask for it, always serves all "
                 "that do not refuse it, never none.",
         .apply = live,
         .one_of = {"asked", "always", "never"}},
        cache);
    v.field({.name = "owned_by", .help = "What the list of models says about its origin.", .apply = live},
            owned_by);
    v.field({.name = "model_class",
             .help = "Class that plans entitle to (\"basic\", \"vision\", …); see [[plan]] model_classes.",
             .apply = live},
            model_class);
    v.field({.name = "rpm", .help = "Requests per minute and account; 0: no limit.", .apply = live}, rpm);
    v.field({.name = "tpm", .help = "Tokens per minute and account; 0: no limit.", .apply = live}, tpm);
    v.field({.name = "ipm", .help = "Images per minute and account; 0: no limit.", .apply = live}, ipm);
    v.field(
        {.name = "default_temperature",
         .help = "Temperature of chats and completions that name none, as \"0.7\"; empty: the provider's.",
         .apply = live},
        default_temperature);
    v.field(
        {.name = "tokenizer",
         .help = "File of its vocabulary, for exact counts where nobody else tells them: an OpenAI rank file "
                 "(.tiktoken) or a tokenizer.json of BPE over bytes; estimate: none.",
         .apply = live},
        tokenizer);
    v.field({.name = "tokenizer_family",
             .help = "How a rank file's texts are split, where its number of entries does not tell it.",
             .apply = live,
             .one_of = {"", "gpt2", "p50k", "cl100k", "o200k", "llama3", "qwen2"}},
            tokenizer_family);
}

}  // namespace nebula::catalog
