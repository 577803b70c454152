// Gemini's answers, events and errors → OpenAI's.
#include "gateway/providers/gemini/gemini.hpp"

#include <algorithm>
#include <boost/json/parse.hpp>

#include "base/text.hpp"
#include "gateway/providers/embeddings.hpp"
#include "gateway/providers/gemini/event.hpp"
#include "gateway/providers/openai_request.hpp"
#include "gateway/providers/openai_writer.hpp"

namespace nebula::gateway::gemini {
namespace {

namespace json = boost::json;
namespace ondemand = raw::ondemand;

// Of https://ai.google.dev/api/generate-content#FinishReason. What is neither an end nor a filter is the
// model's failure (a call that is none, a language that it does not speak): "error", as OpenRouter says it.
const char* finish_reason(std::string_view reason, bool has_calls) {
    if (reason == "STOP") return has_calls ? "tool_calls" : "stop";
    if (reason == "MAX_TOKENS") return "length";
    constexpr std::string_view filters[] = {
        "SAFETY",     "RECITATION",   "BLOCKLIST",        "PROHIBITED_CONTENT",
        "SPII",       "IMAGE_SAFETY", "IMAGE_RECITATION", "IMAGE_PROHIBITED_CONTENT",
        "MODEL_ARMOR"};
    return std::ranges::find(filters, reason) != std::end(filters) ? "content_filter" : "error";
}

// "models/a b" → "models/a%20b"
std::string encoded(std::string_view resource) {
    static constexpr char digits[] = "0123456789ABCDEF";
    std::size_t collection = resource.find('/') + 1;
    std::string out(resource.substr(0, collection));
    for (char c : resource.substr(collection)) {
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                        std::string_view("-._~").find(c) != std::string_view::npos;
        if (is_plain) {
            out += c;
            continue;
        }
        auto byte = static_cast<unsigned char>(c);
        out += '%';
        out += digits[byte >> 4];
        out += digits[byte & 15];
    }
    return out;
}

class GeminiTranslator final : public Translator {
   public:
    GeminiTranslator(Endpoint endpoint, std::string_view id, Time created)
        : endpoint_(endpoint), writer_(endpoint, id, created) {}

    Result<std::string> request(std::string_view openai_request) override {
        auto from = openai_request::parse(openai_request);
        if (!from) return fail(std::move(from.error()));
        if (endpoint_ == Endpoint::embeddings) {
            auto as_base64 = openai_request::wants_base64(*from);
            if (!as_base64) return fail(std::move(as_base64.error()));
            as_base64_ = *as_base64;
            model_ = json_string(openai_request::text_of(*from, "model"));
            return to_embed(*from);
        }
        if (const auto* n = openai_request::member(*from, "n"); n != nullptr && n->is_int64())
            wanted_ = n->get_int64();
        return to_contents(*from);
    }

    Result<std::string> answer(std::string_view body) override {
        if (endpoint_ == Endpoint::embeddings) return embeddings(body);
        if (!reader_.read(body, event_) || !event_.raw_error.empty()) return unreadable();
        writer_.to_lines(nullptr);
        tell();
        // An answer without a reason to end is a piece of one.
        if (finished_ == 0) return unreadable();
        return writer_.answer();
    }

    bool event(std::string_view data, std::string& lines) override {
        if (!reader_.read(data, event_)) return false;
        if (!event_.raw_error.empty()) {
            add_error_line(event_.raw_error, lines);
            return true;
        }
        writer_.to_lines(&lines);
        tell();
        return true;
    }

   private:
    static std::unexpected<Error> unreadable() {
        return fail(Code::upstream_failed, "the provider sent an invalid answer", {},
                    "answer of another shape");
    }

    void tell() {
        std::int64_t before = finished_;
        writer_.model(event_.raw_model);
        for (std::size_t i = 0; i < event_.candidate_count; ++i) tell_candidate(event_.candidates[i]);
        if (!event_.block_reason.empty() && finished_ == 0) {
            writer_.refusal(0, json_string("the provider blocked the prompt: " + event_.block_reason));
            finish(0, "content_filter", event_.block_reason);
        }
        // Counts come with every event, and are whole with the last one; of several answers any may be it.
        bool is_whole = finished_ > before || finished_ >= wanted_;
        if (is_whole && event_.usage.is_told()) writer_.usage(event_.usage);
    }

    void tell_candidate(const Candidate& candidate) {
        std::int64_t index = candidate.index;
        std::string_view logprobs = candidate.logprobs;
        for (const Part& part : candidate.parts) {
            if (part.kind == Part::Kind::call) {
                writer_.call(index, part.raw_id, part.raw_name, part.arguments);
                if (part.raw_signature.size() > 2) sign(index, part.raw_signature, writer_.last_call_id());
                continue;
            }
            if (part.kind == Part::Kind::text) {
                writer_.text(index, part.raw_text, part.is_thought, part.is_thought ? "" : logprobs);
                if (!part.is_thought) logprobs = {};
            }
            if (part.raw_signature.size() > 2) sign(index, part.raw_signature, {});
        }
        if (!logprobs.empty()) writer_.text(index, "\"\"", false, logprobs);
        if (!candidate.finish_reason.empty())
            finish(index, finish_reason(candidate.finish_reason, writer_.has_calls(index)),
                   candidate.finish_reason);
    }

    // The signature belongs to the call of this id, or to the text.
    void sign(std::int64_t index, std::string_view raw_signature, std::string_view raw_id) {
        std::string detail = R"({"type":"reasoning.encrypted","data":)";
        detail.append(raw_signature);
        if (!raw_id.empty()) detail.append(",\"id\":").append(raw_id);
        detail.append(",\"format\":\"").append(signature_format).append("\",\"index\":0}");
        writer_.detail(index, detail);
    }

    void finish(std::int64_t index, std::string_view reason, std::string_view native) {
        writer_.finish(index, reason, native);
        ++finished_;
    }

    Result<std::string> embeddings(std::string_view body) {
        EmbeddingsWriter vectors(as_base64_);
        ondemand::object object;
        std::string_view tokens;
        if (!document_.open(body, object)) return unreadable();
        for (auto field : object) {
            ondemand::field member;
            if (std::move(field).get(member)) return unreadable();
            auto key = member.key();
            ondemand::value value = member.value();
            if (key == "embeddings") {
                if (!read_vectors(value, vectors)) return unreadable();
            } else if (key == "usageMetadata" && raw::is_of(value, ondemand::json_type::object)) {
                ondemand::value count;
                if (!value["promptTokenCount"].get(count) && !raw::scalar(count, tokens)) return unreadable();
            } else if (key == "error") {
                return unreadable();
            }
        }
        if (!document_.is_at_end() || vectors.count() == 0) return unreadable();
        return vectors.answer(model_, tokens);
    }

    static bool read_vectors(ondemand::value& value, EmbeddingsWriter& vectors) {
        ondemand::array list;
        if (value.get_array().get(list)) return false;
        for (auto element : list) {
            ondemand::object embedding;
            if (element.get_object().get(embedding)) return false;
            std::size_t before = vectors.count();
            for (auto field : embedding) {
                ondemand::field member;
                if (std::move(field).get(member)) return false;
                ondemand::value vector = member.value();
                if (member.key() == "values" && !vectors.add(vector)) return false;
            }
            if (vectors.count() != before + 1) return false;
        }
        return true;
    }

    const Endpoint endpoint_;
    OpenAiWriter writer_;
    EventReader reader_;
    raw::Document document_;
    Event event_;
    std::int64_t wanted_ = 1, finished_ = 0;  // candidates
    std::string model_;
    bool as_base64_ = false;
};

class GeminiProvider final : public Provider {
   public:
    Wire wire() const override { return Wire::gemini; }
    bool serves(Endpoint endpoint) const override {
        return endpoint == Endpoint::chat || endpoint == Endpoint::embeddings;
    }
    std::string target(const catalog::Provider& provider, std::string_view upstream_model, Endpoint endpoint,
                       bool stream) const override {
        std::string path = provider.path.empty() ? "/v1beta" : provider.path;
        path += '/' + encoded(resource_of(upstream_model));
        if (endpoint == Endpoint::embeddings) return path + ":batchEmbedContents";
        return path + (stream ? ":streamGenerateContent?alt=sse" : ":generateContent");
    }
    void add_headers(const catalog::Provider&, const Secret& key, std::string& headers) const override {
        if (!key.empty()) headers += "x-goog-api-key: " + key.reveal() + "\r\n";
    }
    std::unique_ptr<Translator> translate(Endpoint endpoint, std::string_view id,
                                          Time created) const override {
        return std::make_unique<GeminiTranslator>(endpoint, id, created);
    }
    // A wrong key is a wrong argument to Google; an account without billing lacks a precondition.
    bool is_about_us(std::string_view error_body) const override {
        json::object error = error_of(error_body);
        if (members::text_of(error, "status") == "FAILED_PRECONDITION") return true;
        const json::array* details = members::array_of(error, "details");
        return details != nullptr && std::ranges::any_of(*details, [](const json::value& detail) {
                   const json::object* one = detail.if_object();
                   return one != nullptr && members::text_of(*one, "reason").starts_with("API_KEY_");
               });
    }
    std::string error_message(std::string_view body) const override {
        return std::string(members::text_of(error_of(body), "message"));
    }

   private:
    // Refusals of a stream come as a list of one.
    static json::object error_of(std::string_view body) {
        boost::system::error_code failed;
        json::value value = json::parse(body, failed);
        if (failed) return {};
        const json::array* list = value.if_array();
        const json::value& one = list != nullptr && !list->empty() ? list->front() : value;
        const json::object* error = one.is_object() ? members::object_of(one.get_object(), "error") : nullptr;
        return error != nullptr ? *error : json::object();
    }
};

}  // namespace

const Provider& provider() {
    static const GeminiProvider one;
    return one;
}

}  // namespace nebula::gateway::gemini
