// How the command line reaches the operations: the running server's admin listener, else the database itself.
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "app/services.hpp"
#include "http/client.hpp"

namespace nebula::app {
namespace {

namespace json = boost::json;

struct AdminFile {
    std::string admin;
    std::string api;
    std::string token;
};

Result<AdminFile> read_admin_file(const AppSettings& settings) {
    auto text = read_file(settings.admin_file());
    if (!text) return fail(std::move(text.error()));
    boost::system::error_code failed;
    json::value value = json::parse(*text, failed);
    if (failed || !value.is_object()) return fail(Code::not_found, "the admin file is damaged");
    auto field = [&value](const char* name) {
        const json::value* found = value.get_object().if_contains(name);
        return found != nullptr && found->is_string() ? std::string(found->get_string()) : std::string();
    };
    return AdminFile{field("admin"), field("api"), field("token")};
}

Code code_of(const json::object& error, int status) {
    const json::value* word = error.if_contains("code");
    for (Code code : {Code::invalid_request, Code::unauthenticated, Code::not_found, Code::conflict,
                      Code::payment_required, Code::overloaded, Code::internal})
        if (word != nullptr && word->is_string() && word->get_string() == code_name(code)) return code;
    return status == 404 ? Code::not_found : Code::internal;
}

class RemoteOperator final : public Operator {
   public:
    RemoteOperator(AdminFile file)
        : file_(std::move(file)), threads_(clock_, 1), client_({}, threads_, clock_, metrics_) {}

    Result<json::object> call(const std::string& operation, json::object arguments) override {
        std::string body = json::serialize(arguments);
        return sync_wait(post("/admin/v1/" + operation, std::move(body)));
    }

   private:
    Async<Result<json::object>> post(std::string path, std::string body) {
        co_await resume_on(threads_[0]);
        auto url = http::parse_url("http://" + file_.admin);
        if (!url) co_return fail(std::move(url.error()));
        std::string_view piece = body;
        http::ClientRequest request;
        request.path = std::move(path);
        request.headers = "content-type: application/json\r\nauthorization: Bearer " + file_.token + "\r\n";
        request.body_pieces = std::span(&piece, 1);
        auto response = co_await client_.send(url->origin, std::move(request), nullptr);
        if (!response) co_return fail(std::move(response.error()));
        auto text = co_await (*response)->read_all(256 * 1024 * 1024);
        if (!text) co_return fail(std::move(text.error()));
        boost::system::error_code failed;
        json::value value = json::parse(*text, failed);
        if (failed || !value.is_object()) co_return fail(Code::internal, "the server's answer is not JSON");
        if ((*response)->status() == 200) co_return std::move(value.get_object());
        const json::value* error = value.get_object().if_contains("error");
        if (error == nullptr || !error->is_object()) co_return fail(Code::internal, "the server failed");
        const json::object& fields = error->get_object();
        const json::value* message = fields.if_contains("message");
        co_return fail(code_of(fields, (*response)->status()), message != nullptr && message->is_string()
                                                                   ? std::string(message->get_string())
                                                                   : "failed");
    }

    AdminFile file_;
    SystemClock clock_;
    metrics::Registry metrics_;
    IoThreads threads_;
    http::Client client_;
};

class DirectOperator final : public Operator {
   public:
    DirectOperator(std::unique_ptr<Services> services) : services_(std::move(services)) {}
    Result<json::object> call(const std::string& operation, json::object arguments) override {
        return sync_wait(services_->operations->call(operation, std::move(arguments)));
    }

   private:
    std::unique_ptr<Services> services_;
};

}  // namespace

Result<std::unique_ptr<Operator>> connect_operator(const AppSettings& settings) {
    auto file = read_admin_file(settings);
    if (file && !file->admin.empty()) {
        auto remote = std::make_unique<RemoteOperator>(std::move(*file));
        // A server that was killed leaves its file behind; then nobody answers, or somebody else who refuses
        // the token.
        auto alive = remote->call("models.list", {});
        if (alive) return remote;
    }
    auto services = open_services(settings, std::chrono::milliseconds(5'000));
    if (!services) return fail(std::move(services.error()));
    auto built =
        build_catalog(settings, runtime::find_model_files(settings.runtime), (*services)->clock.now());
    if (built.snapshot) (*services)->catalog.replace(built.snapshot);
    return std::make_unique<DirectOperator>(std::move(*services));
}

Result<std::string> running_api_address(const AppSettings& settings) {
    auto file = read_admin_file(settings);
    if (!file) return fail(std::move(file.error()));
    return file->api;
}

}  // namespace nebula::app
