#include "app/greeting.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cstdio>

#include "http/client.hpp"

namespace nebula::app {
namespace {

namespace json = boost::json;

struct Answer {
    int status;
    json::value body;
};

Async<Result<Answer>> post(http::Client& client, IoThread& thread, std::string url, std::string path,
                           std::string key, std::string body) {
    co_await resume_on(thread);
    auto parsed = http::parse_url(url);
    if (!parsed) co_return fail(std::move(parsed.error()));
    std::string_view piece = body;
    http::ClientRequest request;
    request.path = std::move(path);
    request.headers = "content-type: application/json\r\nauthorization: Bearer " + key + "\r\n";
    request.body_pieces = std::span(&piece, 1);
    auto response = co_await client.send(parsed->origin, std::move(request), nullptr);
    if (!response) co_return fail(std::move(response.error()));
    auto text = co_await (*response)->read_all(1024 * 1024);
    if (!text) co_return fail(std::move(text.error()));
    boost::system::error_code failed;
    Answer answer{(*response)->status(), json::parse(*text, failed)};
    if (failed) co_return fail(Code::internal, "the answer is not JSON");
    co_return answer;
}

void print_curl(const std::string& url, const std::string& key, const std::string& body) {
    std::printf(
        "\ntry it:\n  curl %s/v1/chat/completions \\\n    -H 'authorization: Bearer %s' \\\n"
        "    -H 'content-type: application/json' \\\n    -d '%s'\n\n",
        url.c_str(), key.c_str(), body.c_str());
    std::fflush(stdout);
}

}  // namespace

void greet(Services& services, const AppSettings& settings, const std::string& api_address) {
    auto made = read_first_start(settings);
    auto snapshot = services.catalog.current();
    if (!made) {
        std::printf("no first-start file in the data directory: make a key with 'nebula keys create'\n");
        return;
    }
    if (snapshot->models.empty()) {
        std::printf("no model is configured and none lies in %s\n", settings.runtime.models_dir.c_str());
        return;
    }
    if (!settings.http.tls_cert.empty()) {
        std::printf("TLS is on: use a client that trusts the certificate at https://%s\n",
                    api_address.c_str());
        return;
    }
    std::string key(made->at("key").as_string());
    std::string account(made->at("account").as_string());
    std::string url = "http://" + api_address;
    json::object question{
        {"model", snapshot->models.front()->id},
        {"messages", json::array{json::object{{"role", "user"}, {"content", "What is Nebula?"}}}},
        {"temperature", 0}};
    std::string body = json::serialize(question);

    IoThreads threads(services.clock, 1);
    metrics::Registry metrics;
    http::Client client({}, threads, services.clock, metrics);
    auto answer = sync_wait(post(client, threads[0], url, "/v1/chat/completions", key, body));
    if (!answer || answer->status != 200) {
        std::printf("the first request failed: %s\n",
                    answer ? json::serialize(answer->body).c_str() : answer.error().message.c_str());
        std::fflush(stdout);
        return;
    }
    auto usage = answer->body.at("usage");
    auto record = sync_wait(services.operations->call("usage.list", {{"account", account}, {"limit", 1}}));
    auto balance = sync_wait(services.operations->call("credits.balance", {{"account", account}}));
    std::printf("\nquestion: What is Nebula?\nanswer:   %s\n",
                answer->body.at("choices").at(0).at("message").at("content").as_string().c_str());
    std::printf("tokens:   %s in, %s out\n", json::serialize(usage.at("prompt_tokens")).c_str(),
                json::serialize(usage.at("completion_tokens")).c_str());
    if (record && !record->at("data").as_array().empty())
        std::printf("price:    %s credits\n", record->at("data").at(0).at("charge").as_string().c_str());
    if (balance) std::printf("balance:  %s credits\n", balance->at("available").as_string().c_str());
    print_curl(url, key, body);
}

}  // namespace nebula::app
