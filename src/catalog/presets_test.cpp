#include "catalog/presets.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "catalog/catalog.hpp"
#include "catalog/discovery.hpp"

namespace nebula::catalog {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Config {
    std::vector<ProviderSettings> providers;
    std::vector<ModelSettings> models;
    void describe(settings::Visitor& v) {
        v.list({.name = "provider", .help = "Who serves."}, providers);
        v.list({.name = "model", .help = "What is served."}, models);
    }
};

Built build_text(const std::string& text) {
    Config config;
    auto problems = settings::load(text, [&](settings::Visitor& v) { config.describe(v); });
    for (const auto& p : problems) ADD_FAILURE() << p.line << ": " << p.message << "\n" << text;
    return build(config.providers, config.models, {}, from_micros(0));
}

constexpr const char* one_provider = "[[provider]]\nname = \"up\"\nbase_url = \"http://127.0.0.1:1/v1\"\n";

// A preset with a mistake would stop the next start of whoever imported it.
TEST(Presets, EachBuildsIntoACatalog) {
    std::vector<std::string> names;
    for (const Preset& preset : presets()) {
        SCOPED_TRACE(preset.name);
        names.emplace_back(preset.name);
        std::string text = one_provider;
        auto sections = sections_of(preset);
        EXPECT_GE(sections.size(), 4u);
        for (const Section& section : sections) text += routed(section, "up");
        Built built = build_text(text);
        ASSERT_THAT(built.problems, IsEmpty());
        ASSERT_EQ(built.snapshot->models.size(), sections.size());
        for (const Section& section : sections) {
            auto model = built.snapshot->find(section.id);
            ASSERT_NE(model, nullptr) << section.id;
            EXPECT_EQ(model->routes.at(0).provider->name, "up");
            EXPECT_EQ(model->routes.at(0).upstream_model, section.id);
            auto known = known_model(section.id);
            ASSERT_TRUE(known.has_value());
            EXPECT_EQ(known->preset, preset.name) << "of two prices for one model nobody knows which holds";
        }
    }
    EXPECT_THAT(names, ElementsAre("credits", "nebula-ai", "nebula-block", "novita"));
    EXPECT_THAT(preset_named("none").error().message, HasSubstr("credits, nebula-ai"));
}

// The documented table, to the cent.
TEST(Presets, NebulaAiHasItsPublishedPrices) {
    std::string text = one_provider;
    for (const Section& section : sections_of(*preset_named("nebula-ai"))) text += routed(section, "up");
    Built built = build_text(text);
    struct Row {
        const char* id;
        std::int64_t context, input, output;
    };
    const Row rows[] = {{"qwen3:latest", 32768, 200'000'000, 600'000'000},
                        {"gemma3:1b", 4096, 50'000'000, 100'000'000},
                        {"qwen3-vl:235b-cloud", 32768, 500'000'000, 1'500'000'000},
                        {"deepseek-v3.1:671b-cloud", 65536, 350'000'000, 900'000'000},
                        {"qwen/qwen3-coder:free", 32768, 0, 0}};
    ASSERT_EQ(built.snapshot->models.size(), std::size(rows));
    for (const Row& row : rows) {
        auto model = built.snapshot->find(row.id);
        ASSERT_NE(model, nullptr) << row.id;
        EXPECT_EQ(model->context_length, row.context) << row.id;
        EXPECT_EQ(model->prices.input_per_m.value, row.input) << row.id;
        EXPECT_EQ(model->prices.output_per_m.value, row.output) << row.id;
    }
}

// Sections for models that nobody knows the price of must load as they are, and say what is missing.
TEST(Presets, FoundModelsBecomeSectionsThatLoad) {
    EXPECT_EQ(
        routed(section_of({"org/own", 8192, 1024, "embeddings"}), "up"),
        "[[model]]\nid = \"org/own\"\ncontext_length = 8192\nmax_output_tokens = 1024\n"
        "endpoints = [\"embeddings\"]\n# Set its prices (USD per million tokens); without them it is free:\n"
        "# price_input_per_m = \"0.20\"\n# price_output_per_m = \"0.60\"\n"
        "routes = [{ provider = \"up\" }]\n");
    std::string text = one_provider;
    for (const char* id : {"org/own", "qwen3:latest"}) text += routed(section_of({id, 0, 0, "chat"}), "up");
    Built built = build_text(text);
    ASSERT_THAT(built.problems, IsEmpty());
    EXPECT_EQ(built.snapshot->find("org/own")->prices.input_per_m, Nanos{});
    EXPECT_EQ(built.snapshot->find("qwen3:latest")->prices.input_per_m, Nanos{200'000'000});
    auto taken = taken_in(text);
    ASSERT_TRUE(taken.has_value());
    EXPECT_THAT(taken->models, ElementsAre("org/own", "qwen3:latest"));
    EXPECT_THAT(taken->providers, ElementsAre("up"));
    EXPECT_THAT(taken_in("a = = b").error().message, HasSubstr("line 1"));
    EXPECT_TRUE(taken_in("model = 5").has_value());
}

struct PageCase {
    ProviderKind kind;
    const char* body;
    std::vector<std::string> expected;  // "id context output endpoint"
    const char* next = "";
};

// Providers' lists as their documentation shows them; what cannot be read is refused, not half taken.
TEST(Discovery, ReadsEveryKindOfList) {
    const PageCase cases[] = {
        {ProviderKind::openai, R"({"object":"list","data":[]})", {}},
        {ProviderKind::openai,
         R"({"data":[{"id":"a","max_model_len":4096},{"id":"b","context_length":8,"owned_by":"x"},
             {"id":"c","meta":{"n_ctx_train":32768}},{"id":"bad id"},{"id":7},
             {"id":"bge-m3"},{"id":"my-reranker"},
             {"id":"d","context_size":-5,"max_output_tokens":99999999999999}]})",
         {"a 4096 0 chat", "b 8 0 chat", "c 32768 0 chat", "bge-m3 0 0 embeddings", "my-reranker 0 0 rerank",
          "d 0 1000000000 chat"}},
        {ProviderKind::ollama,
         R"({"models":[{"name":"llama3:8b","model":"llama3:8b"}]})",
         {"llama3:8b 0 0 chat"}},
        {ProviderKind::anthropic,
         R"({"data":[{"id":"claude-x","max_input_tokens":200000,"max_tokens":64000}],"has_more":true,
             "last_id":"claude-x"})",
         {"claude-x 200000 64000 chat"},
         "&after_id=claude-x"},
        {ProviderKind::gemini,
         R"({"models":[{"name":"models/g","inputTokenLimit":1048576,"outputTokenLimit":8192}],
             "nextPageToken":"abc_-"})",
         {"g 1048576 8192 chat"},
         "&pageToken=abc_-"},
    };
    for (const PageCase& one : cases) {
        auto page = read_page(one.kind, one.body);
        ASSERT_TRUE(page.has_value()) << one.body;
        std::vector<std::string> found;
        for (const FoundModel& model : page->models)
            found.push_back(model.id + " " + std::to_string(model.context_length) + " " +
                            std::to_string(model.max_output_tokens) + " " + model.endpoint);
        EXPECT_EQ(found, one.expected) << one.body;
        EXPECT_EQ(page->next, one.next);
    }
    for (const char* bad : {"", "[]", "{}", R"({"data":{}})", R"({"data":[7]})", R"({"data":null})"})
        EXPECT_FALSE(read_page(ProviderKind::openai, bad).has_value()) << bad;
    for (const char* bad : {R"({"data":[]})", R"({"models":[],"nextPageToken":"a b\r\nx: y"})"})
        EXPECT_FALSE(read_page(ProviderKind::gemini, bad).has_value()) << bad;
}

}  // namespace
}  // namespace nebula::catalog
