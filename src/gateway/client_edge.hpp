#pragma once
// A client API other than OpenAI chat completions, told as what it becomes there and back. Inside, a request
// is always OpenAI's: the edge translates the client's request into it once, and answers, events and errors
// on their way out. One object per request, on its I/O thread.

#include <memory>
#include <string>
#include <string_view>

#include "async/async.hpp"
#include "base/ids.hpp"
#include "base/result.hpp"
#include "gateway/chat_request.hpp"
#include "gateway/completion.hpp"
#include "gateway/provider.hpp"

namespace nebula::gateway {

class ClientEdge {
   public:
    virtual ~ClientEdge() = default;

    /// Its word in the request log.
    virtual const char* api() const { return "other"; }

    /// Whether the edge remembers: prepare() and keep() are awaited then.
    virtual bool is_stateful() const { return false; }
    /// Before request(): looks up what `body` refers to, of that account.
    virtual Async<Result<void>> prepare(std::string_view body, AccountId account) {
        (void)body, (void)account;
        co_return Result<void>();
    }
    /// When the answer is charged, before its last byte: stores it. False: that failed, and answer(), end()
    /// and their native forms say so from now on.
    virtual Async<bool> keep(billing::TokenUsage usage) {
        (void)usage;
        co_return true;
    }

    /// The OpenAI chat request that means the same. Members that cannot be expressed are refused by name or
    /// left out, as the table in README.md says.
    virtual Result<std::string> request(std::string_view body) = 0;

    /// The API whose bytes the client speaks: providers of the same one get and send them as they are.
    virtual Wire wire() const { return Wire::openai; }
    /// For a wire with several endpoints for one of ours: the client's, behind the provider's base path.
    /// Empty: the provider's own target.
    virtual std::string_view native_path() const { return {}; }
    /// For a wire of its own: what must be known of the client's body to pass it through. Spans are of it.
    virtual Result<ChatRequest> native(std::string_view body) { return parse_request(body, Endpoint::chat); }
    /// Whether that provider, which speaks the same wire, may get this request as it is.
    virtual bool may_pass(const catalog::Provider& provider) const {
        (void)provider;
        return true;
    }
    /// native_body() says more than the client's bytes do, which nobody has looked at.
    virtual bool adds_texts() const { return false; }
    /// The client's body for a provider of the same wire.
    virtual std::string native_body(std::string_view body, const ChatRequest& native, const Edits& edits) {
        return edit_chat_request(body, native, edits).joined();
    }
    /// A whole answer of a provider of the same wire as the client gets it; empty: as it is.
    virtual std::string native_answer(std::string_view body) {
        (void)body;
        return {};
    }
    /// The same of one event with `data`, appended to `out`; false: as it is.
    virtual bool native_event(std::string_view data, std::string& out) {
        (void)data, (void)out;
        return false;
    }
    /// The client's form of a whole answer (checked before: an object with choices).
    virtual Result<std::string> answer(std::string_view openai_answer) = 0;

    /// Content type of the stream that the client gets.
    virtual std::string_view stream_type() const = 0;
    /// Appends what the client gets for one chunk's data ("{…}"); false when the chunk cannot be told, which
    /// is a provider's failure. Nothing is written before the first content.
    virtual bool chunk(std::string_view data, std::string& out) = 0;
    /// Another provider's stream begins; nothing of the one before has reached the client.
    virtual void restart() = 0;
    /// The last events of a stream that ended well. `usage` as it is billed.
    virtual std::string end(const billing::TokenUsage& usage) = 0;
    /// The event that says that the rest is missing.
    virtual std::string broken(const Error& error) = 0;
};

}  // namespace nebula::gateway
