#include "base/settings.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace nebula::settings {
namespace {

using std::chrono::milliseconds;

struct Route {
    std::string provider;
    std::int64_t weight = 1;
    void describe(Visitor& v) {
        v.field({.name = "provider", .help = "Who serves it.", .required = true}, provider);
        v.field({.name = "weight", .help = "Share of requests.", .min = 1, .max = 100}, weight);
    }
};
struct Model {
    std::string id;
    Nanos price;
    std::vector<Route> routes;
    void describe(Visitor& v) {
        v.field({.name = "id", .help = "Name.", .required = true}, id);
        v.field({.name = "price", .help = "USD per million tokens."}, price);
        v.list({.name = "routes", .help = "Where it is served."}, routes);
    }
};
struct Tls {
    std::string cert;
    void describe(Visitor& v) { v.field({.name = "cert", .help = "PEM file."}, cert); }
};
struct Http {
    std::string listen = "127.0.0.1:8080";
    std::string mode = "fast";
    std::int64_t threads = 2;
    bool is_open = false;
    milliseconds timeout{1500};
    Secret token;
    std::vector<std::string> origins = {"*"};
    Tls tls;
    void describe(Visitor& v) {
        v.field({.name = "listen", .help = "Address and port."}, listen);
        v.field({.name = "mode", .help = "How.", .one_of = {"fast", "safe"}}, mode);
        v.field({.name = "threads", .help = "Threads.", .apply = Apply::live, .min = 1, .max = 64}, threads);
        v.field({.name = "is_open", .help = "Open."}, is_open);
        v.field({.name = "timeout", .help = "Patience."}, timeout);
        v.field({.name = "token", .help = "Password."}, token);
        v.field({.name = "origins", .help = "Who may call."}, origins);
        v.section({.name = "tls", .help = "Encryption."}, tls);
    }
};
struct Everything {
    Http http;
    std::vector<Model> models;
    void describe(Visitor& v) {
        v.section({.name = "http", .help = "The listener."}, http);
        v.list({.name = "model", .help = "What is served."}, models);
    }
};

struct Loaded {
    Everything values;
    std::vector<std::string> problems;  // "line: message"
};

Loaded load_text(std::string_view text, const std::vector<Tombstone>& tombstones = {}) {
    Loaded loaded;
    for (const Problem& p : load(text, [&](Visitor& v) { loaded.values.describe(v); }, tombstones))
        loaded.problems.push_back(std::to_string(p.line) + ": " + p.message);
    return loaded;
}

class ScopedEnv {
   public:
    ScopedEnv(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
    ~ScopedEnv() { ::unsetenv(name_); }

   private:
    const char* name_;
};

// The form of the file is a promise to users: every kind of value, nested sections, lists and inline tables.
TEST(Settings, ReadsEveryKindOfValue) {
    auto loaded = load_text(R"(
[http]
listen = "0.0.0.0:80"
mode = "safe"
threads = 8
is_open = true
timeout = 250
token = "s3cret"
origins = ["https://a", "https://b"]
[http.tls]
cert = "a.pem"
[[model]]
id = "qwen3:latest"
price = "0.20"
routes = [{ provider = "one", weight = 3 }, { provider = "two" }]
[[model]]
id = "b"
[[model.routes]]
provider = "three"
)");
    EXPECT_THAT(loaded.problems, testing::IsEmpty());
    const Http& http = loaded.values.http;
    EXPECT_EQ(http.listen, "0.0.0.0:80");
    EXPECT_EQ(http.mode, "safe");
    EXPECT_EQ(http.threads, 8);
    EXPECT_TRUE(http.is_open);
    EXPECT_EQ(http.timeout, milliseconds(250));
    EXPECT_EQ(http.token.reveal(), "s3cret");
    EXPECT_THAT(http.origins, testing::ElementsAre("https://a", "https://b"));
    EXPECT_EQ(http.tls.cert, "a.pem");
    ASSERT_EQ(loaded.values.models.size(), 2u);
    EXPECT_EQ(loaded.values.models[0].price, Nanos{200'000'000});
    ASSERT_EQ(loaded.values.models[0].routes.size(), 2u);
    EXPECT_EQ(loaded.values.models[0].routes[0].weight, 3);
    EXPECT_EQ(loaded.values.models[0].routes[1].provider, "two");
    ASSERT_EQ(loaded.values.models[1].routes.size(), 1u);
    EXPECT_EQ(loaded.values.models[1].routes[0].provider, "three");
}

// Somebody fixes a file once, not once per mistake.
TEST(Settings, ReportsAllProblemsAtOnceInOrderOfLinesAndAppliesNothing) {
    auto loaded = load_text(R"([http]
listn = "x"
threads = 99
timeout = "5s"
is_open = "yes"
mode = "slow"
origins = ["a", 2]
[htp]
[[model]]
price = 0.2
routes = [{ provider = "p", wieght = 2 }]
[[model]]
id = ""
routes = 3
)");
    EXPECT_THAT(
        loaded.problems,
        testing::ElementsAre(
            "2: unknown setting http.listn; did you mean http.listen?",
            "3: http.threads must be between 1 and 64, not 99",
            "4: http.timeout must be a whole number of milliseconds, not text",
            "5: http.is_open must be true or false, not text",
            "6: http.mode must be one of fast, safe, not \"slow\"",
            "7: http.origins[2] must be text, not a whole number",
            "8: unknown section htp; did you mean http?", "9: model[1].id is missing",
            "10: model[1].price must be a decimal number in quotes, as \"0.20\", not a number with a "
            "fraction",
            "11: unknown setting model[1].routes[1].wieght; did you mean model[1].routes[1].weight?",
            "13: model[2].id must not be empty",
            "14: model[2].routes must be a list of sections, [[model[2].routes]], not a whole number"));
    EXPECT_EQ(loaded.values.http.threads, 2);
    EXPECT_TRUE(loaded.values.models.empty());
}

// One file is right except for one value; each row pins what is refused.
TEST(Settings, RefusesSingleMistakes) {
    struct Row {
        const char* text;
        const char* expected;
    };
    const Row rows[] = {
        {"[http]\nthreads = 0\n", "2: http.threads must be between 1 and 64, not 0"},
        {"[http]\nthreads = 1.5\n", "2: http.threads must be a whole number, not a number with a fraction"},
        {"[http]\ntimeout = -1\n", "2: http.timeout must be between 0 and 315360000000, not -1"},
        {"[http]\ntoken = 5\n", "2: http.token must be text, not a whole number"},
        {"[http]\norigins = \"a\"\n", "2: http.origins must be a list of texts, not text"},
        {"http = 3\n", "1: http must be a section, not a whole number"},
        {"[[model]]\nid = \"a\"\nprice = \"1e3\"\n",
         "3: model[1].price must be a decimal number with at most 9 fraction digits, not \"1e3\""},
        {"[[model]]\nid = \"a\"\nprice = \"-1\"\n",
         "3: model[1].price must be between 0 and 9223372036.854775807, not -1"},
        {"model = [1]\n", "1: model[1] must be a section, not a whole number"},
        {"[zzzzzz]\n", "1: unknown section zzzzzz"},
    };
    for (const Row& row : rows) EXPECT_THAT(load_text(row.text).problems, testing::ElementsAre(row.expected));
}

// A file that is no TOML gives its line; so does a setting given twice.
TEST(Settings, NamesTheLineOfASyntaxError) {
    auto broken = load_text("[http]\nlisten = \"a\nthreads = 2\n");
    ASSERT_EQ(broken.problems.size(), 1u);
    EXPECT_THAT(broken.problems[0], testing::StartsWith("2: not valid TOML: "));
    auto twice = load_text("[http]\nthreads = 2\nthreads = 3\n");
    ASSERT_EQ(twice.problems.size(), 1u);
    EXPECT_THAT(twice.problems[0], testing::StartsWith("3: not valid TOML: "));
}

// Removed settings answer with what to do, not with "unknown".
TEST(Settings, SaysWhatReplacedARemovedSetting) {
    auto loaded = load_text("[http]\nport = 1\n[[model]]\nid = \"a\"\nrate = 2\n",
                            {{"http.port", "use http.listen"}, {"model.rate", "use price"}});
    EXPECT_THAT(loaded.problems, testing::ElementsAre("2: http.port is no longer a setting: use http.listen",
                                                      "5: model.rate is no longer a setting: use price"));
}

// Containers are configured by environment: it wins over the file, at any depth, and is checked as strictly.
TEST(Settings, TakesTheEnvironmentOverTheFile) {
    ScopedEnv listen("NEBULA_HTTP_LISTEN", "[::1]:9");
    ScopedEnv threads("NEBULA_HTTP_THREADS", "5");
    ScopedEnv open("NEBULA_HTTP_IS_OPEN", "1");
    ScopedEnv origins("NEBULA_HTTP_ORIGINS", "a, b,");
    ScopedEnv cert("NEBULA_HTTP_TLS_CERT", "e.pem");
    auto loaded = load_text("[http]\nlisten = \"x\"\n");
    EXPECT_THAT(loaded.problems, testing::IsEmpty());
    EXPECT_EQ(loaded.values.http.listen, "[::1]:9");
    EXPECT_EQ(loaded.values.http.threads, 5);
    EXPECT_TRUE(loaded.values.http.is_open);
    EXPECT_THAT(loaded.values.http.origins, testing::ElementsAre("a", "b"));
    EXPECT_EQ(loaded.values.http.tls.cert, "e.pem");

    ScopedEnv wrong("NEBULA_HTTP_THREADS", "many");
    EXPECT_THAT(
        load_text("").problems,
        testing::ElementsAre("0: http.threads (environment NEBULA_HTTP_THREADS) must be a whole number, "
                             "not \"many\""));
}

// What explain prints is the sample file: it must load back to the same values and never show a secret.
TEST(Settings, ExplainsInTomlThatLoadsBack) {
    Everything values;
    values.http.token = Secret("hidden-thing");
    values.http.listen = "a\"b\\c\n";
    values.http.timeout = milliseconds(7);
    values.models.push_back({"m/1", Nanos{1}, {{"p", 4}}});
    Everything fresh;
    std::string text =
        explain([&](Visitor& v) { values.describe(v); }, [&](Visitor& v) { fresh.describe(v); });
    EXPECT_THAT(text, testing::Not(testing::HasSubstr("hidden-thing")));
    EXPECT_THAT(text, testing::HasSubstr("# token = \"***\"\n"));
    EXPECT_THAT(text, testing::HasSubstr("# Threads.\n#   default 2; 1 to 64; env NEBULA_HTTP_THREADS; "
                                         "applies on SIGHUP\nthreads = 2\n"));
    EXPECT_THAT(text, testing::HasSubstr("default 1500; milliseconds; env NEBULA_HTTP_TIMEOUT;"));
    EXPECT_THAT(text, testing::HasSubstr("[[model.routes]]\n"));
    auto back = load_text(text);
    EXPECT_THAT(back.problems, testing::IsEmpty()) << text;
    EXPECT_EQ(back.values.http.listen, values.http.listen);
    EXPECT_EQ(back.values.http.timeout, milliseconds(7));
    ASSERT_EQ(back.values.models.size(), 1u);
    EXPECT_EQ(back.values.models[0].price, Nanos{1});
    EXPECT_EQ(back.values.models[0].routes.at(0).weight, 4);
}

// An empty list still shows what an entry looks like, as comments that do not count.
TEST(Settings, ShowsACommentedSampleOfAnEmptyList) {
    Everything values;
    std::string text = explain([&](Visitor& v) { values.describe(v); });
    EXPECT_THAT(text, testing::HasSubstr("\n# [[model]]\n# # Name.\n#"));
    EXPECT_THAT(text, testing::HasSubstr("\n# [[model.routes]]\n"));
    auto back = load_text(text);
    EXPECT_THAT(back.problems, testing::IsEmpty()) << text;
    EXPECT_TRUE(back.values.models.empty());
}

}  // namespace
}  // namespace nebula::settings
