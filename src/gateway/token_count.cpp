#include "gateway/token_count.hpp"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace nebula::gateway {
namespace {

namespace json = boost::json;

constexpr std::int64_t message_tokens = 4;  // around each message, as templates write them
constexpr std::int64_t answer_tokens = 3;   // what opens the answer
constexpr std::chrono::milliseconds runner_wait{60'000};
constexpr std::size_t answer_bytes_max = 8 * 1024 * 1024;
constexpr std::size_t exact_bytes_max = 256 * 1024;  // of a request that a runner is asked about

// Length of the UTF-8 character that begins with `byte`; stray bytes count as one.
std::size_t character_bytes(unsigned char byte) {
    return byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
}

bool is_one_token_each(char32_t c) {
    return (c >= 0x3040 && c <= 0x30FF) || (c >= 0x3400 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7AF) ||
           (c >= 0xF900 && c <= 0xFAFF);
}

void add_texts(const json::value& value, std::int64_t& tokens) {
    if (const json::string* text = value.if_string()) {
        tokens += estimate_text(*text);
    } else if (const json::array* list = value.if_array()) {
        for (const json::value& one : *list) add_texts(one, tokens);
    } else if (const json::object* object = value.if_object()) {
        for (const auto& member : *object) {
            std::string_view name = member.key();
            // Images and files are priced by their models, not by the letters they are sent in.
            bool is_data = name == "image_url" || name == "file" || name == "input_audio" || name == "type" ||
                           name == "role" || name == "id";
            if (!is_data) add_texts(member.value(), tokens);
        }
    }
}

const catalog::Route* local_route(const catalog::Model& model) {
    for (const catalog::Route& route : model.routes)
        if (route.provider->is_runtime()) return &route;
    return nullptr;
}

// Tokens of the messages as the runner's chat template writes them; negative when it cannot tell.
Async<std::int64_t> ask_runner(const Services& services, std::string upstream_model, std::string body) {
    auto lease =
        co_await services.runtime->acquire(std::move(upstream_model), services.clock.ticks() + runner_wait);
    if (!lease) co_return -1;
    std::string_view piece = body;
    http::ClientRequest request;
    request.path = "/tokenize";
    request.headers = "content-type: application/json\r\n";
    request.body_pieces = std::span(&piece, 1);
    request.timeouts.total = runner_wait;
    auto response = co_await services.client.send(lease->origin(), std::move(request), nullptr);
    if (!response || (*response)->status() != 200) co_return -1;
    auto text = co_await (*response)->read_all(answer_bytes_max);
    if (!text) co_return -1;
    boost::system::error_code failed;
    json::value answer = json::parse(*text, failed);
    const json::object* object = failed ? nullptr : answer.if_object();
    const json::value* tokens = object != nullptr ? object->if_contains("tokens") : nullptr;
    // A runner that does not know messages here answers with no tokens at all.
    if (tokens == nullptr || !tokens->is_array() || tokens->get_array().empty()) co_return -1;
    co_return static_cast<std::int64_t>(tokens->get_array().size());
}

struct Asked {
    std::shared_ptr<const catalog::Model> model;  // null: none that is known
    bool is_for_runner = false;
    std::string messages;  // then: what the runner is asked
};

Asked asked_of(const Services& services, std::string_view chat_request) {
    Asked asked;
    boost::system::error_code failed;
    json::parse_options options;
    options.max_depth = 128;
    json::value value = json::parse(chat_request, failed, {}, options);
    if (failed || !value.is_object()) return asked;
    const json::object& request = value.get_object();
    const json::value* name = request.if_contains("model");
    const json::value* messages = request.if_contains("messages");
    if (name == nullptr || !name->is_string() || messages == nullptr) return asked;
    asked.model = services.catalog.current()->find(std::string_view(name->get_string()));
    // Its chat template is not asked about tools; large prompts cost nobody's turn.
    asked.is_for_runner = asked.model && services.runtime != nullptr &&
                          local_route(*asked.model) != nullptr && chat_request.size() <= exact_bytes_max &&
                          !request.contains("tools");
    if (asked.is_for_runner) asked.messages = R"({"messages":)" + json::serialize(*messages) + "}";
    return asked;
}

bool may_use(const accounts::Key* key, const catalog::Model& model) {
    return key == nullptr ||
           (accounts::Permissions(key->permissions).has(accounts::Permission::inference_write) &&
            key->may_use_model(model.id));
}

}  // namespace

std::int64_t estimate_text(std::string_view text) {
    std::int64_t letters = 0, pairs = 0, characters = 0, other_bytes = 0;
    for (std::size_t i = 0; i < text.size();) {
        auto byte = static_cast<unsigned char>(text[i]);
        std::size_t length = std::min(character_bytes(byte), text.size() - i);
        if (byte < 0x80) {
            bool is_letter = (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
            // A blank is part of the word behind it.
            if (is_letter || byte == ' ')
                ++letters;
            else
                ++pairs;
        } else {
            char32_t c = byte & (0xFFu >> (length + 1));
            for (std::size_t k = 1; k < length; ++k)
                c = c << 6 | (static_cast<unsigned char>(text[i + k]) & 0x3Fu);
            if (length == 3 && is_one_token_each(c))
                ++characters;
            else
                other_bytes += static_cast<std::int64_t>(length);
        }
        i += length;
    }
    return (letters + 3) / 4 + (pairs + 1) / 2 + characters + (other_bytes + 2) / 3;
}

std::int64_t estimate_prompt(std::string_view chat_request) {
    boost::system::error_code failed;
    json::parse_options options;
    options.max_depth = 128;
    json::value value = json::parse(chat_request, failed, {}, options);
    if (failed || !value.is_object()) return estimate_text(chat_request);
    const json::object& request = value.get_object();
    std::int64_t tokens = answer_tokens;
    if (const json::value* messages = request.if_contains("messages"); messages && messages->is_array()) {
        tokens += message_tokens * static_cast<std::int64_t>(messages->get_array().size());
        add_texts(*messages, tokens);
    }
    // Templates write tools and schemas as the JSON they are.
    for (const char* name : {"tools", "response_format"})
        if (const json::value* part = request.if_contains(name))
            tokens += estimate_text(json::serialize(*part));
    return tokens;
}

Async<TokenCount> count_prompt(const Services& services, Counting& counting, const accounts::Key* key,
                               std::string chat_request) {
    Asked asked = asked_of(services, chat_request);
    if (asked.is_for_runner && may_use(key, *asked.model)) {
        const catalog::Route& route = *local_route(*asked.model);
        std::int64_t exact = co_await ask_runner(services, route.upstream_model, std::move(asked.messages));
        if (exact > 0) co_return TokenCount{exact, "runtime"};
    }
    if (asked.model && asked.model->tokenizer) {
        auto counted = co_await counting.prompt(asked.model->tokenizer, Endpoint::chat, chat_request);
        if (counted) co_return TokenCount{counted->tokens, counted->has_media ? "estimate" : "bpe"};
    }
    co_return TokenCount{.tokens = estimate_prompt(chat_request)};
}

}  // namespace nebula::gateway
