// Everything of images and sound that strangers send: requests, forms, files, answers, events. No crash, no
// negative count; and JSON that becomes a form is a form.
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "gateway/completion.hpp"
#include "gateway/media/audio_length.hpp"
#include "gateway/media/form_request.hpp"
#include "gateway/media/json_upload.hpp"

namespace {

using namespace nebula::gateway;

void require(bool truth) {
    if (!truth) std::abort();
}

void require_counts(const Completion& read, const UsageBounds& bounds) {
    require(read.images >= 0);
    require(read.usage.seconds >= 0 && read.usage.seconds <= bounds.seconds_max);
    require(read.usage.usage.input >= 0 && read.usage.usage.input <= bounds.input_max);
    require(read.usage.usage.output >= 0 && read.usage.usage.output <= bounds.output_max);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    std::vector<char> padded(size + 64);
    if (size > 0) std::memcpy(padded.data(), data, size);
    std::string_view body(padded.data(), size);

    auto seconds = media::seconds_of(body);
    require(seconds >= 1 && seconds <= static_cast<std::int64_t>(size) / 1'000 + 1);

    UsageBounds bounds{1000, 1000, 60};
    require_counts(read_media_event(body, bounds), bounds);
    for (Endpoint endpoint : {Endpoint::images, Endpoint::transcriptions}) {
        Completion copied = read_answer(body, bounds, endpoint);
        Completion in_place = read_answer(body, bounds, endpoint, size + 64);
        require_counts(copied, bounds);
        require(copied.kind == in_place.kind && copied.images == in_place.images);
        require(copied.usage.seconds == in_place.usage.seconds);
    }
    for (Endpoint endpoint : {Endpoint::images, Endpoint::speech}) {
        auto request = parse_request(body, endpoint);
        if (request) require(request->n >= 1 && request->n <= 10 && request->characters >= 0);
    }
    std::string form = "--b\r\n" + std::string(body) + "\r\n--b--";
    for (Endpoint endpoint : {Endpoint::transcriptions, Endpoint::image_edits}) {
        auto request = media::parse_form_request(form, "multipart/form-data; boundary=b", endpoint);
        if (!request) continue;
        Span at = request->model_value;
        require(std::string_view(form).substr(at.at, at.length) == request->model);
    }
    auto upload = media::form_of_json(body, nebula::RequestId{1});
    if (upload) {
        auto request =
            media::parse_form_request(upload->form, upload->content_type, Endpoint::transcriptions);
        require(request || !request.error().param.empty() || !request.error().message.empty());
    }
    return 0;
}
