#pragma once
// Asking a provider which models it has, in the words of its kind.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "async/async.hpp"
#include "base/result.hpp"
#include "catalog/catalog.hpp"
#include "catalog/presets.hpp"
#include "http/client.hpp"

namespace nebula::catalog {

/// At most 10,000 models; those whose ids cannot stand in a configuration file are left out. Uses the
/// provider's key and `timeouts`. On an I/O thread. Errors: invalid_request (a kind that has no list),
/// upstream_failed, timeout.
Async<Result<std::vector<FoundModel>>> discover(http::Client& client,
                                                std::shared_ptr<const Provider> provider,
                                                http::Timeouts timeouts);

/// One page of a provider's answer. Where more follow, `next` is what has to be appended to the query.
struct Page {
    std::vector<FoundModel> models;
    std::string next;
    std::string server;  // "llamacpp", "vllm" …: who says that it owns the models, where told
};
Result<Page> read_page(ProviderKind kind, std::string_view body);

/// "openai", "ollama" …
const char* kind_name(ProviderKind kind);

}  // namespace nebula::catalog
