// A form travels on to the provider as it came, so both must read the same parts: what could be read in two
// ways is refused.
#include "http/multipart.hpp"

#include <gtest/gtest.h>

#include <string>

namespace nebula::http {
namespace {

constexpr const char* type = "multipart/form-data; boundary=xYz";

std::string part(const std::string& head, const std::string& body) {
    return "--xYz\r\n" + head + "\r\n\r\n" + body + "\r\n";
}
std::string field(const std::string& name, const std::string& value) {
    return part("Content-Disposition: form-data; name=\"" + name + "\"", value);
}
const std::string end = "--xYz--\r\n";

// The form that every client sends; bodies are views, whatever bytes they hold.
TEST(Multipart, FindsFieldsAndFilesWhereTheyLie) {
    std::string sound = std::string("RIFF\0\r\n--xY\r\n-- ", 17);
    std::string body = field("model", "whisper") +
                       part(
                           "content-disposition: form-data; name=file; filename=\"a b;c.wav\"\r\n"
                           "Content-Type: audio/wav",
                           sound) +
                       field("prompt", "") + end;
    auto parts = read_form(body, type);
    ASSERT_TRUE(parts) << parts.error().message;
    ASSERT_EQ(parts->size(), 3u);
    EXPECT_EQ((*parts)[0].name, "model");
    EXPECT_EQ((*parts)[0].body, "whisper");
    EXPECT_FALSE((*parts)[0].is_file);
    EXPECT_EQ((*parts)[1].name, "file");
    EXPECT_EQ((*parts)[1].filename, "a b;c.wav");
    EXPECT_EQ((*parts)[1].content_type, "audio/wav");
    EXPECT_TRUE((*parts)[1].is_file);
    EXPECT_EQ((*parts)[1].body, sound);
    EXPECT_GE((*parts)[1].body.data(), body.data());
    EXPECT_LE((*parts)[1].body.data() + sound.size(), body.data() + body.size());
    EXPECT_EQ((*parts)[2].body, "");
}

// Boundaries come quoted, too, and the last line break is optional.
TEST(Multipart, TakesQuotedBoundariesAndEndsWithoutALineBreak) {
    EXPECT_TRUE(
        read_form(field("a", "1") + "--xYz--", "Multipart/Form-Data; charset=utf-8; boundary=\"xYz\""));
    EXPECT_TRUE(read_form("\r\n" + field("a", "1") + end, type));
}

// Everything that the provider's reader could understand otherwise.
TEST(Multipart, RefusesWhatCanBeReadInTwoWays) {
    const std::string good = field("a", "1");
    const struct {
        const char* what;
        std::string body;
        std::string content_type = type;
    } cases[] = {
        {"no form", good + end, "application/json"},
        {"no boundary", good + end, "multipart/form-data"},
        {"empty boundary", good + end, "multipart/form-data; boundary="},
        {"two boundaries", good + end, "multipart/form-data; boundary=xYz; boundary=b"},
        {"a boundary with blanks", good + end, "multipart/form-data; boundary=\"x Yz\""},
        {"a long boundary", good + end, "multipart/form-data; boundary=" + std::string(71, 'x')},
        {"another boundary", good + end, "multipart/form-data; boundary=other"},
        {"a preamble", "hello\r\n" + good + end},
        {"an epilogue", good + end + "more"},
        {"no end", good},
        {"a cut body", good + "--xYz\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\nhal"},
        {"a cut head", good + "--xYz\r\nContent-Dispo"},
        {"text behind a boundary", "--xYz \r\n" + good.substr(7) + end},
        {"bare line feeds", "--xYz\nContent-Disposition: form-data; name=\"a\"\n\n1\n--xYz--\n"},
        {"no parts", end},
        {"no disposition", part("Content-Type: text/plain", "1") + end},
        {"two dispositions", part("Content-Disposition: form-data; name=\"a\"\r\n"
                                  "Content-Disposition: form-data; name=\"b\"",
                                  "1") +
                                 end},
        {"two names", part("Content-Disposition: form-data; name=\"a\"; name=\"b\"", "1") + end},
        {"no name", part("Content-Disposition: form-data", "1") + end},
        {"an empty name", part("Content-Disposition: form-data; name=\"\"", "1") + end},
        {"an encoded name", part("Content-Disposition: form-data; name*=UTF-8''a", "1") + end},
        {"an escaped quote", part("Content-Disposition: form-data; name=\"a\\\"b\"", "1") + end},
        {"an unclosed quote", part("Content-Disposition: form-data; name=\"a", "1") + end},
        {"a quote within a word", part("Content-Disposition: form-data; name=a\"b\"", "1") + end},
        {"an attachment", part("Content-Disposition: attachment; name=\"a\"", "1") + end},
        {"two file names",
         part("Content-Disposition: form-data; name=\"a\"; filename=b; filename=c", "1") + end},
        {"a folded header", part("Content-Disposition: form-data;\r\n name=\"a\"", "1") + end},
        {"a header with a blank name", part("Content-Disposition : form-data; name=\"a\"", "1") + end},
        {"two types", part("Content-Disposition: form-data; name=\"a\"\r\nContent-Type: a/b\r\n"
                           "Content-Type: c/d",
                           "1") +
                          end},
        {"a form within", part("Content-Disposition: form-data; name=\"a\"\r\n"
                               "Content-Type: multipart/mixed; boundary=q",
                               "1") +
                              end},
        {"an encoding", part("Content-Disposition: form-data; name=\"a\"\r\n"
                             "Content-Transfer-Encoding: base64",
                             "MQ==") +
                            end},
        {"no body", "--xYz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n" + end},
    };
    for (const auto& c : cases) {
        auto parts = read_form(c.body, c.content_type);
        ASSERT_FALSE(parts) << c.what;
        EXPECT_EQ(parts.error().code, Code::invalid_request) << c.what;
    }
}

// A stranger decides what comes, so each count has an end, and the last one within it is served.
TEST(Multipart, HasLimitsAndServesUpToThem) {
    std::string forms;
    for (int i = 0; i < 64; ++i) forms += field("f" + std::to_string(i), "1");
    EXPECT_TRUE(read_form(forms + end, type));
    EXPECT_FALSE(read_form(forms + field("more", "1") + end, type));

    auto with_head = [](std::size_t bytes) {
        std::string head = "Content-Disposition: form-data; name=\"a\"\r\nX: ";
        return part(head + std::string(bytes - head.size() - 2, 'x'), "1") + end;
    };
    EXPECT_TRUE(read_form(with_head(4096), type));
    EXPECT_FALSE(read_form(with_head(4097), type));
    EXPECT_TRUE(read_form(field(std::string(256, 'n'), "1") + end, type));
    EXPECT_FALSE(read_form(field(std::string(257, 'n'), "1") + end, type));
}

}  // namespace
}  // namespace nebula::http
