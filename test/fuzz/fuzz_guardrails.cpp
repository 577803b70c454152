// Rails read what strangers send: whatever JSON comes, the result is JSON with nothing but texts changed, and
// a stream cut anywhere reads as the whole text.
#include <boost/json.hpp>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gateway/guardrails/filter.hpp"
#include "gateway/guardrails/output.hpp"
#include "gateway/guardrails/rails.hpp"
#include "gateway/guardrails/texts.hpp"

namespace {

using namespace nebula::gateway::guardrails;

void require(bool holds) {
    if (!holds) std::abort();
}

const Matchers& matchers() {
    static const Matchers all = [] {
        Matchers made;
        for (const char* entity : {"email", "phone", "iban", "credit_card", "ip", "api_key"})
            made.push_back(make_personal(entity));
        made.push_back(*make_words({"secret", "größe"}));
        made.push_back(*make_pattern("\\ba.*b\\b|^x|y$", 12));
        return made;
    }();
    return all;
}

bool is_json(std::string_view text) {
    boost::system::error_code problem;
    boost::json::parse_options options;
    options.max_depth = 600;
    options.allow_invalid_utf8 = true;
    boost::json::parse(text, problem, {}, options);
    return !problem;
}

void edit(std::string_view json) {
    auto edited = edit_texts(json, [](std::string_view text, std::string& instead) {
        instead = "\"\\" + std::string(text.substr(0, 3));
        return text.size() % 2 == 0;
    });
    if (edited && is_json(json)) require(is_json(edited->json));
    if (edited && !edited->is_changed) require(edited->json == json);
}

void cut(std::string_view cuts, std::string_view text) {
    OnMatch mark = [](const Matcher& matcher, std::string_view found) {
        require(!found.empty() && found.size() <= matcher.reach());
        return "<" + std::string(found) + ">";
    };
    bool is_stopped = false;
    std::string whole = filter_text(matchers(), mark, text, is_stopped).value_or(std::string(text));
    Filter filter(matchers(), mark);
    std::string out;
    std::size_t turn = 0;
    while (!text.empty()) {
        std::size_t size =
            cuts.empty() ? text.size() : static_cast<unsigned char>(cuts[turn++ % cuts.size()]) % 40 + 1;
        filter.push(text.substr(0, size), out);
        text.remove_prefix(std::min(size, text.size()));
    }
    filter.finish(out);
    require(out == whole);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view input(reinterpret_cast<const char*>(data), size);
    edit(input);
    std::string_view cuts = input.substr(0, input.size() < 8 ? 0 : 8);
    cut(cuts, input.substr(cuts.size()));
    static nebula::metrics::Registry metrics;
    static std::vector<std::string> problems;
    static const Rails rails(
        [] {
            nebula::gateway::GuardrailSettings settings;
            settings.name = "words";
            settings.mode = "enforce";
            settings.apply_to = "output";
            settings.action = "mask";
            settings.words = {"secret"};
            return std::vector{settings};
        }(),
        metrics, problems);
    auto all = rails.of("m", "k");
    std::vector<const Rail*> matched;
    Placeholders none;
    OutputGuard guard(all, none, matched);
    std::string lines;
    if (guard.chunk(input, lines) && !lines.empty()) require(is_json(lines));
    (void)guard.answer(input);
    return 0;
}
