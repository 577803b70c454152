// Parts must lie within the body, in order, and putting them between boundaries again must give the same
// form.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "http/multipart.hpp"

namespace {

void require(bool holds) {
    if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view input(reinterpret_cast<const char*>(data), size);
    // The first line is the header's value, so that boundaries are fuzzed with the bodies they cut.
    std::size_t line = std::min(input.find('\n'), input.size());
    std::string type = "multipart/form-data; boundary=" + std::string(input.substr(0, line));
    std::string_view body = input.substr(std::min(line + 1, input.size()));
    auto parts = nebula::http::read_form(body, type);
    if (!parts) {
        require(!parts.error().message.empty());
        return 0;
    }
    require(!parts->empty() && parts->size() <= 64);
    const char* at = body.data();
    std::string again;
    for (const auto& part : *parts) {
        require(!part.name.empty() && part.name.data() >= at);
        require(part.body.data() > part.name.data());
        at = part.body.data() + part.body.size();
        require(at <= body.data() + body.size());
        again += "--b0undary\r\nContent-Disposition: form-data; name=\"" + std::string(part.name) + '"';
        if (part.is_file) again += "; filename=\"" + std::string(part.filename) + '"';
        again += "\r\n\r\n" + std::string(part.body) + "\r\n";
    }
    again += "--b0undary--\r\n";
    if (again.find("--b0undary", 0) != again.rfind("--b0undary") && body.contains("b0undary")) return 0;
    auto twice = nebula::http::read_form(again, "multipart/form-data; boundary=b0undary");
    require(twice && twice->size() == parts->size());
    for (std::size_t i = 0; i < parts->size(); ++i) {
        require((*twice)[i].name == (*parts)[i].name);
        require((*twice)[i].body == (*parts)[i].body);
    }
    return 0;
}
