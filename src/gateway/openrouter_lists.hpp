#pragma once
// OpenRouter's further lists: endpoints of a model with what is measured of them, providers, a model by name,
// and the list of models by its query. Texts of JSON.

#include <string>

#include "gateway/upstreams.hpp"
#include "http/json_api.hpp"

namespace nebula::gateway {

/// {"data":[Model],"links","total_count"} of those that the query lets through. Errors: invalid_request
/// naming the parameter.
Result<std::string> openrouter_models(const catalog::Snapshot& snapshot, const http::Params& query,
                                      const Upstreams& upstreams);
/// {"data":{"count"}}
std::string openrouter_count(const catalog::Snapshot& snapshot);
/// {"data":Model}
std::string openrouter_one(const catalog::Model& model);
/// {"data":{"id",…,"endpoints":[…]}}: one for each route.
std::string openrouter_endpoints(const catalog::Model& model, const Upstreams& upstreams, Ticks now);
/// {"data":[{"name","slug",…}]}
std::string openrouter_providers(const catalog::Snapshot& snapshot);

}  // namespace nebula::gateway
