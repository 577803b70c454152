// Mails against a small mail server of the test's own.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <thread>

#include "accounts/people.hpp"
#include "accounts/people/base64url.hpp"
#include "base/log.hpp"

namespace nebula::accounts {
namespace {

using ::testing::HasSubstr;

/// Takes one message; `refuse_first`: the first connection is told to come back later.
class MailServer {
   public:
    explicit MailServer(bool refuse_first) {
        listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof at;
        EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&at), size), 0);
        EXPECT_EQ(::listen(listener_, 4), 0);
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &size);
        port = ntohs(at.sin_port);
        thread_ = std::jthread([this, refuse_first] { serve(refuse_first); });
    }
    ~MailServer() {
        ::shutdown(listener_, SHUT_RDWR);
        thread_.join();
        ::close(listener_);
    }
    std::string message() { return message_.get_future().get(); }
    int port = 0;

   private:
    void serve(bool refuse) {
        for (int fd; (fd = ::accept(listener_, nullptr, nullptr)) >= 0; ::close(fd)) {
            std::string text;
            if (converse(fd, refuse, text)) message_.set_value(text);
            refuse = false;
        }
    }
    static void say(int fd, std::string line) {
        line += "\r\n";
        (void)::send(fd, line.data(), line.size(), MSG_NOSIGNAL);
    }
    static bool converse(int fd, bool refuse, std::string& text) {
        say(fd, "220 test");
        std::string buffer;
        bool in_data = false;
        char bytes[4096];
        for (ssize_t got; (got = ::recv(fd, bytes, sizeof bytes, 0)) > 0;) {
            buffer.append(bytes, static_cast<std::size_t>(got));
            for (std::size_t end; (end = buffer.find("\r\n")) != std::string::npos;) {
                std::string line = buffer.substr(0, end);
                buffer.erase(0, end + 2);
                if (in_data && line != ".") {
                    text += line + "\n";
                } else if (in_data) {
                    say(fd, "250 taken");
                    return true;
                } else if (line.starts_with("RCPT") && refuse) {
                    say(fd, "451 later");
                } else if (line == "DATA") {
                    in_data = true;
                    say(fd, "354 go on");
                } else {
                    text += line + "\n";
                    say(fd, "250 ok");
                }
            }
        }
        return false;
    }

    int listener_ = -1;
    std::promise<std::string> message_;
    std::jthread thread_;
};

std::string received(bool refuse_first, metrics::Registry& metrics, const Mail& mail) {
    MailServer server(refuse_first);
    SmtpSettings settings;
    settings.host = "127.0.0.1:" + std::to_string(server.port);
    settings.from = "Nebula <hello@nebula.test>";
    settings.require_tls = false;
    Mailer mailer(settings, metrics);
    mailer.send(mail);
    return server.message();
}

// What people get: sender, recipient, a subject in any language, the text whole.
TEST(Mailer, SendsThroughTheMailServer) {
    metrics::Registry metrics;
    std::string text =
        received(false, metrics, {"ada@example.com", "Grüße\r\nBcc: eve@example.com", "open:\nhttp://x"});
    EXPECT_THAT(text, HasSubstr("MAIL FROM:<hello@nebula.test>"));
    EXPECT_THAT(text, HasSubstr("RCPT TO:<ada@example.com>"));
    EXPECT_THAT(text, HasSubstr("Subject: =?UTF-8?B?" + base64("GrüßeBcc: eve@example.com") + "?="));
    EXPECT_THAT(text, HasSubstr(base64("open:\nhttp://x")));
}

// Mail servers ask to come back later as a matter of routine.
TEST(Mailer, SendsAgainWhatWasRefusedForAWhile) {
    log::set_sink_for_test([](std::string_view) {});
    metrics::Registry metrics;
    EXPECT_THAT(received(true, metrics, {"ada@example.com", "s", "t"}), HasSubstr("Subject: s"));
    EXPECT_EQ(metrics.counter("nebula_mails_total", "", {{"result", "retried"}}).value(), 1u);
    log::set_sink_for_test(nullptr);
}

}  // namespace
}  // namespace nebula::accounts
