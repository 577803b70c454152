#include "gateway/tokens/answer_tokens.hpp"

#include <algorithm>

namespace nebula::gateway {

void AnswerTokens::text(Part part, std::string_view text) {
    if (has_failed_ || text.empty()) return;
    if (text.size() > text_bytes_max_) {
        has_failed_ = true;
        return;
    }
    if (choice_)
        add(part, text);
    else
        early_.push_back({part, false, std::string(text)});
}

void AnswerTokens::call(std::string_view name) {
    if (has_failed_ || name.empty()) return;
    if (choice_)
        begin_call(name);
    else
        early_.push_back({Part::arguments, true, std::string(name)});
}

void AnswerTokens::choice(std::int64_t index) {
    choice_ = index;
    for (const Early& one : std::exchange(early_, {})) {
        if (one.is_call)
            begin_call(one.text);
        else
            add(one.part, one.text);
    }
}

// Who numbers no choice has one.
void AnswerTokens::end_choice() {
    if (!choice_) choice(0);
    choice_.reset();
}

AnswerTokens::Lane* AnswerTokens::lane(Part part) {
    auto found = std::ranges::find_if(
        lanes_, [&](const Lane& one) { return one.choice == *choice_ && one.part == part; });
    if (found != lanes_.end()) return &*found;
    if (lanes_.size() == lanes_max) {
        has_failed_ = true;
        return nullptr;
    }
    lanes_.push_back({*choice_, part, tokenizer::Counter(tokenizer_)});
    return &lanes_.back();
}

void AnswerTokens::add(Part part, std::string_view text) {
    Lane* to = lane(part);
    if (to == nullptr) return;
    to->counter.add(text);
    if (lanes_.size() > 1 && held_bytes() > held_bytes_max) has_failed_ = true;
}

void AnswerTokens::begin_call(std::string_view name) {
    Lane* to = lane(Part::arguments);
    if (to == nullptr) return;
    auto before = std::exchange(to->counter, tokenizer::Counter(tokenizer_)).finish();
    auto own = tokenizer_->count(name);
    if (!before || !own)
        has_failed_ = true;
    else
        to->tokens += *before + *own;
}

std::size_t AnswerTokens::held_bytes() const {
    std::size_t bytes = 0;
    for (const Lane& one : lanes_) bytes += one.counter.held_bytes();
    return bytes;
}

std::optional<std::int64_t> AnswerTokens::count() {
    if (has_failed_) return std::nullopt;
    if (counted_) return counted_;
    std::int64_t all = 0;
    std::vector<std::pair<std::int64_t, std::int64_t>> thoughts;  // of a choice, under one of both names
    for (Lane& one : lanes_) {
        auto rest = one.counter.finish();
        if (!rest) return std::nullopt;
        std::int64_t tokens = one.tokens + *rest;
        if (one.part == Part::reasoning || one.part == Part::same_reasoning) {
            auto other =
                std::ranges::find(thoughts, one.choice, &std::pair<std::int64_t, std::int64_t>::first);
            std::int64_t told = other == thoughts.end() ? 0 : other->second;
            if (other == thoughts.end()) thoughts.emplace_back(one.choice, tokens);
            tokens = std::max<std::int64_t>(0, tokens - told);
        }
        all += tokens;
    }
    counted_ = all;
    lanes_.clear();
    return counted_;
}

}  // namespace nebula::gateway
