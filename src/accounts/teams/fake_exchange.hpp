#pragma once
// One request and what was answered to it, without a server. For this module's tests.

#include <boost/json/parse.hpp>
#include <map>
#include <stdexcept>
#include <string>

#include "http/dialects.hpp"
#include "http/http.hpp"
#include "http/json_api.hpp"

namespace nebula::accounts {

class FakeExchange final : public http::Exchange {
   public:
    explicit FakeExchange(std::string body = {}, std::map<std::string, std::string> params = {},
                          std::string query = {})
        : body_(std::move(body)), params_(std::move(params)), query_(std::move(query)) {
        head_.query = query_;
        body_size_ = body_.size();
        body_.append(64, '\0');
    }

    int status = 0;
    http::json::value json;

    const http::RequestHead& head() const override { return head_; }
    RequestId id() const override { return RequestId{7}; }
    std::string_view remote_ip() const override { return "192.0.2.1"; }
    IoThread& thread() override { throw std::logic_error("no thread here"); }
    Ticks started() const override { return {}; }
    std::string_view path_param(std::string_view name) const override {
        auto found = params_.find(std::string(name));
        return found == params_.end() ? std::string_view() : std::string_view(found->second);
    }
    Async<Result<std::string_view>> body(std::size_t) override {
        co_return std::string_view(body_).substr(0, body_size_);
    }
    void add_header(std::string_view, std::string_view) override {}
    Async<Result<void>> respond(int answer, std::string_view, std::string_view text) override {
        status = answer;
        json = http::json::parse(text);
        co_return Result<void>();
    }
    Async<Result<void>> respond_error(Error error) override {
        http::Response response = http::platform_error(error, id());
        return respond(response.status, {}, kept_ = response.body);
    }
    void begin_stream(int, std::string_view) override {}
    Async<Result<void>> write(std::string_view) override { co_return Result<void>(); }
    Async<Result<void>> end(std::string_view) override { co_return Result<void>(); }
    void abort(std::string_view) override {}
    bool has_begun() const override { return status != 0; }
    void on_gone(std::move_only_function<void()>) override {}
    bool is_gone() const override { return false; }

   private:
    http::RequestHead head_;
    std::string body_;
    std::size_t body_size_ = 0;
    std::map<std::string, std::string> params_;
    std::string query_;
    std::string kept_;
};

}  // namespace nebula::accounts
