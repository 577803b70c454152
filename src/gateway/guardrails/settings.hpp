#pragma once
// [[guardrail]] sections.

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/settings.hpp"

namespace nebula::gateway {

struct GuardrailSettings {
    std::string name;
    std::string kind = "words";   // limits | words | pii | moderation | hook
    std::string mode = "shadow";  // shadow | enforce
    std::vector<std::string> models, keys;
    std::string apply_to = "input";  // input | output | both
    std::string action = "block";    // block | mask | log
    std::int64_t prompt_bytes_max = 0;
    std::int64_t messages_max = 0;
    std::vector<std::string> words, patterns;
    std::int64_t match_bytes_max = 256;
    std::string replacement = "[removed]";
    std::vector<std::string> entities = {"email", "phone", "iban", "credit_card", "ip", "api_key"};
    bool reversible = false;
    std::string moderation_model;
    std::string url;
    std::string secret_env;
    bool send_body = true;
    std::int64_t body_bytes_max = 1024 * 1024;
    std::chrono::milliseconds timeout{2'000};
    std::string on_failure = "closed";  // open | closed
    void describe(settings::Visitor& v);
};

}  // namespace nebula::gateway
