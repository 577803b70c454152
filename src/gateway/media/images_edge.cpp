#include "gateway/media/images_edge.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/text.hpp"

namespace nebula::gateway::media {
namespace {

namespace json = boost::json;

std::unexpected<Error> bad(std::string message, std::string param = {}) {
    return fail(Code::invalid_request, std::move(message), std::move(param));
}

// Null means as much as absent.
const json::value* given(const json::object& object, std::string_view name) {
    const json::value* value = object.if_contains(name);
    return value != nullptr && !value->is_null() ? value : nullptr;
}

void rename(json::object& object, std::string_view from, std::string_view to) {
    const json::value* found = given(object, from);
    if (found == nullptr) return;
    json::value value = *found;  // what the object gets moves what it has
    object.erase(from);
    if (given(object, to) == nullptr) object[to] = std::move(value);
}

class Edge final : public ClientEdge {
   public:
    Edge(ImageApi api, const Clock& clock) : api_(api), clock_(clock), started_(clock.ticks()) {}

    Result<std::string> request(std::string_view body) override {
        boost::system::error_code failed;
        json::value value = json::parse(body, failed);
        if (failed || !value.is_object()) return bad("the request body must be a JSON object");
        json::object& asked = value.get_object();
        if (const json::value* stream = given(asked, "stream");
            stream != nullptr && *stream != json::value(false))
            return bad("'stream' is not served here; use /v1/images/generations", "stream");
        if (api_ == ImageApi::platform) {
            auto done = from_platform(asked);
            if (!done) return fail(std::move(done.error()));
        }
        if (api_ == ImageApi::openrouter) asked.erase("provider");
        if (const json::value* model = given(asked, "model"); model != nullptr && model->is_string())
            model_ = model->get_string();
        for (auto [name, to] : {std::pair{"size", &size_}, {"output_format", &format_}})
            if (const json::value* text = given(asked, name); text != nullptr && text->is_string())
                *to = text->get_string();
        return json::serialize(asked);
    }

    Result<std::string> answer(std::string_view openai_answer) override {
        boost::system::error_code failed;
        json::value value = json::parse(openai_answer, failed);
        const json::object* made = failed ? nullptr : value.if_object();
        const json::value* data = made != nullptr ? made->if_contains("data") : nullptr;
        if (data == nullptr || !data->is_array()) return unreadable();
        if (const json::value* format = given(*made, "output_format");
            format != nullptr && format->is_string())
            format_ = format->get_string();
        json::array images;
        for (const json::value& item : data->get_array()) {
            const json::object* image = item.if_object();
            if (image == nullptr) return unreadable();
            images.push_back(told(*image, static_cast<std::int64_t>(images.size())));
        }
        return json::serialize(whole(*made, std::move(images)));
    }

    // Streams are refused.
    std::string_view stream_type() const override { return "text/event-stream"; }
    bool chunk(std::string_view, std::string&) override { return false; }
    void restart() override {}
    std::string end(const billing::TokenUsage&) override { return {}; }
    std::string broken(const Error&) override { return {}; }

   private:
    static std::unexpected<Error> unreadable() {
        return fail(Code::upstream_failed, "the provider sent an invalid answer", {},
                    "answer of another shape");
    }

    // What OpenAI has no name for (num_steps, guidance_scale, negative_prompt, seed, image, mask) is sent
    // under the platform's: servers of such models know it.
    static Result<void> from_platform(json::object& asked) {
        rename(asked, "model_name", "model");
        rename(asked, "num_images", "n");
        const json::value* width = given(asked, "width");
        const json::value* height = given(asked, "height");
        if (width != nullptr || height != nullptr) {
            std::int64_t sides[2] = {0, 0};
            const char* names[2] = {"width", "height"};
            for (int i = 0; i < 2; ++i) {
                const json::value* side = i == 0 ? width : height;
                if (side == nullptr) return bad("'width' and 'height' go together", names[i]);
                if (!side->is_int64() || side->get_int64() < 1 || side->get_int64() > 65'536)
                    return bad("'" + std::string(names[i]) + "' must be a whole number above 0", names[i]);
                sides[i] = side->get_int64();
            }
            asked["size"] = std::to_string(sides[0]) + "x" + std::to_string(sides[1]);
        }
        for (const char* name : {"width", "height"}) asked.erase(name);
        if (given(asked, "response_format") == nullptr) asked["response_format"] = "b64_json";
        return {};
    }

    json::object told(const json::object& image, std::int64_t index) const {
        json::object out;
        if (api_ == ImageApi::platform) {
            auto us =
                std::chrono::duration_cast<std::chrono::microseconds>(clock_.ticks() - started_).count();
            out["timings"] = json::object{{"inference", static_cast<double>(us) / 1e6}};
            out["index"] = index;
        }
        for (const char* name : {"url", "b64_json", "revised_prompt"})
            if (const json::value* value = given(image, name)) out[name] = *value;
        if (api_ == ImageApi::openrouter)
            out["media_type"] = "image/" + (format_ == "svg" ? "svg+xml" : format_.empty() ? "png" : format_);
        return out;
    }

    json::object whole(const json::object& made, json::array images) const {
        switch (api_) {
            case ImageApi::platform:
                return {{"model", model_},
                        {"object", "list"},
                        {"data", std::move(images)},
                        {"message", "Image generated successfully"},
                        {"status", "success"}};
            case ImageApi::old_text: {
                std::string size = size_.empty() ? "1024x1024" : size_;
                if (const json::value* told_size = given(made, "size"); told_size && told_size->is_string())
                    size = told_size->get_string();
                json::object usage{{"images_generated", images.size()}, {"resolution", size}};
                return {{"status", "success"},
                        {"data", json::object{{"images", std::move(images)}, {"usage", std::move(usage)}}}};
            }
            case ImageApi::openrouter:
                break;
        }
        json::object out{{"created", nullptr}, {"data", std::move(images)}};
        for (const char* name : {"created", "usage"})
            if (const json::value* value = made.if_contains(name)) out[name] = *value;
        return out;
    }

    const ImageApi api_;
    const Clock& clock_;
    const Ticks started_;
    std::string model_, size_, format_;
};

}  // namespace

std::unique_ptr<ClientEdge> make_images_edge(ImageApi api, const Clock& clock) {
    return std::make_unique<Edge>(api, clock);
}

}  // namespace nebula::gateway::media
