#include "gateway/providers/gemini/event.hpp"

#include "base/text.hpp"

namespace nebula::gateway::gemini {
namespace {

namespace ondemand = raw::ondemand;
using ondemand::json_type;

bool is_null(ondemand::value& value) { return raw::is_of(value, json_type::null); }

bool read_text(ondemand::value& value, std::string_view& raw) {
    return is_null(value) || (raw::is_string(value) && raw::string(value, raw));
}

bool read_word(ondemand::value& value, std::string& word) {
    std::string_view raw;
    if (!read_text(value, raw)) return false;
    word = raw::decoded(raw);
    return true;
}

// Calls `member(key, value)` for each member until it says false.
template <class Member>
bool read_object(ondemand::value& value, Member member) {
    ondemand::object object;
    if (value.get_object().get(object)) return false;
    for (auto field : object) {
        ondemand::field one;
        if (std::move(field).get(one)) return false;
        auto key = one.key();
        ondemand::value inner = one.value();
        if (!member(key, inner)) return false;
    }
    return true;
}

template <class Element>
bool read_array(ondemand::value& value, Element element) {
    ondemand::array array;
    if (value.get_array().get(array)) return false;
    for (auto item : array) {
        ondemand::value one;
        if (std::move(item).get(one) || !element(one)) return false;
    }
    return true;
}

bool read_part(ondemand::value& value, Part& part) {
    return read_object(value, [&part](ondemand::raw_json_string key, ondemand::value& inner) {
        if (key == "text") {
            part.kind = Part::Kind::text;
            return raw::is_string(inner) && raw::string(inner, part.raw_text);
        }
        if (key == "thought") return is_null(inner) || !inner.get_bool().get(part.is_thought);
        if (key == "thoughtSignature") return read_text(inner, part.raw_signature);
        if (key != "functionCall") return true;
        part.kind = Part::Kind::call;
        bool is_whole = read_object(inner, [&part](ondemand::raw_json_string what, ondemand::value& said) {
            if (what == "id") return read_text(said, part.raw_id);
            if (what == "name") return read_text(said, part.raw_name);
            if (what == "args") return is_null(said) || raw::structure(said, part.arguments);
            return true;
        });
        return is_whole && part.raw_name.size() > 2;
    });
}

// {"token","logProbability"}: a token of the answer or another that was likely.
bool read_token(ondemand::value& value, std::string& out) {
    std::string_view token = "\"\"", probability = "0";
    bool is_read = read_object(value, [&](ondemand::raw_json_string key, ondemand::value& inner) {
        if (key == "token") return read_text(inner, token);
        if (key == "logProbability") return raw::scalar(inner, probability);
        return true;
    });
    out.append("{\"token\":")
        .append(token)
        .append(",\"logprob\":")
        .append(probability)
        .append(",\"bytes\":null");
    return is_read;
}

bool read_logprobs(ondemand::value& value, std::string& out) {
    if (is_null(value)) return true;
    std::vector<std::string> top, chosen;
    bool is_read = read_object(value, [&](ondemand::raw_json_string key, ondemand::value& inner) {
        if (key == "topCandidates")
            return read_array(inner, [&top](ondemand::value& position) {
                std::string& list = top.emplace_back();
                return read_object(position, [&list](ondemand::raw_json_string what, ondemand::value& all) {
                    if (what != "candidates") return true;
                    return read_array(all, [&list](ondemand::value& one) {
                        if (!list.empty()) list += ',';
                        bool is_token = read_token(one, list);
                        list += '}';
                        return is_token;
                    });
                });
            });
        if (key == "chosenCandidates")
            return read_array(
                inner, [&chosen](ondemand::value& one) { return read_token(one, chosen.emplace_back()); });
        return true;
    });
    for (std::size_t i = 0; is_read && i < chosen.size(); ++i) {
        out += out.empty() ? '[' : ',';
        out += chosen[i] + ",\"top_logprobs\":[" + (i < top.size() ? top[i] : std::string()) + "]}";
    }
    if (!out.empty()) out += ']';
    return is_read;
}

bool read_candidate(ondemand::value& value, Candidate& candidate) {
    constexpr std::size_t parts_max = 4096;
    return read_object(value, [&candidate](ondemand::raw_json_string key, ondemand::value& inner) {
        if (key == "index") return !inner.get_int64().get(candidate.index);
        if (key == "finishReason") return read_word(inner, candidate.finish_reason);
        if (key == "logprobsResult") return read_logprobs(inner, candidate.logprobs);
        if (key != "content" || is_null(inner)) return true;
        return read_object(inner, [&candidate](ondemand::raw_json_string what, ondemand::value& parts) {
            if (what != "parts" || is_null(parts)) return true;
            return read_array(parts, [&candidate](ondemand::value& part) {
                return candidate.parts.size() < parts_max && read_part(part, candidate.parts.emplace_back());
            });
        });
    });
}

// Sums where both are counts; else the one that is none, so that it is refused where it is judged.
std::string sum_of(std::string_view a, std::string_view b) {
    if (b.empty()) return std::string(a);
    if (a.empty()) return std::string(b);
    auto x = parse_int<std::int64_t>(a), y = parse_int<std::int64_t>(b);
    constexpr std::int64_t sane = std::int64_t{1} << 60;
    if (!x || *x < 0 || *x > sane) return std::string(a);
    if (!y || *y < 0 || *y > sane) return std::string(b);
    return std::to_string(*x + *y);
}

bool read_usage(ondemand::value& value, Event& event) {
    if (is_null(value)) return true;
    std::string_view prompt, tools, candidates, thoughts;
    bool is_read = read_object(value, [&](ondemand::raw_json_string key, ondemand::value& inner) {
        if (key == "promptTokenCount") return raw::scalar(inner, prompt);
        if (key == "toolUsePromptTokenCount") return raw::scalar(inner, tools);
        if (key == "candidatesTokenCount") return raw::scalar(inner, candidates);
        if (key == "thoughtsTokenCount") return raw::scalar(inner, thoughts);
        if (key == "cachedContentTokenCount") return raw::scalar(inner, event.usage.cached);
        return true;
    });
    if (prompt.empty()) return is_read;
    // A count of zero is left out.
    if (candidates.empty()) candidates = "0";
    event.prompt = sum_of(prompt, tools);
    event.completion = sum_of(candidates, thoughts);
    event.usage.prompt = event.prompt;
    event.usage.completion = event.completion;
    event.usage.reasoning = thoughts;
    return is_read;
}

bool read_error(ondemand::value& value, Event& event) {
    event.raw_error = "\"the provider reported an error\"";
    if (!raw::is_of(value, json_type::object)) return true;
    return read_object(value, [&event](ondemand::raw_json_string key, ondemand::value& inner) {
        return key != "message" || read_text(inner, event.raw_error);
    });
}

Candidate& next_candidate(Event& event) {
    if (event.candidate_count == event.candidates.size()) event.candidates.emplace_back();
    Candidate& candidate = event.candidates[event.candidate_count++];
    candidate.index = 0;
    candidate.finish_reason.clear();
    candidate.logprobs.clear();
    candidate.parts.clear();
    return candidate;
}

}  // namespace

bool EventReader::read(std::string_view data, Event& event) {
    constexpr std::size_t candidates_max = 128;
    event.raw_model = event.raw_error = {};
    event.block_reason.clear();
    event.candidate_count = 0;
    event.usage = {};
    ondemand::object object;
    if (!document_.open(data, object)) return false;
    bool is_known = false;
    for (auto field : object) {
        ondemand::field one;
        if (std::move(field).get(one)) return false;
        auto key = one.key();
        ondemand::value value = one.value();
        bool is_read = true;
        if (key == "candidates") {
            is_read = is_null(value) || read_array(value, [&event](ondemand::value& candidate) {
                          return event.candidate_count < candidates_max &&
                                 read_candidate(candidate, next_candidate(event));
                      });
        } else if (key == "usageMetadata") {
            is_read = read_usage(value, event);
        } else if (key == "promptFeedback") {
            is_read = is_null(value) ||
                      read_object(value, [&event](ondemand::raw_json_string what, ondemand::value& inner) {
                          return what != "blockReason" || read_word(inner, event.block_reason);
                      });
        } else if (key == "modelVersion") {
            is_read = read_text(value, event.raw_model);
        } else if (key == "error") {
            is_read = read_error(value, event);
        } else if (key != "responseId") {
            continue;
        }
        if (!is_read) return false;
        is_known = true;
    }
    return is_known && document_.is_at_end();
}

}  // namespace nebula::gateway::gemini
