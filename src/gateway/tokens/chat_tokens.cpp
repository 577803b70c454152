// Usage that the provider did not report, counted by the model's vocabulary.
#include "gateway/chat.hpp"

namespace nebula::gateway {
namespace {

constexpr std::size_t event_text_max = 256 * 1024;  // of one event of a stream: it is counted as it passes

bool may_be_counted(const Call& call) {
    return call.key != nullptr && call.model->tokenizer != nullptr && !info(call.endpoint).is_media;
}

}  // namespace

void Chat::begin_counting(Call& call) {
    call.answer_tokens.reset();
    call.counted_input = call.counted_output = -1;
    if (may_be_counted(call) && info(call.endpoint).has_output)
        call.answer_tokens = std::make_unique<AnswerTokens>(call.model->tokenizer, event_text_max);
}

Async<void> Chat::count_answer(Call& call, std::string_view answer) {
    call.answer_tokens.reset();
    call.counted_input = call.counted_output = -1;
    if (!may_be_counted(call) || call.usage.state == ReportedUsage::State::good) co_return;
    if (!info(call.endpoint).has_output) co_return;
    auto counted = co_await counting_.answer(call.model->tokenizer, call.endpoint, answer);
    call.counted_output = counted.value_or(-1);
}

Async<void> Chat::count_unreported(Call& call) {
    if (!may_be_counted(call) || call.usage.state == ReportedUsage::State::good) co_return;
    if (call.answer_tokens) {
        auto counted = co_await counting_.finish(*call.answer_tokens);
        call.counted_output = counted.value_or(-1);
    }
    // Images and files cost tokens that no text tells, and what could not be translated is not in our words.
    if (call.request.has_media || call.untranslatable) co_return;
    auto counted = co_await counting_.prompt(call.model->tokenizer, call.endpoint, call.body);
    if (counted && !counted->has_media) call.counted_input = counted->tokens;
}

const char* tokenizer_of(const Call& call) {
    if (call.usage.state == ReportedUsage::State::good)
        return call.provider != nullptr && call.provider->is_runtime() ? "runtime" : "provider";
    bool has_answer = call.counted_output >= 0 || !info(call.endpoint).has_output;
    return call.counted_input >= 0 && has_answer ? "bpe" : "estimate";
}

}  // namespace nebula::gateway
