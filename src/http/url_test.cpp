#include <gtest/gtest.h>

#include "http/client.hpp"

namespace nebula::http {
namespace {

// Operators write these by hand in the configuration; each form has one meaning.
TEST(ParseUrl, ReadsEveryForm) {
    struct Row {
        std::string_view url;
        bool tls;
        std::string host;
        int port;
        std::string socket, path;
    };
    const Row rows[] = {
        {"http://example.com", false, "example.com", 80, "", ""},
        {"https://Example.com/v1/", true, "example.com", 443, "", "/v1"},
        {"HTTP://127.0.0.1:8000/v1", false, "127.0.0.1", 8000, "", "/v1"},
        {"https://[::1]:8443/a/b//", true, "::1", 8443, "", "/a/b"},
        {"http://[::1]", false, "::1", 80, "", ""},
        {"http://host_1:65535/", false, "host_1", 65535, "", ""},
        {"unix:/run/model.sock", false, "localhost", 0, "/run/model.sock", ""},
        {"unix:/run/a:b.sock:/v1/", false, "localhost", 0, "/run/a:b.sock", "/v1"},
    };
    for (const Row& row : rows) {
        auto parsed = parse_url(row.url);
        ASSERT_TRUE(parsed) << row.url;
        EXPECT_EQ(parsed->origin.tls, row.tls) << row.url;
        EXPECT_EQ(parsed->origin.host, row.host);
        EXPECT_EQ(parsed->origin.port, row.port);
        EXPECT_EQ(parsed->origin.unix_path, row.socket);
        EXPECT_EQ(parsed->path, row.path);
    }
}

// A wrong URL is refused when it is read, not when the first request fails.
TEST(ParseUrl, RefusesWhatCouldBeMisread) {
    const std::string long_socket = "unix:/" + std::string(107, 'x');
    const std::string_view wrong[] = {"",
                                      "example.com",
                                      "ftp://example.com",
                                      "http://",
                                      "http://:80",
                                      "http://a:0",
                                      "http://a:65536",
                                      "http://a:",
                                      "http://a:8x",
                                      "http://user@host",
                                      "http://u:p@host/",
                                      "http://a b",
                                      "http://a/x y",
                                      "http://a/x?y=1",
                                      "http://a/#x",
                                      "http://a/\r\nX: 1",
                                      "http://[::1",
                                      "http://[::1]x",
                                      "http://[zz]",
                                      "http://-a",
                                      "http://.a",
                                      "http://a/\x80",
                                      "http://a\\b",
                                      "unix:",
                                      "unix:relative",
                                      "unix:/a:/b?c",
                                      long_socket};
    for (std::string_view url : wrong) {
        auto parsed = parse_url(url);
        ASSERT_FALSE(parsed) << url;
        EXPECT_EQ(parsed.error().code, Code::invalid_request);
    }
}

// Connections of different origins must never be mixed up.
TEST(Origin, KeysDifferWhereverOriginsDo) {
    Origin base{.tls = true, .host = "a", .port = 1, .unix_path = "", .ca_file = ""};
    Origin plain = base, other_port = base, other_host = base, socket = base, anchored = base;
    plain.tls = false;
    other_port.port = 11;
    other_host.host = "a1";
    socket.unix_path = "/s";
    anchored.ca_file = "/s";
    for (const Origin* other : {&plain, &other_port, &other_host, &socket, &anchored})
        EXPECT_NE(base.key(), other->key());
    EXPECT_NE(socket.key(), anchored.key());
    EXPECT_EQ(base.key(), Origin(base).key());
}

}  // namespace
}  // namespace nebula::http
