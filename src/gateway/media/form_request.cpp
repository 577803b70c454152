#include "gateway/media/form_request.hpp"

#include <algorithm>
#include <string>

#include "base/text.hpp"
#include "gateway/media/audio_length.hpp"
#include "http/multipart.hpp"

namespace nebula::gateway::media {
namespace {

constexpr std::size_t model_bytes_max = 256;
constexpr std::size_t look_bytes_max = 64;
constexpr std::int64_t images_max = 10;
constexpr std::int64_t image_files_max = 16;
// No sound that a model understands has fewer bytes a second.
constexpr std::int64_t bytes_per_second_min = 250;

std::unexpected<Error> bad(std::string message, std::string_view param) {
    return fail(Code::invalid_request, std::move(message), std::string(param));
}

class Reader {
   public:
    Reader(std::string_view body, Endpoint endpoint) : body_(body), endpoint_(endpoint) {
        request_.is_form = true;
        request_.has_media = true;
    }

    Result<ChatRequest> read(const std::vector<http::FormPart>& parts) {
        for (const http::FormPart& part : parts) {
            auto done = take(part);
            if (!done) return fail(std::move(done.error()));
        }
        if (request_.model.empty()) return bad("you must provide a 'model' parameter", "model");
        std::string_view file = info(endpoint_).is_image ? "image" : "file";
        if (files_ == 0) return bad("missing required parameter: '" + std::string(file) + "'", file);
        if (endpoint_ == Endpoint::image_edits && !has_prompt_)
            return bad("missing required parameter: 'prompt'", "prompt");
        return std::move(request_);
    }

   private:
    using Done = Result<void>;

    Done take(const http::FormPart& part) {
        bool is_image = info(endpoint_).is_image;
        if (part.name == "model") return take_model(part);
        if (part.name == "prompt") return take_prompt(part);
        if (part.name == "n" && is_image) return take_n(part);
        if (part.name == "size" && is_image) return take_look(part, has_size_, request_.size);
        if (part.name == "quality" && is_image) return take_look(part, has_quality_, request_.quality);
        if (part.name == "stream" && endpoint_ != Endpoint::image_variations) return take_stream(part);
        if (part.name == (is_image ? "image" : "file") || (is_image && part.name == "image[]"))
            return take_file(part);
        return {};  // the provider's
    }

    Done take_text(const http::FormPart& part, bool& seen) {
        std::string name(part.name);
        if (seen) return bad("'" + name + "' is given more than once", part.name);
        seen = true;
        if (part.is_file) return bad("'" + name + "' must be a text, not a file", part.name);
        return {};
    }

    Done take_model(const http::FormPart& part) {
        auto done = take_text(part, has_model_);
        if (!done) return done;
        if (part.body.empty()) return bad("'model' must not be empty", part.name);
        if (part.body.size() > model_bytes_max) return bad("'model' is too long", part.name);
        request_.model = part.body;
        request_.model_value = {static_cast<std::size_t>(part.body.data() - body_.data()), part.body.size()};
        return {};
    }

    Done take_prompt(const http::FormPart& part) {
        auto done = take_text(part, has_prompt_);
        if (!done) return done;
        if (part.body.empty() && info(endpoint_).is_image)
            return bad("'prompt' must not be empty", part.name);
        request_.prompt_bytes += part.body.size();
        return {};
    }

    Done take_n(const http::FormPart& part) {
        auto done = take_text(part, has_n_);
        if (!done) return done;
        auto n = parse_int<std::int64_t>(part.body);
        if (!n || *n < 1 || *n > images_max)
            return bad("'n' must be between 1 and " + std::to_string(images_max), part.name);
        request_.n = *n;
        return {};
    }

    Done take_look(const http::FormPart& part, bool& seen, std::string& to) {
        auto done = take_text(part, seen);
        if (done) to = part.body.substr(0, look_bytes_max);
        return done;
    }

    Done take_stream(const http::FormPart& part) {
        auto done = take_text(part, has_stream_);
        if (!done) return done;
        bool yes = equals_ignore_case(part.body, "true") || part.body == "1";
        bool no = equals_ignore_case(part.body, "false") || part.body == "0" || part.body.empty();
        if (!yes && !no) return bad("'stream' must be true or false", part.name);
        request_.stream = yes;
        return {};
    }

    Done take_file(const http::FormPart& part) {
        std::string name(part.name);
        if (!part.is_file) return bad("'" + name + "' must be a file", part.name);
        if (part.body.empty()) return bad("'" + name + "' is an empty file", part.name);
        std::int64_t most = endpoint_ == Endpoint::image_edits ? image_files_max : 1;
        if (++files_ > most)
            return bad(most == 1 ? "'" + name + "' is given more than once" : "there are too many images",
                       part.name);
        if (info(endpoint_).is_image) return {};
        request_.seconds = seconds_of(part.body);
        request_.seconds_max = std::max(
            request_.seconds, static_cast<std::int64_t>(part.body.size()) / bytes_per_second_min + 60);
        return {};
    }

    std::string_view body_;
    Endpoint endpoint_;
    ChatRequest request_;
    bool has_model_ = false, has_prompt_ = false, has_n_ = false, has_stream_ = false;
    bool has_size_ = false, has_quality_ = false;
    std::int64_t files_ = 0;
};

}  // namespace

Result<ChatRequest> parse_form_request(std::string_view body, std::string_view content_type,
                                       Endpoint endpoint) {
    auto parts = http::read_form(body, content_type);
    if (!parts) return fail(std::move(parts.error()));
    return Reader(body, endpoint).read(*parts);
}

}  // namespace nebula::gateway::media
