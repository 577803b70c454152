#include "gateway/guardrails/settings.hpp"

namespace nebula::gateway {

void GuardrailSettings::describe(settings::Visitor& v) {
    v.field({.name = "name", .help = "Of the rail, in metrics, logs and refusals.", .required = true}, name);
    v.field(
        {.name = "kind",
         .help = "limits: size of prompts; words: words and patterns; pii: personal data; moderation: asks a "
                 "model; hook: asks an HTTP service of yours.",
         .one_of = {"limits", "words", "pii", "moderation", "hook"}},
        kind);
    v.field({.name = "mode",
             .help = "shadow only counts what the rail would do, enforce does it.",
             .one_of = {"shadow", "enforce"}},
            mode);
    v.field({.name = "models", .help = "Models it is for (\"qwen*\": prefix); empty: all."}, models);
    v.field({.name = "keys", .help = "Ids of the API keys it is for (key_…); empty: all."}, keys);
    v.field({.name = "apply_to",
             .help = "Requests, answers or both; of kind hook: asked about requests, told of answers.",
             .one_of = {"input", "output", "both"}},
            apply_to);
    v.field(
        {.name = "action",
         .help =
             "What words and pii do with a match: block the request (an answer ends there), mask it, or log "
             "that there was one.",
         .one_of = {"block", "mask", "log"}},
        action);
    v.field({.name = "prompt_bytes_max", .help = "limits: text of one request, in bytes; 0: any."},
            prompt_bytes_max);
    v.field({.name = "messages_max", .help = "limits: messages of one request; 0: any."}, messages_max);
    v.field({.name = "words", .help = "words: in any case, not inside of longer words."}, words);
    v.field({.name = "patterns", .help = "words: regular expressions in RE2's syntax."}, patterns);
    v.field({.name = "match_bytes_max",
             .help = "words: longest match of a pattern, in bytes; streams are held back by it.",
             .min = 1,
             .max = 4096},
            match_bytes_max);
    v.field({.name = "replacement", .help = "words: what a masked match becomes."}, replacement);
    v.field({.name = "entities",
             .help = "pii: what is looked for.",
             .one_of = {"email", "phone", "iban", "credit_card", "ip", "api_key"}},
            entities);
    v.field(
        {.name = "reversible",
         .help = "pii with action mask: the answer gets the original texts back in place of their names."},
        reversible);
    v.field({.name = "moderation_model", .help = "moderation: a [[model]] that serves moderations."},
            moderation_model);
    v.field({.name = "url",
             .help = "hook: where requests and answers are posted. Yours, so any address is allowed."},
            url);
    v.field(
        {.name = "secret_env",
         .help = "hook: environment variable with the secret that signs what is posted; empty: unsigned."},
        secret_env);
    v.field({.name = "send_body", .help = "hook: what is posted contains the request or the answer itself."},
            send_body);
    v.field({.name = "body_bytes_max",
             .help = "hook: largest body that is sent or taken; beyond it the rail has failed.",
             .min = 1024,
             .max = 64 * 1024 * 1024},
            body_bytes_max);
    v.field(
        {.name = "timeout_ms", .help = "moderation, hook: how long one may take.", .min = 1, .max = 600'000},
        timeout);
    v.field({.name = "on_failure",
             .help = "moderation, hook: a rail that cannot be asked lets pass (open) or refuses (closed).",
             .one_of = {"open", "closed"}},
            on_failure);
}

}  // namespace nebula::gateway
