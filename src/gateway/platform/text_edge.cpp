#include "gateway/platform/text_edge.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/text.hpp"
#include "gateway/chunk_reader.hpp"
#include "http/dialects.hpp"

namespace nebula::gateway::platform {
namespace {

namespace json = boost::json;

constexpr std::size_t images_max = 16;

std::unexpected<Error> bad(std::string message, std::string param = {}) {
    return fail(Code::invalid_request, std::move(message), std::move(param));
}

const json::value* given(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && !value->is_null() ? value : nullptr;
}

// An address, or {"url"}, or {"data","type"} with base64.
Result<std::string> image_url(const json::value& image) {
    if (image.is_string()) return std::string(image.get_string());
    const json::object* object = image.if_object();
    if (object == nullptr) return bad("'image' must be an address or an object", "image");
    if (const json::value* url = given(*object, "url"); url != nullptr && url->is_string())
        return std::string(url->get_string());
    const json::value* data = given(*object, "data");
    if (data == nullptr || !data->is_string()) return bad("'image' needs a url or data", "image");
    const json::value* type = given(*object, "type");
    std::string word = type != nullptr && type->is_string() ? std::string(type->get_string()) : "image/jpeg";
    if (!word.contains('/')) word = "image/" + word;
    return "data:" + word + ";base64," + std::string(data->get_string());
}

Result<json::array> image_parts(const json::object& asked) {
    const json::value* image = given(asked, "image");
    if (image == nullptr) return bad("missing required parameter: 'image'", "image");
    std::string detail = "auto";  // their "medium"
    if (const json::value* word = given(asked, "detail")) {
        if (*word != "low" && *word != "medium" && *word != "high")
            return bad("'detail' must be low, medium or high", "detail");
        if (*word != "medium") detail = word->get_string();
    }
    json::array one{*image};
    const json::array& images = image->is_array() ? image->get_array() : one;
    if (images.empty() || images.size() > images_max)
        return bad("'image' must hold 1 to " + std::to_string(images_max) + " images", "image");
    json::array parts;
    for (const json::value& item : images) {
        auto url = image_url(item);
        if (!url) return fail(std::move(url.error()));
        parts.push_back(json::object{{"type", "image_url"},
                                     {"image_url", json::object{{"url", *url}, {"detail", detail}}}});
    }
    return parts;
}

class Edge final : public ClientEdge, private ChunkSink {
   public:
    explicit Edge(TextKind kind) : kind_(kind) {}

    Result<std::string> request(std::string_view body) override {
        boost::system::error_code failed;
        json::value value = json::parse(body, failed);
        if (failed || !value.is_object()) return bad("the request body must be a JSON object");
        json::object& asked = value.get_object();
        const json::value* prompt = given(asked, "prompt");
        if (prompt == nullptr) return bad("missing required parameter: 'prompt'", "prompt");
        if (!prompt->is_string()) return bad("'prompt' must be a string", "prompt");
        json::value content = *prompt;
        if (kind_ == TextKind::vision) {
            auto parts = image_parts(asked);
            if (!parts) return fail(std::move(parts.error()));
            parts->insert(parts->begin(), json::object{{"type", "text"}, {"text", *prompt}});
            content = std::move(*parts);
        }
        json::object chat;
        for (const auto& member : asked) {
            std::string_view name = member.key();
            if (name == "prompt" || member.value().is_null()) continue;
            if (kind_ == TextKind::vision && (name == "image" || name == "detail")) continue;
            chat[name] = member.value();
        }
        chat["messages"] = json::array{json::object{{"role", "user"}, {"content", std::move(content)}}};
        if (!chat.contains("max_tokens")) chat["max_tokens"] = kind_ == TextKind::vision ? 300 : 256;
        if (!chat.contains("temperature")) chat["temperature"] = 0.7;
        return json::serialize(chat);
    }

    Result<std::string> answer(std::string_view openai_answer) override {
        boost::system::error_code failed;
        json::value value = json::parse(openai_answer, failed);
        const json::object* said = failed ? nullptr : value.if_object();
        const json::value* choices = said != nullptr ? said->if_contains("choices") : nullptr;
        const json::array* list = choices != nullptr ? choices->if_array() : nullptr;
        const json::object* choice = list != nullptr && !list->empty() ? list->front().if_object() : nullptr;
        const json::value* message = choice != nullptr ? choice->if_contains("message") : nullptr;
        if (message == nullptr || !message->is_object())
            return fail(Code::upstream_failed, "the provider sent an invalid answer", {},
                        "answer of another shape");
        const json::value* text = given(message->get_object(), "content");
        const json::value* usage = given(*said, "usage");
        json::object data{{"text", text != nullptr ? *text : json::value("")},
                          {"usage", usage != nullptr ? *usage : json::value(json::object())}};
        return json::serialize(json::object{{"status", "success"}, {"data", std::move(data)}});
    }

    std::string_view stream_type() const override { return "text/event-stream; charset=utf-8"; }
    bool chunk(std::string_view data, std::string& out) override {
        out_ = &out;
        return reader_.read(data, *this);
    }
    void restart() override {
        reader_.restart();
        reason_ = "stop";
    }
    std::string end(const billing::TokenUsage&) override {
        return R"(data: {"text":"","finish_reason":)" + json_string(reason_) + "}\n\ndata: [DONE]\n\n";
    }
    std::string broken(const Error& error) override {
        return "data: " + http::platform_error(error, {}).body + "\n\n";
    }

   private:
    void model(std::string_view) override {}
    void text(std::string_view raw, bool is_reasoning) override {
        if (is_reasoning || raw.size() <= 2) return;
        out_->append(R"(data: {"text":)").append(raw).append(",\"finish_reason\":null}\n\n");
    }
    // Nobody asked for tools here.
    bool call(std::int64_t, std::string_view, std::string_view, std::string_view) override { return true; }
    void finished(std::string_view reason) override { reason_ = reason; }

    const TextKind kind_;
    ChunkReader reader_;
    std::string* out_ = nullptr;
    std::string reason_ = "stop";
};

}  // namespace

std::unique_ptr<ClientEdge> make_text_edge(TextKind kind) { return std::make_unique<Edge>(kind); }

}  // namespace nebula::gateway::platform
