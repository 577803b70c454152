#include "catalog/catalog.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

namespace nebula::catalog {
namespace {

struct Config {
    std::vector<ProviderSettings> providers;
    std::vector<ModelSettings> models;
    void describe(settings::Visitor& v) {
        v.list({.name = "provider", .help = "Who serves."}, providers);
        v.list({.name = "model", .help = "What is served."}, models);
    }
};

Config load(std::string_view text) {
    Config config;
    auto problems = settings::load(text, [&](settings::Visitor& v) { config.describe(v); });
    for (const auto& p : problems) ADD_FAILURE() << p.line << ": " << p.message;
    return config;
}

Built build_text(std::string_view text, const std::vector<LocalModel>& local = {}) {
    Config config = load(text);
    return build(config.providers, config.models, local, from_micros(1'767'225'600'000'000));
}

constexpr const char* two_providers = R"(
[[provider]]
name = "vllm-1"
kind = "openai"
base_url = "http://127.0.0.1:8000/v1"
api_key_env = "CATALOG_TEST_KEY"
connect_timeout_ms = 100
[[provider]]
name = "remote"
base_url = "https://api.example.com/openai/v1/"
)";

class CatalogTest : public testing::Test {
   protected:
    CatalogTest() { ::setenv("CATALOG_TEST_KEY", "sk-123", 1); }
    ~CatalogTest() override { ::unsetenv("CATALOG_TEST_KEY"); }
};

// The form of the configuration file is a promise; every value must reach the snapshot.
TEST_F(CatalogTest, BuildsWhatTheFileSays) {
    auto built = build_text(std::string(two_providers) + R"(
[[model]]
id = "qwen3:latest"
context_length = 32768
max_output_tokens = 8192
price_input_per_m = "0.20"
price_output_per_m = "0.60"
price_cached_input_per_m = "0.05"
price_cache_write_per_m = "0.25"
price_reasoning_per_m = "0"
price_request = "0.001"
price_unit = "0.04"
unit = "image"
endpoints = ["chat"]
strategy = "ordered"
disconnect = "drain"
rpm = 5
tpm = 600
routes = [{ provider = "vllm-1", model = "Qwen/Qwen3-32B", weight = 1 }, { provider = "remote", weight = 3 }]
[[model]]
id = "org/name:tag"
price_input_per_m = "3"
price_output_per_m = "4"
endpoints = ["embeddings"]
context_length = 100
routes = [{ provider = "remote" }]
)");
    ASSERT_THAT(built.problems, testing::IsEmpty());
    auto model = built.snapshot->find("qwen3:latest");
    ASSERT_NE(model, nullptr);
    EXPECT_EQ(model->created, 1'767'225'600);
    EXPECT_EQ(model->context_length, 32768);
    EXPECT_EQ(model->max_output_tokens, 8192);
    EXPECT_EQ(model->prices.input_per_m, Nanos{200'000'000});
    EXPECT_EQ(model->prices.output_per_m, Nanos{600'000'000});
    EXPECT_EQ(model->prices.cached_input_per_m, Nanos{50'000'000});
    EXPECT_EQ(model->prices.cache_write_per_m, Nanos{250'000'000});
    EXPECT_EQ(model->prices.reasoning_per_m, Nanos{}) << "free is a price";
    EXPECT_EQ(model->prices.request, Nanos{1'000'000});
    EXPECT_EQ(model->prices.unit, Nanos{40'000'000});
    EXPECT_EQ(model->unit, "image");
    EXPECT_TRUE(model->serves("chat") && model->strategy == Strategy::ordered);
    EXPECT_EQ(model->disconnect, Disconnect::drain);
    EXPECT_EQ(model->rpm, 5);
    EXPECT_EQ(model->tpm, 600);
    ASSERT_EQ(model->routes.size(), 2u);
    const Provider& local = *model->routes[0].provider;
    EXPECT_EQ(model->routes[0].upstream_model, "Qwen/Qwen3-32B");
    EXPECT_EQ(local.origin.host, "127.0.0.1");
    EXPECT_EQ(local.origin.port, 8000);
    EXPECT_FALSE(local.origin.tls);
    EXPECT_EQ(local.path, "/v1");
    EXPECT_EQ(local.api_key.reveal(), "sk-123");
    EXPECT_EQ(local.timeouts.connect, std::chrono::milliseconds(100));
    EXPECT_EQ(model->routes[1].upstream_model, "qwen3:latest");
    EXPECT_EQ(model->routes[1].weight, 3);
    EXPECT_TRUE(model->routes[1].provider->origin.tls);
    EXPECT_EQ(model->routes[1].provider->path, "/openai/v1");

    auto second = built.snapshot->find("org/name:tag");
    ASSERT_NE(second, nullptr);
    EXPECT_FALSE(second->serves("chat"));
    EXPECT_EQ(second->max_output_tokens, 100);  // never beyond the context
    for (Nanos price : {second->prices.cached_input_per_m, second->prices.cache_write_per_m})
        EXPECT_EQ(price, second->prices.input_per_m);
    EXPECT_EQ(second->prices.reasoning_per_m, Nanos{4'000'000'000});
    EXPECT_EQ(second->prices.request, Nanos{});
    EXPECT_EQ(second->unit, "");
    EXPECT_EQ(built.snapshot->find("org/name"), nullptr);
    EXPECT_EQ(built.snapshot->find(""), nullptr);
    EXPECT_THAT(built.snapshot->models, testing::ElementsAre(model, second));
}

// Where a kind of provider usually is needs not be written down; elsewhere counts.
TEST_F(CatalogTest, KnowsWhereKindsOfProvidersUsuallyAre) {
    auto built = build_text(R"(
[[provider]]
name = "here"
kind = "ollama"
[[provider]]
name = "google"
kind = "gemini"
[[provider]]
name = "there"
kind = "ollama"
base_url = "https://ollama.com"
)");
    ASSERT_THAT(built.problems, testing::IsEmpty());
    const auto& providers = built.snapshot->providers;
    ASSERT_EQ(providers.size(), 3u);
    EXPECT_EQ(providers[0]->kind, ProviderKind::ollama);
    EXPECT_EQ(providers[0]->origin.host, "127.0.0.1");
    EXPECT_EQ(providers[0]->origin.port, 11434);
    EXPECT_EQ(providers[1]->kind, ProviderKind::gemini);
    EXPECT_EQ(providers[1]->origin.host, "generativelanguage.googleapis.com");
    EXPECT_TRUE(providers[1]->origin.tls);
    EXPECT_EQ(providers[1]->path, "");
    EXPECT_EQ(providers[2]->origin.host, "ollama.com");
}

// All mistakes of a file come at once, each naming its provider or model.
TEST_F(CatalogTest, ReportsEveryMistake) {
    ::unsetenv("CATALOG_TEST_KEY");
    auto built = build_text(std::string(two_providers) + R"(
[[provider]]
name = "remote"
base_url = "ftp://x"
[[provider]]
name = "empty"
[[provider]]
name = "local"
base_url = "http://127.0.0.1:1"
[[provider]]
name = "files"
kind = "runtime"
base_url = "http://127.0.0.1:1"
[[provider]]
name = "ca"
base_url = "https://x"
ca_file = "/does/not/exist.pem"
[[model]]
id = "a"
routes = [{ provider = "nobody" }, { provider = "remote" }]
[[model]]
id = "a"
price_cached_input_per_m = "-1"
price_cache_write_per_m = "1,5"
price_reasoning_per_m = "free"
price_unit = "1"
[[model]]
id = "with space"
routes = [{ provider = "remote" }]
)");
    EXPECT_EQ(built.snapshot, nullptr);
    using testing::StartsWith;
    EXPECT_THAT(
        built.problems,
        testing::ElementsAre(
            "provider \"vllm-1\": environment variable CATALOG_TEST_KEY is not set",
            "provider \"remote\" is configured twice", StartsWith("provider \"remote\": base_url: "),
            "provider \"empty\" needs a base_url", StartsWith("provider \"local\": this name belongs"),
            "provider \"files\": kind \"runtime\" has no base_url",
            "provider \"ca\": ca_file /does/not/exist.pem cannot be read",
            "model \"a\" has a route to the unknown provider \"nobody\"",
            StartsWith("model \"a\": price_cached_input_per_m must be"),
            StartsWith("model \"a\": price_cache_write_per_m must be"),
            StartsWith("model \"a\": price_reasoning_per_m must be"),
            StartsWith("model \"a\": price_unit needs a unit"), "model \"a\" has no route and no model file",
            "model \"a\" is configured twice", StartsWith("model \"with space\" needs an id")));
}

// Whose Responses API may be reached, and what may run there, decides about money: it must not be guessed.
TEST_F(CatalogTest, KnowsWhoHasTheResponsesApi) {
    std::string model = "[[model]]\nid = \"m\"\nunit = \"tool_call\"\nroutes = [{ provider = \"p\" }]\n";
    std::string start = "[[provider]]\nname = \"p\"\nbase_url = \"http://127.0.0.1:1/v1\"\n";
    auto none = build_text(start + model);
    ASSERT_NE(none.snapshot, nullptr);
    EXPECT_FALSE(none.snapshot->has_responses);
    auto built = build_text(start + "responses = true\nhosted_tools = [\"web_search\", \"mcp\"]\n" + model);
    ASSERT_NE(built.snapshot, nullptr);
    EXPECT_TRUE(built.snapshot->has_responses);
    EXPECT_TRUE(built.snapshot->providers.at(0)->has_responses);
    EXPECT_THAT(built.snapshot->providers.at(0)->hosted_tools, testing::ElementsAre("web_search", "mcp"));
    auto wrong = build_text(start + "kind = \"ollama\"\nresponses = true\n" + model);
    EXPECT_THAT(wrong.problems, testing::ElementsAre("provider \"p\": responses is for kind \"openai\""));
    auto alone = build_text(start + "hosted_tools = [\"web_search\"]\n" + model);
    EXPECT_THAT(alone.problems,
                testing::ElementsAre(testing::StartsWith("provider \"p\": hosted_tools are")));
}

// Secrets are often files: of an orchestrator, or of a password manager. A damaged one must be told at the
// start.
TEST_F(CatalogTest, ReadsKeysFromFiles) {
    auto dir = std::filesystem::temp_directory_path() / ("nebula-catalog-" + std::to_string(::getpid()));
    std::filesystem::create_directories(dir);
    auto key_of = [&](const std::string& more) {
        auto built = build_text("[[provider]]\nname = \"p\"\nbase_url = \"http://127.0.0.1:1/v1\"\n" + more);
        return built.snapshot ? built.snapshot->providers.at(0)->api_key.reveal() : built.problems.at(0);
    };
    auto file = [&](const char* content) {
        std::ofstream(dir / "key") << content;
        return "api_key_file = \"" + (dir / "key").string() + "\"\n";
    };
    EXPECT_EQ(key_of(file("  sk-in-a-file \n\n")), "sk-in-a-file");
    for (const char* bad : {"", " \n", "two words", "sk\r\nhost: evil"})
        EXPECT_THAT(key_of(file(bad)), testing::EndsWith("holds no API key")) << bad;
    EXPECT_THAT(key_of("api_key_file = \"" + dir.string() + "\"\n"), testing::EndsWith("cannot be read"));
    EXPECT_THAT(key_of("api_key_file = \"/does/not/exist\"\n"), testing::EndsWith("cannot be read"));
    EXPECT_THAT(key_of(file("sk") + "api_key_env = \"CATALOG_TEST_KEY\"\n"), testing::HasSubstr("has both"));
    std::filesystem::remove_all(dir);
}

// A key with a line break would let it write headers of its own.
TEST_F(CatalogTest, RefusesAKeyThatIsNoKey) {
    ::setenv("CATALOG_TEST_KEY", "sk\r\nhost: evil", 1);
    EXPECT_THAT(build_text(two_providers).problems,
                testing::ElementsAre(testing::HasSubstr("holds no API key")));
}

// A file dropped into the models directory is served without a line of configuration.
TEST_F(CatalogTest, ServesModelFilesUnlessConfigured) {
    auto built = build_text(R"(
[[model]]
id = "nano"
price_input_per_m = "1"
)",
                            {{"nano", 512}, {"other", 0}, {"bad name", 8}});
    ASSERT_THAT(built.problems, testing::IsEmpty());
    ASSERT_EQ(built.snapshot->models.size(), 2u);
    auto nano = built.snapshot->find("nano");
    EXPECT_EQ(nano->prices.input_per_m, Nanos{1'000'000'000});
    ASSERT_EQ(nano->routes.size(), 1u);
    auto other = built.snapshot->find("other");
    EXPECT_EQ(other->prices.input_per_m, Nanos{50'000'000});
    EXPECT_EQ(other->prices.output_per_m, Nanos{100'000'000});
    EXPECT_GT(other->context_length, 0);
    ASSERT_EQ(built.snapshot->providers.size(), 1u);
    EXPECT_EQ(built.snapshot->providers[0]->name, "local");
    EXPECT_TRUE(other->routes.at(0).provider->is_runtime());
    EXPECT_EQ(other->routes.at(0).provider, nano->routes[0].provider);
}

// Somebody who configures the runtime gets his limits applied to model files.
TEST_F(CatalogTest, UsesTheConfiguredRuntimeProvider) {
    auto built = build_text("[[provider]]\nname = \"gpu-box\"\nkind = \"runtime\"\nconcurrency_max = 2\n",
                            {{"nano", 512}});
    ASSERT_THAT(built.problems, testing::IsEmpty());
    ASSERT_EQ(built.snapshot->providers.size(), 1u);
    EXPECT_EQ(built.snapshot->find("nano")->routes.at(0).provider->concurrency_max, 2);
}

// A request keeps the snapshot it started with, whatever is reloaded meanwhile; new requests see the new one.
TEST_F(CatalogTest, SwapsSnapshotsWithoutDisturbingReaders) {
    Catalog catalog;
    EXPECT_TRUE(catalog.current()->models.empty());
    catalog.replace(build_text("", {{"one", 1}}).snapshot);
    auto held = catalog.current();
    catalog.replace(build_text("", {{"two", 1}}).snapshot);
    EXPECT_NE(held->find("one"), nullptr);
    EXPECT_EQ(catalog.current()->find("one"), nullptr);
    EXPECT_NE(catalog.current()->find("two"), nullptr);
    Catalog other;
    EXPECT_TRUE(other.current()->models.empty());
    EXPECT_NE(catalog.current()->find("two"), nullptr);
}

// Readers on several threads against reloads: every snapshot is whole and versions never go back.
TEST_F(CatalogTest, IsSafeUnderReload) {
    Catalog catalog;
    std::vector<std::shared_ptr<const Snapshot>> snapshots;
    for (std::int64_t i = 1; i <= 50; ++i) snapshots.push_back(build_text("", {{"m", i}}).snapshot);
    catalog.replace(snapshots[0]);
    std::atomic<bool> is_done = false;
    std::atomic<int> wrong = 0;
    {
        std::vector<std::jthread> readers;
        for (int t = 0; t < 2; ++t)
            readers.emplace_back([&] {
                std::int64_t last = 0;
                while (!is_done) {
                    auto model = catalog.current()->find("m");
                    if (model == nullptr || model->context_length < last) ++wrong;
                    if (model != nullptr) last = model->context_length;
                }
            });
        for (const auto& snapshot : snapshots) catalog.replace(snapshot);
        is_done = true;
    }
    EXPECT_EQ(wrong, 0);
}

// What a request is charged depends on the route that answers; the hold must cover the dearest one.
TEST(Catalog, RoutesHaveTheirOwnPrices) {
    ::setenv("CATALOG_TEST_KEY", "k", 1);
    auto built = build_text(std::string(two_providers) + R"(
[[model]]
id = "m"
price_input_per_m = "1"
price_output_per_m = "2"
routes = [{provider = "vllm-1", price_input_per_m = "0.5", price_output_per_m = "3"},
          {provider = "remote", price_request = "0.001", quantization = "fp8", tag = "turbo"}]
)");
    ASSERT_TRUE(built.snapshot) << testing::PrintToString(built.problems);
    auto model = built.snapshot->find("m");
    EXPECT_EQ(model->routes[0].prices.input_per_m.value, 500'000'000);
    EXPECT_EQ(model->routes[0].prices.cached_input_per_m.value, 500'000'000);
    EXPECT_EQ(model->routes[0].prices.output_per_m.value, 3'000'000'000);
    EXPECT_EQ(model->routes[1].prices.input_per_m.value, 1'000'000'000);
    EXPECT_EQ(model->routes[1].prices.request.value, 1'000'000);
    EXPECT_EQ(model->worst_prices.input_per_m.value, 1'000'000'000);
    EXPECT_EQ(model->worst_prices.output_per_m.value, 3'000'000'000);
    EXPECT_EQ(model->worst_prices.request.value, 1'000'000);
    EXPECT_NE(model->routes[0].number, model->routes[1].number);
    EXPECT_EQ(number_of("vllm-1"), model->routes[0].provider->number);
}

// A count with the wrong vocabulary is a wrong bill: what cannot be read must stop the start.
TEST(Catalog, TakesAVocabularyOnlyWhenItCanBeCountedWith) {
    ModelSettings model;
    model.id = "llama";
    std::vector<LocalModel> local{{"llama", 100}};
    EXPECT_EQ(build({}, {model}, local, Time()).snapshot->find("llama")->tokenizer, nullptr);
    model.tokenizer_family = "gpt2";
    EXPECT_THAT(build({}, {model}, local, Time()).problems,
                testing::ElementsAre("model \"llama\": tokenizer_family needs a tokenizer"));
    model.tokenizer = "/nowhere/vocabulary.tiktoken";
    EXPECT_THAT(
        build({}, {model}, local, Time()).problems,
        testing::ElementsAre("model \"llama\": tokenizer /nowhere/vocabulary.tiktoken: cannot be read"));
}

TEST(Catalog, AliasesNameModelsAndNothingElse) {
    ModelSettings model;
    model.id = "llama";
    model.aliases = {"gpt-4o"};
    ModelSettings other = model;
    other.id = "other";
    other.aliases = {};
    std::vector<LocalModel> local{{"llama", 100}, {"other", 100}};
    auto built = build({}, {model, other}, local, Time(), {{"gpt-4", "other"}});
    ASSERT_TRUE(built.snapshot);
    EXPECT_EQ(built.snapshot->find("gpt-4o")->id, "llama");
    EXPECT_EQ(built.snapshot->find("gpt-4")->id, "other");
    EXPECT_EQ(built.snapshot->models.size(), 2u);
    auto problems =
        build({}, {model, other}, local, Time(), {{"gpt-4o", "other"}, {"x", "nobody"}, {"a b", "llama"}})
            .problems;
    EXPECT_THAT(problems, testing::ElementsAre(testing::HasSubstr("\"gpt-4o\" is the name of"),
                                               testing::HasSubstr("unknown model \"nobody\""),
                                               testing::HasSubstr("needs a name")));
}

}  // namespace
}  // namespace nebula::catalog
