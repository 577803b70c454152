#include "gateway/media/json_upload.hpp"

#include <openssl/evp.h>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>

#include "base/text.hpp"

namespace nebula::gateway::media {
namespace {

namespace json = boost::json;

constexpr std::size_t padding = 64;  // a reader may look so far behind the form

std::unexpected<Error> bad(std::string message, std::string param = {}) {
    return fail(Code::invalid_request, std::move(message), std::move(param));
}

Result<void> append_base64(std::string_view text, std::string& out) {
    if (text.empty() || text.size() % 4 != 0)
        return bad("'input_audio.data' must be base64", "input_audio.data");
    std::size_t at = out.size();
    out.resize(at + text.size() / 4 * 3);
    int bytes =
        EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data() + at),
                        reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
    if (bytes < 0) return bad("'input_audio.data' must be base64", "input_audio.data");
    std::size_t fill = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
    out.resize(at + static_cast<std::size_t>(bytes) - fill);
    return {};
}

class Writer {
   public:
    explicit Writer(RequestId request) : boundary_("nebula-" + request.text()) {}

    Result<void> add_field(std::string_view name, const json::value& value) {
        std::string text = value.is_string() ? std::string(value.get_string()) : json::serialize(value);
        if (text.contains(boundary_) || name.find_first_of("\"\\\r\n") != std::string_view::npos)
            return bad("'" + std::string(name) + "' cannot be sent in a form", std::string(name));
        head(name, {});
        form_.append(text).append("\r\n");
        return {};
    }
    Result<void> add_sound(std::string_view format, std::string_view base64) {
        head("file", format);
        auto done = append_base64(base64, form_);
        form_ += "\r\n";
        return done;
    }
    Upload finish() {
        form_ += "--" + boundary_ + "--\r\n";
        form_.reserve(form_.size() + padding);
        return {std::move(form_), "multipart/form-data; boundary=" + boundary_};
    }
    void reserve(std::size_t bytes) { form_.reserve(bytes); }

   private:
    void head(std::string_view name, std::string_view format) {
        form_ += "--" + boundary_ + "\r\ncontent-disposition: form-data; name=\"" + std::string(name) + '"';
        if (!format.empty())
            form_ += "; filename=\"audio." + std::string(format) + "\"\r\ncontent-type: audio/" +
                     std::string(format);
        form_ += "\r\n\r\n";
    }

    const std::string boundary_;
    std::string form_;
};

}  // namespace

bool is_json(std::string_view content_type) {
    return equals_ignore_case(trim(content_type.substr(0, content_type.find(';'))), "application/json");
}

Result<Upload> form_of_json(std::string_view body, RequestId request) {
    boost::system::error_code failed;
    json::value value = json::parse(body, failed);
    const json::object* asked = failed ? nullptr : value.if_object();
    if (asked == nullptr) return bad("the request body must be a form or a JSON object");
    const json::value* audio = asked->if_contains("input_audio");
    if (audio == nullptr || !audio->is_object())
        return bad("missing required parameter: 'input_audio'", "input_audio");
    const json::value* data = audio->get_object().if_contains("data");
    const json::value* format = audio->get_object().if_contains("format");
    if (data == nullptr || !data->is_string())
        return bad("'input_audio.data' must be base64", "input_audio.data");
    std::string word = format != nullptr && format->is_string() ? std::string(format->get_string()) : "";
    bool is_word = !word.empty() && word.size() <= 16 && std::ranges::all_of(word, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    });
    if (!is_word) return bad("'input_audio.format' must be a word as wav or mp3", "input_audio.format");
    Writer writer(request);
    writer.reserve(body.size());
    for (const auto& member : *asked) {
        std::string_view name = member.key();
        if (name == "input_audio" || name == "provider" || member.value().is_null()) continue;
        if (const json::array* items = member.value().if_array()) {
            for (const json::value& item : *items)
                if (auto done = writer.add_field(std::string(name) + "[]", item); !done)
                    return fail(std::move(done.error()));
        } else if (auto done = writer.add_field(name, member.value()); !done) {
            return fail(std::move(done.error()));
        }
    }
    if (auto done = writer.add_sound(word, data->get_string()); !done) return fail(std::move(done.error()));
    return writer.finish();
}

}  // namespace nebula::gateway::media
