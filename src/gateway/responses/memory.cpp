#include "gateway/responses/memory.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace nebula::gateway::responses {
namespace {

namespace json = boost::json;

// What providers answered and clients sent may be nested far deeper than the parser takes by itself.
json::value parse_stored(const std::string& text) {
    boost::system::error_code failed;
    json::parse_options options;
    options.max_depth = 600;
    json::value value = json::parse(text, failed, {}, options);
    return failed ? json::value() : value;
}

void add(json::array& items, json::value* more) {
    json::array* list = more != nullptr ? more->if_array() : nullptr;
    if (list == nullptr) return;
    for (json::value& one : *list) items.push_back(std::move(one));
}

void add_output(json::array& items, const std::string& response) {
    json::value value = parse_stored(response);
    if (json::object* object = value.if_object()) add(items, object->if_contains("output"));
}

const char* prefix_of(std::string_view type) {
    if (type == "function_call") return "fc";
    if (type == "function_call_output") return "fco";
    if (type == "reasoning") return "rs";
    return "msg";
}

}  // namespace

Async<Result<Memory>> remember(records::StoredResponses& store, std::string_view body, AccountId account) {
    Memory memory;
    memory.is_on = true;
    memory.stores_by_default = store.stores_by_default();
    if (body.find("previous_response_id") == std::string_view::npos) co_return memory;
    boost::system::error_code failed;
    json::parse_options options;
    options.max_depth = 128;
    json::value value = json::parse(body, failed, {}, options);
    const json::object* request = failed ? nullptr : value.if_object();
    const json::value* previous = request != nullptr ? request->if_contains("previous_response_id") : nullptr;
    if (previous == nullptr || previous->is_null()) co_return memory;
    const json::string* text = previous->if_string();
    if (text == nullptr)
        co_return fail(Code::invalid_request, "previous_response_id: must be a string",
                       "previous_response_id");
    memory.previous = std::string(*text);
    Error none{.code = Code::not_found,
               .message = "Previous response with id '" + memory.previous.substr(0, 100) + "' not found.",
               .param = "previous_response_id"};
    auto id = parse_response_id(memory.previous);
    if (!id) co_return fail(std::move(none));
    auto chain = co_await store.conversation(account, *id);
    if (!chain)
        co_return fail(chain.error().code == Code::not_found ? std::move(none) : std::move(chain.error()));
    memory.earlier = items_before(*chain);
    add_output(memory.earlier, chain->back().response);
    co_return memory;
}

std::string with_ids(json::array items, RequestId request) {
    std::string digits = base32_id(request.value);
    std::size_t index = 0;
    for (json::value& one : items) {
        json::object* item = one.if_object();
        std::string number = std::to_string(index++);
        if (item == nullptr) continue;
        const json::value* id = item->if_contains("id");
        if (id != nullptr && id->is_string() && !id->get_string().empty()) continue;
        const json::value* type = item->if_contains("type");
        std::string_view word =
            type != nullptr && type->is_string() ? std::string_view(type->get_string()) : "";
        (*item)["id"] = std::string(prefix_of(word)) + "_" + digits + "_in" + number;
    }
    return json::serialize(items);
}

json::array items_before(const std::vector<records::StoredResponse>& conversation) {
    json::array items;
    for (std::size_t i = 0; i < conversation.size(); ++i) {
        if (i > 0) add_output(items, conversation[i - 1].response);
        json::value input = parse_stored(conversation[i].input);
        add(items, &input);
    }
    return items;
}

}  // namespace nebula::gateway::responses
