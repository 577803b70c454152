#include <chrono>

#include "gateway/completion.hpp"
#include "gateway/providers/anthropic/messages.hpp"

namespace nebula::gateway::anthropic {
namespace {

constexpr std::string_view version_default = "2023-06-01";

class MessagesTranslator final : public Translator {
   public:
    MessagesTranslator(std::string_view id, Time created)
        : id_(id),
          created_(std::chrono::duration_cast<std::chrono::seconds>(created.time_since_epoch()).count()),
          events_(id_, created_) {}

    Result<std::string> request(std::string_view openai_request) override {
        return to_messages_request(openai_request, telling_);
    }
    Result<std::string> answer(std::string_view body) override {
        return to_chat_answer(body, telling_, id_, created_);
    }
    bool event(std::string_view data, std::string& lines) override {
        return events_.read(data, telling_, lines);
    }
    bool has_begun() const override { return events_.has_begun(); }

   private:
    std::string id_;
    std::int64_t created_;
    Telling telling_;
    EventReader events_;
};

class Messages final : public Provider {
   public:
    Wire wire() const override { return Wire::anthropic; }
    bool serves(Endpoint endpoint) const override { return endpoint == Endpoint::chat; }
    std::string target(const catalog::Provider& provider, std::string_view, Endpoint, bool) const override {
        return provider.path + "/v1/messages";
    }
    void add_headers(const catalog::Provider& provider, const Secret& key,
                     std::string& headers) const override {
        if (!key.empty()) headers += "x-api-key: " + key.reveal() + "\r\n";
        std::string_view version = provider.api_version.empty() ? version_default : provider.api_version;
        headers.append("anthropic-version: ").append(version).append("\r\n");
    }
    std::unique_ptr<Translator> translate(Endpoint, std::string_view id, Time created) const override {
        return std::make_unique<MessagesTranslator>(id, created);
    }
    // {"type":"error","error":{"type","message"}}: the words stand where OpenAI's do.
    std::string error_message(std::string_view body) const override {
        return read_chunk(body, {}).error_message;
    }
};

}  // namespace

const Provider& provider() {
    static const Messages one;
    return one;
}

}  // namespace nebula::gateway::anthropic
