// `nebula chat`: a streaming client of the API, like any other.
#include <unistd.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "base/clock.hpp"
#include "cli/commands.hpp"
#include "http/client.hpp"
#include "http/sse.hpp"

namespace nebula::cli {
namespace {

namespace json = boost::json;

class ChatClient {
   public:
    ChatClient(ChatOptions options)
        : options_(std::move(options)), threads_(clock_, 1), client_({}, threads_, clock_, metrics_) {
        if (!options_.system.empty()) add("system", options_.system);
    }

    Result<void> choose_model() {
        if (!options_.model.empty()) return {};
        auto models = sync_wait(fetch(http::Method::get, "/v1/models", ""));
        if (!models) return fail(std::move(models.error()));
        const auto& data = models->at("data").as_array();
        if (data.empty()) return fail(Code::not_found, "the server has no model");
        options_.model = data.at(0).at("id").as_string();
        return {};
    }

    Result<void> ask(const std::string& text) {
        add("user", text);
        auto answer = sync_wait(stream());
        if (!answer) {
            messages_.pop_back();
            return fail(std::move(answer.error()));
        }
        add("assistant", *answer);
        return {};
    }

    const std::string& model() const { return options_.model; }

   private:
    void add(const char* role, const std::string& text) {
        messages_.push_back(json::object{{"role", role}, {"content", text}});
    }

    Async<Result<std::unique_ptr<http::ClientResponse>>> send(http::Method method, std::string path,
                                                              std::string body) {
        auto url = http::parse_url(options_.url);
        if (!url) co_return fail(std::move(url.error()));
        std::string_view piece = body;
        http::ClientRequest request;
        request.method = method;
        request.path = url->path + path;
        request.headers = "content-type: application/json\r\nauthorization: Bearer " + options_.key + "\r\n";
        if (!body.empty()) request.body_pieces = std::span(&piece, 1);
        co_return co_await client_.send(url->origin, std::move(request), nullptr);
    }

    static Error refusal(int status, const std::string& text) {
        boost::system::error_code failed;
        json::value value = json::parse(text, failed);
        std::string message = "status " + std::to_string(status);
        if (!failed && value.is_object() && value.get_object().contains("error"))
            message += ": " + json::serialize(value.at("error"));
        return {.code = Code::upstream_failed, .message = message};
    }

    Async<Result<json::value>> fetch(http::Method method, std::string path, std::string body) {
        co_await resume_on(threads_[0]);
        auto response = co_await send(method, std::move(path), std::move(body));
        if (!response) co_return fail(std::move(response.error()));
        auto text = co_await (*response)->read_all(64 * 1024 * 1024);
        if (!text) co_return fail(std::move(text.error()));
        if ((*response)->status() != 200) co_return fail(refusal((*response)->status(), *text));
        boost::system::error_code failed;
        json::value value = json::parse(*text, failed);
        if (failed) co_return fail(Code::internal, "the answer is not JSON");
        co_return value;
    }

    Async<Result<std::string>> stream() {
        co_await resume_on(threads_[0]);
        json::object question{{"model", options_.model}, {"messages", messages_}, {"stream", true}};
        if (options_.max_tokens > 0) question["max_tokens"] = options_.max_tokens;
        auto response = co_await send(http::Method::post, "/v1/chat/completions", json::serialize(question));
        if (!response) co_return fail(std::move(response.error()));
        if ((*response)->status() != 200) {
            auto text = co_await (*response)->read_all(1024 * 1024);
            co_return fail(refusal((*response)->status(), text.value_or("")));
        }
        http::SseSplitter splitter;
        std::string answer, scratch;
        while (true) {
            auto piece = co_await (*response)->read();
            if (!piece) co_return fail(std::move(piece.error()));
            if (piece->empty()) co_return fail(Code::upstream_failed, "the stream ended early");
            if (!splitter.push(*piece)) co_return fail(Code::upstream_failed, "an event is too large");
            for (auto event = splitter.next(); !event.empty(); event = splitter.next()) {
                std::string_view data = http::sse_data(event, scratch);
                if (data == "[DONE]") {
                    std::printf("\n");
                    co_return answer;
                }
                auto taken = take(data, answer);
                if (!taken) co_return fail(std::move(taken.error()));
            }
        }
    }

    // Prints and keeps the text of one chunk.
    static Result<void> take(std::string_view data, std::string& answer) {
        if (data.empty()) return {};
        boost::system::error_code failed;
        json::value chunk = json::parse(data, failed);
        if (failed || !chunk.is_object()) return fail(Code::upstream_failed, "an event is not JSON");
        if (const json::value* error = chunk.get_object().if_contains("error"))
            return fail(Code::upstream_failed, "the stream broke: " + json::serialize(*error));
        const json::value* choices = chunk.get_object().if_contains("choices");
        if (choices == nullptr || !choices->is_array() || choices->get_array().empty()) return {};
        const json::value& choice = choices->get_array().at(0);
        const json::value* delta = choice.is_object() ? choice.get_object().if_contains("delta") : nullptr;
        const json::value* content =
            delta != nullptr && delta->is_object() ? delta->get_object().if_contains("content") : nullptr;
        if (content == nullptr || !content->is_string()) return {};
        std::string_view text = content->get_string();
        answer += text;
        std::fwrite(text.data(), 1, text.size(), stdout);
        std::fflush(stdout);
        return {};
    }

    ChatOptions options_;
    json::array messages_;
    SystemClock clock_;
    metrics::Registry metrics_;
    IoThreads threads_;
    http::Client client_;
};

// Key and address default to what the running server and its first start left behind.
Result<void> fill_in(const app::AppSettings& settings, ChatOptions& options) {
    if (options.key.empty()) {
        const char* from_env = std::getenv("NEBULA_API_KEY");
        if (from_env != nullptr) options.key = from_env;
    }
    if (options.key.empty()) {
        auto made = app::read_first_start(settings);
        if (!made) return fail(Code::unauthenticated, "no key: give --key or set NEBULA_API_KEY");
        options.key = made->at("key").as_string();
    }
    if (options.url.empty()) {
        auto address = app::running_api_address(settings);
        options.url = (settings.http.tls_cert.empty() ? "http://" : "https://") +
                      (address ? *address : settings.http.listen);
    }
    return {};
}

}  // namespace

int run_chat(const Common& common, ChatOptions options) {
    auto settings = settings_of(common);
    if (!settings) return 2;
    if (auto filled = fill_in(*settings, options); !filled) return print_error(filled.error());
    std::string prompt = options.prompt;
    ChatClient client(std::move(options));
    if (auto chosen = client.choose_model(); !chosen) return print_error(chosen.error());
    if (!prompt.empty()) {
        auto done = client.ask(prompt);
        return done ? 0 : print_error(done.error());
    }
    bool is_terminal = ::isatty(STDIN_FILENO) != 0;
    if (is_terminal) std::printf("model %s; an empty line or Ctrl-D ends\n", client.model().c_str());
    int status = 0;
    std::string line;
    while (true) {
        if (is_terminal) {
            std::printf("> ");
            std::fflush(stdout);
        }
        if (!std::getline(std::cin, line) || line.empty()) return status;
        if (auto done = client.ask(line); !done) status = print_error(done.error());
    }
}

}  // namespace nebula::cli
