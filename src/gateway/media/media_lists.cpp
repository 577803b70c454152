#include "gateway/media/media_lists.hpp"

#include <algorithm>

#include "base/crypto.hpp"
#include "base/text.hpp"

namespace nebula::gateway::media {
namespace {

bool serves_any(const catalog::Model& model, std::initializer_list<std::string_view> endpoints) {
    return std::ranges::any_of(endpoints, [&](std::string_view endpoint) { return model.serves(endpoint); });
}

// Novita numbers its models; ours have names, and a number must not change with their order.
std::string number_of(const catalog::Model& model) {
    Sha256 digest = sha256(model.id);
    std::uint32_t number = 0;
    for (std::size_t i = 0; i < 4; ++i) number = number << 8 | static_cast<std::uint8_t>(digest.bytes[i]);
    return std::to_string(number >> 1);
}

std::string novita_model(const catalog::Model& model) {
    std::string name = json_string(model.id);
    return R"({"id":)" + number_of(model) + R"(,"name":)" + name + R"(,"hash_sha256":"","sd_name":)" + name +
           R"(,"type":{"name":"checkpoint","display_name":"Checkpoint"},"categories":[],"status":1,)"
           R"("download_url":"","tags":[],"cover_url":"","source":"","base_model":"","base_model_type":"",)"
           R"("download_url_ttl":0,"sd_name_in_api":)" +
           name + R"(,"is_sdxl":false})";
}

// What no model here can be.
bool finds_nothing(const http::Params& query) {
    auto is = [&](std::string_view name, std::string_view value) { return query.get(name) == value; };
    if (is("filter.visibility", "private") || is("filter.is_sdxl", "true") ||
        is("filter.is_inpainting", "true"))
        return true;
    if (auto source = query.get("filter.source"); source && !source->empty()) return true;
    auto types = query.get("filter.types");
    return types && !types->empty() && !types->contains("checkpoint");
}

}  // namespace

catalog::Snapshot only(const catalog::Snapshot& snapshot, std::initializer_list<std::string_view> endpoints) {
    catalog::Snapshot some;
    for (const auto& model : snapshot.models)
        if (serves_any(*model, endpoints)) some.models.push_back(model);
    return some;
}

Result<std::string> novita_models(const catalog::Snapshot& snapshot, const http::Params& query) {
    auto limit = query.integer("pagination.limit", 100, 1, 100);
    if (!limit) return fail(std::move(limit.error()));
    std::string_view cursor = query.get("pagination.cursor").value_or(std::string_view());
    std::size_t from = 0;
    if (!cursor.empty()) {
        auto number = cursor.starts_with("c_") ? parse_int<std::size_t>(cursor.substr(2)) : std::nullopt;
        if (!number) return fail(Code::invalid_request, "the cursor is not one of ours", "pagination.cursor");
        from = *number;
    }
    std::string_view wanted = query.get("filter.query").value_or(std::string_view());
    std::string word = to_lower(wanted);
    std::string models, next;
    std::size_t at = 0;
    auto left = static_cast<std::size_t>(*limit);
    for (const auto& model : only(snapshot, {"images", "image_edits", "image_variations"}).models) {
        if (finds_nothing(query)) break;
        if (!to_lower(model->id).contains(word) || at++ < from) continue;
        if (left-- == 0) {
            next = "c_" + std::to_string(at - 1);
            break;
        }
        models += (models.empty() ? "" : ",") + novita_model(*model);
    }
    return R"({"models":[)" + models + R"(],"pagination":{"next_cursor":)" + json_string(next) + "}}";
}

}  // namespace nebula::gateway::media
