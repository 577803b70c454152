#pragma once
// A provider's API told as what it becomes in OpenAI's and back: the mirror of client_edge.hpp. Inside, a
// request is always OpenAI's; a kind of provider translates it on its way out, and answers, events and errors
// on their way in. Where a client speaks the provider's own API, its bytes pass through and the translation
// only feeds the metering.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/secret.hpp"
#include "catalog/catalog.hpp"
#include "gateway/endpoint.hpp"

namespace nebula::gateway {

/// APIs by what their bytes look like.
enum class Wire : std::uint8_t { openai, responses, anthropic, ollama, gemini };

/// One attempt at one provider, on its I/O thread.
class Translator {
   public:
    virtual ~Translator() = default;

    /// The provider's body for `openai_request`: OpenAI's for the endpoint, after the gateway's edits
    /// (`model` is the provider's name of it, caps are lowered). Members that cannot be expressed are left
    /// out as the table in README.md says, or refused: invalid_request naming the member.
    virtual Result<std::string> request(std::string_view openai_request) = 0;

    /// OpenAI's answer that means the same as the provider's whole answer. upstream_failed when it is
    /// malformed.
    virtual Result<std::string> answer(std::string_view body) = 0;

    /// One event of the provider's stream: the data of a server-sent event, or one line. Appends what
    /// OpenAI's stream would carry, each ended by a line feed: chunks, {"error":{"message"…}} when the
    /// provider reports an error, [DONE] when the stream is whole. Usage comes as OpenAI's usage chunk before
    /// [DONE]. An event that says nothing appends nothing. False: malformed.
    virtual bool event(std::string_view data, std::string& lines) = 0;

    /// Something was told that OpenAI's stream has no place for, such as a tool that runs at the provider:
    /// a client of the provider's own API must not wait for the first text.
    virtual bool has_begun() const { return false; }

    /// Uses of tools that ran at the provider, as far as it has told by now.
    virtual std::int64_t tool_calls() const { return 0; }
};

/// A kind of provider. Stateless; any thread.
class Provider {
   public:
    virtual ~Provider() = default;

    virtual Wire wire() const { return Wire::openai; }
    virtual bool serves(Endpoint endpoint) const = 0;
    /// Target with the provider's base path and query.
    virtual std::string target(const catalog::Provider& provider, std::string_view upstream_model,
                               Endpoint endpoint, bool stream) const = 0;
    /// Appends complete header lines that carry `key` (may be empty) and what else the API demands.
    virtual void add_headers(const catalog::Provider& provider, const Secret& key,
                             std::string& headers) const = 0;
    /// Streams are lines of JSON instead of server-sent events.
    virtual bool streams_lines() const { return false; }
    /// Null: the provider speaks OpenAI's API and bytes pass through. `created` stamps what the provider does
    /// not; `id` is used where the provider gives none.
    virtual std::unique_ptr<Translator> translate(Endpoint endpoint, std::string_view id,
                                                  Time created) const {
        (void)endpoint, (void)id, (void)created;
        return nullptr;
    }
    /// Whether a refusal with a status that is otherwise about the request (400 …) is about our key or
    /// account.
    virtual bool is_about_us(std::string_view error_body) const {
        (void)error_body;
        return false;
    }
    /// The words of an error body, empty when it has none.
    virtual std::string error_message(std::string_view body) const = 0;
};

/// Of a configured provider's kind; lives for ever.
const Provider& provider_of(catalog::ProviderKind kind);
/// The same for clients of an API that only some providers of a kind have beside their usual one.
const Provider& provider_of(const catalog::Provider& provider, Wire client);

}  // namespace nebula::gateway
