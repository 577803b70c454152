// Mails leave on one thread: libcurl blocks, and whoever signs up must not wait for a mail server.
#include <curl/curl.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <mutex>
#include <thread>

#include "accounts/people.hpp"
#include "accounts/people/base64url.hpp"
#include "base/crypto.hpp"
#include "base/log.hpp"

namespace nebula::accounts {
namespace {

constexpr std::size_t queue_max = 1'000;
constexpr int attempts_max = 5;
constexpr std::chrono::seconds first_retry{2};  // then 4 times as long each: 8 s, 32 s, 128 s

struct Waiting {
    Mail mail;
    int attempts = 0;
    std::chrono::steady_clock::time_point due;
};

/// Of a header: nothing that could begin another one.
std::string one_line(std::string text) {
    std::erase_if(text, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; });
    return text;
}

std::string header_text(const std::string& text) {
    std::string line = one_line(text);
    bool is_ascii = std::ranges::all_of(line, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
    return is_ascii ? line : "=?UTF-8?B?" + base64(line) + "?=";
}

std::string date_text(Time now) {
    auto seconds = static_cast<std::time_t>(to_micros(now) / 1'000'000);
    std::tm parts{};
    ::gmtime_r(&seconds, &parts);
    char text[64];
    std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S +0000", &parts);
    return text;
}

std::string message_of(const Mail& mail, const std::string& from, Time now) {
    std::string domain = from.substr(from.rfind('@') + 1);
    std::erase_if(domain, [](char c) { return c == '>' || c == ' '; });
    std::string text = "Date: " + date_text(now) + "\r\nFrom: " + one_line(from) +
                       "\r\nTo: " + one_line(mail.to) + "\r\nSubject: " + header_text(mail.subject) +
                       "\r\nMessage-ID: <" + random_base62(22) + "@" + one_line(domain) + ">\r\n" +
                       "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
                       "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n";
    std::string body = base64(mail.text);
    constexpr std::size_t line_size = 76;
    for (std::size_t at = 0; at < body.size(); at += line_size) text += body.substr(at, line_size) + "\r\n";
    return text;
}

struct Upload {
    std::string_view rest;
    static std::size_t read(char* to, std::size_t size, std::size_t count, void* self) {
        auto& upload = *static_cast<Upload*>(self);
        std::size_t taken = std::min(size * count, upload.rest.size());
        std::memcpy(to, upload.rest.data(), taken);
        upload.rest.remove_prefix(taken);
        return taken;
    }
};

struct CurlFree {
    void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

std::string address_of(const std::string& text) {
    std::size_t open = text.find('<'), close = text.find('>');
    std::string address =
        open != std::string::npos && close > open ? text.substr(open + 1, close - open - 1) : text;
    return "<" + one_line(address) + ">";
}

/// Null when the mail server took it, else what went wrong.
const char* send_by_smtp(const SmtpSettings& settings, const Secret& password, const Mail& mail, Time now) {
    std::unique_ptr<CURL, CurlFree> curl(curl_easy_init());
    std::unique_ptr<curl_slist, CurlFree> to(curl_slist_append(nullptr, address_of(mail.to).c_str()));
    if (!curl || !to) return "out of memory";
    std::string url =
        settings.host.find("://") == std::string::npos ? "smtp://" + settings.host : settings.host;
    std::string message = message_of(mail, settings.from, now);
    Upload upload{message};
    CURL* c = curl.get();
    curl_easy_setopt(c, CURLOPT_URL, url.c_str());
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_PROXY, "");
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, static_cast<long>(settings.timeout.count()));
    curl_easy_setopt(c, CURLOPT_USE_SSL,
                     static_cast<long>(settings.require_tls ? CURLUSESSL_ALL : CURLUSESSL_TRY));
    if (!settings.username.empty()) {
        curl_easy_setopt(c, CURLOPT_USERNAME, settings.username.c_str());
        curl_easy_setopt(c, CURLOPT_PASSWORD, password.reveal().c_str());
    }
    curl_easy_setopt(c, CURLOPT_MAIL_FROM, address_of(settings.from).c_str());
    curl_easy_setopt(c, CURLOPT_MAIL_RCPT, to.get());
    curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(c, CURLOPT_READFUNCTION, &Upload::read);
    curl_easy_setopt(c, CURLOPT_READDATA, &upload);
    CURLcode done = curl_easy_perform(c);
    return done == CURLE_OK ? nullptr : curl_easy_strerror(done);
}

Secret password_in(const std::string& variable) {
    const char* value = variable.empty() ? nullptr : std::getenv(variable.c_str());
    return Secret(value == nullptr ? "" : value);
}

}  // namespace

struct Mailer::Impl {
    Impl(const SmtpSettings& smtp, metrics::Registry& metrics)
        : settings(smtp),
          password(password_in(smtp.password_env)),
          sent(count(metrics, "sent")),
          retried(count(metrics, "retried")),
          failed(count(metrics, "failed")),
          dropped(count(metrics, "dropped")),
          logged(count(metrics, "logged")),
          waiting(metrics.gauge("nebula_mails_waiting", "Mails not sent yet")) {
        static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
        (void)ready;
        if (!settings.host.empty()) thread = std::jthread([this](std::stop_token stop) { work(stop); });
    }
    ~Impl() {
        thread.request_stop();
        if (thread.joinable()) thread.join();
        if (!queue.empty()) LOG_WARN("mails were not sent before the stop", {"count", queue.size()});
    }
    static metrics::Counter& count(metrics::Registry& metrics, const char* result) {
        return metrics.counter("nebula_mails_total", "Mails by what became of them", {{"result", result}});
    }

    void work(const std::stop_token& stop) {
        while (true) {
            Waiting next;
            {
                std::unique_lock lock(mutex);
                if (!wait_for_due(lock, stop)) return;
                auto soonest = std::ranges::min_element(queue, {}, &Waiting::due);
                next = std::move(*soonest);
                queue.erase(soonest);
            }
            send_one(std::move(next));
            std::lock_guard lock(mutex);
            waiting.set(static_cast<std::int64_t>(queue.size()));
        }
    }
    /// False: stop.
    bool wait_for_due(std::unique_lock<std::mutex>& lock, const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            if (queue.empty()) {
                wake.wait(lock, stop, [this] { return !queue.empty(); });
                continue;
            }
            auto due = std::ranges::min_element(queue, {}, &Waiting::due)->due;
            if (due <= std::chrono::steady_clock::now()) return true;
            std::size_t known = queue.size();
            wake.wait_until(lock, stop, due, [this, known] { return queue.size() != known; });
        }
        return false;
    }
    void send_one(Waiting next) {
        const char* problem = send_by_smtp(settings, password, next.mail, clock.now());
        if (problem == nullptr) {
            sent.add();
            return;
        }
        if (++next.attempts >= attempts_max) {
            failed.add();
            LOG_ERROR("a mail could not be sent", {"to", next.mail.to}, {"why", problem});
            return;
        }
        retried.add();
        LOG_WARN("a mail has to be sent again", {"attempts", next.attempts}, {"why", problem});
        next.due = std::chrono::steady_clock::now() + first_retry * (1 << 2 * (next.attempts - 1));
        std::lock_guard lock(mutex);
        queue.push_back(std::move(next));
    }

    const SmtpSettings settings;
    const Secret password;
    SystemClock clock;
    metrics::Counter& sent;
    metrics::Counter& retried;
    metrics::Counter& failed;
    metrics::Counter& dropped;
    metrics::Counter& logged;
    metrics::Gauge& waiting;
    std::mutex mutex;
    std::condition_variable_any wake;
    std::deque<Waiting> queue;
    std::jthread thread;
};

Mailer::Mailer(const SmtpSettings& settings, metrics::Registry& metrics)
    : impl_(std::make_unique<Impl>(settings, metrics)) {}
Mailer::~Mailer() = default;

void Mailer::send(Mail mail) {
    if (impl_->settings.host.empty()) {
        impl_->logged.add();
        // The operator hands the link on: without a mail server there is no other way to the person.
        LOG_INFO("mail (no mail server is configured)", {"to", mail.to}, {"subject", mail.subject},
                 {"text", mail.text});
        return;
    }
    {
        std::lock_guard lock(impl_->mutex);
        if (impl_->queue.size() >= queue_max) {
            impl_->dropped.add();
            LOG_ERROR("too many mails are waiting, one was dropped", {"to", mail.to});
            return;
        }
        impl_->queue.push_back({std::move(mail), 0, std::chrono::steady_clock::now()});
        impl_->waiting.set(static_cast<std::int64_t>(impl_->queue.size()));
    }
    impl_->wake.notify_one();
}

}  // namespace nebula::accounts
