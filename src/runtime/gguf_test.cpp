#include "runtime/gguf.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/log.hpp"
#include "runtime/model_files.hpp"
#include "runtime/test_support.hpp"

namespace nebula::runtime {
namespace {

using test::GgufBuilder;

// The facts that the catalog and the memory budget need.
TEST(Gguf, ReadsTheFacts) {
    std::string file = test::small_model(4096);
    auto facts = read_gguf(file, file.size());
    ASSERT_TRUE(facts) << facts.error().message;
    EXPECT_EQ(facts->architecture, "llama");
    EXPECT_EQ(facts->name, "Test");
    EXPECT_EQ(facts->context_length, 4096);
    EXPECT_EQ(facts->kv_bytes_per_token, 0);
}

// The order of values is free, numbers come in several widths, and other architectures' numbers do not count.
TEST(Gguf, ReadsValuesInAnyOrderAndWidth) {
    std::string file = GgufBuilder()
                           .head(1, 7, 2)
                           .key("qwen3.context_length", 10)
                           .raw<std::uint64_t>(32768)
                           .number_value("llama.context_length", 7)
                           .key("qwen3.block_count", 2)
                           .raw<std::uint16_t>(28)
                           .number_value("qwen3.embedding_length", 1024)
                           .number_value("qwen3.attention.head_count", 16)
                           .key("qwen3.attention.head_count_kv", 0)
                           .raw<std::uint8_t>(8)
                           .text_value("general.architecture", "qwen3")
                           .tensor("one", 0)
                           .data(64)
                           .done();
    auto facts = read_gguf(file, file.size());
    ASSERT_TRUE(facts) << facts.error().message;
    EXPECT_EQ(facts->context_length, 32768);
    EXPECT_EQ(facts->kv_bytes_per_token, 28 * 64 * 8 * 4);
}

// Each row is a lie that some damaged or hostile file tells.
TEST(Gguf, RefusesDamage) {
    auto values = [](std::uint64_t count) { return GgufBuilder().head(1, count); };
    auto with_arch = [](std::uint64_t count) {
        return GgufBuilder().head(1, count).text_value("general.architecture", "llama");
    };
    constexpr std::uint64_t huge = ~std::uint64_t{0};
    struct Row {
        const char* what;
        std::string file;
    };
    const Row rows[] = {
        {"empty", ""},
        {"magic", "GGML" + test::small_model().substr(4)},
        {"version 1", GgufBuilder().head(0, 0, 1).data(64).done()},
        {"version 4", GgufBuilder().head(0, 0, 4).data(64).done()},
        {"big endian", GgufBuilder().head(0, 0, 0x03000000).data(64).done()},
        {"count of values", values(huge).data(64).done()},
        {"count of tensors", GgufBuilder().head(huge, 0).data(64).done()},
        {"length of key", values(1).raw(huge).data(64).done()},
        {"length of text", values(1).key("a", 8).raw(huge).data(64).done()},
        {"empty key", values(1).key("", 4).raw<std::uint32_t>(1).data(64).done()},
        {"unknown type", values(1).key("a", 13).data(64).done()},
        {"list of unknown type",
         values(1).key("a", 9).raw<std::uint32_t>(77).raw<std::uint64_t>(1).data(64).done()},
        {"list too long", values(1).key("a", 9).raw<std::uint32_t>(4).raw(huge / 4).data(64).done()},
        {"list of texts too long", values(1).key("a", 9).raw<std::uint32_t>(8).raw(huge).data(64).done()},
        {"twice", with_arch(2).text_value("general.architecture", "llama").tensor("t", 0).data(64).done()},
        {"no architecture", values(1).number_value("a", 1).tensor("t", 0).data(64).done()},
        {"bad architecture",
         values(1).text_value("general.architecture", "a b").tensor("t", 0).data(64).done()},
        {"negative context",
         with_arch(2).key("llama.context_length", 5).raw<std::int32_t>(-1).tensor("t", 0).data(64).done()},
        {"context as text",
         with_arch(2).key("llama.context_length", 6).raw(1.5F).tensor("t", 0).data(64).done()},
        {"absurd context",
         with_arch(2).key("llama.context_length", 10).raw(huge).tensor("t", 0).data(64).done()},
        {"absurd width",
         with_arch(2).number_value("llama.embedding_length", 1U << 30).tensor("t", 0).data(64).done()},
        {"no tensors", GgufBuilder().head(0, 1).text_value("general.architecture", "llama").data(64).done()},
        {"dimensions", with_arch(1).text("t").raw<std::uint32_t>(1'000'000).data(64).done()},
        {"tensor behind the end", with_arch(1).tensor("t", 64).data(64).done()},
        {"tensor far behind the end", with_arch(1).tensor("t", huge).data(64).done()},
        {"alignment 3", with_arch(2).number_value("general.alignment", 3).tensor("t", 0).data(64).done()},
        {"alignment 0", with_arch(2).number_value("general.alignment", 0).tensor("t", 0).data(64).done()},
    };
    for (const Row& row : rows) {
        auto facts = read_gguf(row.file, row.file.size());
        ASSERT_FALSE(facts) << row.what;
        EXPECT_EQ(facts.error().code, Code::invalid_request) << row.what;
        EXPECT_NE(facts.error().detail, need_more) << row.what;
    }
}

// Lists within lists must not exhaust the stack.
TEST(Gguf, RefusesDeepNesting) {
    GgufBuilder builder;
    builder.head(1, 1).key("a", 9);
    for (int i = 0; i < 10'000; ++i) builder.raw<std::uint32_t>(9).raw<std::uint64_t>(1);
    std::string file = builder.done();
    EXPECT_FALSE(read_gguf(file, file.size()));
}

// A copy in progress is the commonest damage: no prefix may pass, and none may be read beyond its end.
TEST(Gguf, RefusesEveryCutCopy) {
    const std::string whole = test::small_model();
    for (std::size_t length = 0; length + 128 < whole.size(); ++length) {
        std::string cut = whole.substr(0, length);  // its own memory, so that sanitizers see a read behind it
        ASSERT_FALSE(read_gguf(cut, cut.size())) << length;
        auto partial = read_gguf(cut, whole.size());
        if (!partial && partial.error().detail == need_more) continue;
        ASSERT_TRUE(partial) << length << ": only the data may be missing, " << partial.error().message;
    }
}

// Whatever bytes change, the reader answers; it never crashes.
TEST(Gguf, SurvivesRandomDamage) {
    const std::string whole = test::small_model();
    std::mt19937 random(7);
    int refused = 0;
    for (int i = 0; i < 20'000; ++i) {
        std::string damaged = whole;
        for (unsigned changes = random() % 4 + 1; changes > 0; --changes)
            damaged[random() % damaged.size()] = static_cast<char>(random());
        if (!read_gguf(damaged, damaged.size())) ++refused;
    }
    EXPECT_GT(refused, 1'000);
}

// Vocabularies make headers of many MiB: the file is read in growing pieces.
TEST(ModelFiles, ReadsALongHeader) {
    test::TempDir directory;
    GgufBuilder builder;
    builder.head(1, 3).text_value("general.architecture", "llama").key("tokens", 9);
    builder.raw<std::uint32_t>(8).raw<std::uint64_t>(300'000);
    for (int i = 0; i < 300'000; ++i) builder.text("token");
    builder.number_value("llama.context_length", 99).tensor("t", 0).data(64);
    test::write_file(directory / "long.gguf", builder.done());
    auto file = read_model_file(directory / "long.gguf");
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->id, "long");
    EXPECT_EQ(file->context_length, 99);
    EXPECT_EQ(file->file_bytes, static_cast<std::int64_t>(builder.done().size()));
    test::write_file(directory / "cut.gguf", std::string_view(builder.done()).substr(0, 2 << 20));
    EXPECT_FALSE(read_model_file(directory / "cut.gguf"));
}

// What is advertised is what the runner gets, so that no accepted prompt fails there.
TEST(ModelFiles, LimitsTheContext) {
    EXPECT_EQ(served_context(0, 512), 512);
    EXPECT_EQ(served_context(0, 131'072), 8'192);
    EXPECT_EQ(served_context(32'768, 131'072), 32'768);
    EXPECT_EQ(served_context(32'768, 512), 512);
    EXPECT_EQ(served_context(0, 0), 4'096);
    EXPECT_EQ(served_context(100, 0), 100);
}

// One bad file in the directory must not hide the good ones.
TEST(ModelFiles, FindsTheGoodOnes) {
    log::set_level(log::Level::off);
    test::TempDir directory;
    test::write_file(directory / "b.gguf", test::small_model());
    test::write_file(directory / "a.v1:x.gguf", test::small_model());
    test::write_file(directory / "big-00001-of-00002.gguf", test::small_model());
    test::write_file(directory / "big-00002-of-00002.gguf", test::small_model());
    test::write_file(directory / "broken.gguf", "GGUF");
    test::write_file(directory / "notes.txt", "hello");
    std::filesystem::create_directory(directory / "folder.gguf");
    std::vector<std::string> ids;
    for (const auto& found : find_files(directory.path())) ids.push_back(found.file.id);
    EXPECT_THAT(ids, testing::ElementsAre("a.v1:x", "b", "big-00001-of-00002"));
    EXPECT_TRUE(find_files(directory / "missing").empty());
    EXPECT_FALSE(read_model_file(directory / "missing.gguf"));
    log::set_level(log::Level::info);
}

}  // namespace
}  // namespace nebula::runtime
