#pragma once
// The catalog's models for images as Novita lists media models, and lists of one kind of models.

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "catalog/catalog.hpp"
#include "http/json_api.hpp"

namespace nebula::gateway::media {

/// The models that serve any of these endpoints, for the lists of model_lists.hpp.
catalog::Snapshot only(const catalog::Snapshot& snapshot, std::initializer_list<std::string_view> endpoints);

/// GET /v3/model. Models here are checkpoints of public visibility and of no source; what a filter asks
/// beyond that finds nothing. Errors, invalid_request: a bad limit or cursor.
Result<std::string> novita_models(const catalog::Snapshot& snapshot, const http::Params& query);

}  // namespace nebula::gateway::media
