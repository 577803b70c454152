#include "catalog/secret_box.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

namespace nebula::catalog {
namespace {

using testing::HasSubstr;
using testing::Not;

class SecretBoxTest : public testing::Test {
   protected:
    SecretBoxTest() { std::filesystem::create_directories(dir); }
    ~SecretBoxTest() override { std::filesystem::remove_all(dir); }
    std::string path(const char* name) const { return (dir / name).string(); }

    std::filesystem::path dir =
        std::filesystem::temp_directory_path() / ("nebula-box-" + std::to_string(::getpid()));
};

// What is sealed must be unreadable without the file, and no row may pass for another.
TEST_F(SecretBoxTest, OpensOnlyWhatItSealedAndWhatFor) {
    auto box = SecretBox::from_file(path("a"), true);
    ASSERT_TRUE(box.has_value()) << box.error().message;
    std::string sealed = box->seal(Secret("sk-of-the-customer"), "row 1");
    EXPECT_THAT(sealed, Not(HasSubstr("sk-of")));
    EXPECT_NE(sealed, box->seal(Secret("sk-of-the-customer"), "row 1")) << "a nonce of its own each time";
    EXPECT_EQ(box->open(sealed, "row 1")->reveal(), "sk-of-the-customer");
    EXPECT_FALSE(box->open(sealed, "row 2").has_value());
    auto again = SecretBox::from_file(path("a"), true);
    EXPECT_EQ(again->open(sealed, "row 1")->reveal(), "sk-of-the-customer") << "the file is kept";
    auto other = SecretBox::from_file(path("b"), true);
    EXPECT_FALSE(other->open(sealed, "row 1").has_value());
    for (std::size_t at = 0; at < sealed.size(); ++at) {
        std::string changed = sealed;
        changed[at] = changed[at] == '0' ? '1' : '0';
        EXPECT_FALSE(box->open(changed, "row 1").has_value()) << at;
    }
    for (std::string_view bad : {"", "00", "zz", "0"}) EXPECT_FALSE(box->open(bad, "row 1").has_value());
    EXPECT_EQ(box->open(box->seal(Secret(""), "x"), "x")->reveal(), "");
}

// A key that others can read seals nothing; one that is lost must not be replaced in silence.
TEST_F(SecretBoxTest, TheKeyFileIsPrivateAndNeverReplaced) {
    EXPECT_THAT(SecretBox::from_file(path("none"), false).error().message, HasSubstr("cannot be read"));
    EXPECT_FALSE(std::filesystem::exists(path("none")));
    ASSERT_TRUE(SecretBox::from_file(path("key"), true).has_value());
    struct stat info{};
    ASSERT_EQ(::stat(path("key").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777u, 0600u);
    EXPECT_EQ(info.st_size, 65);
    std::ofstream(path("short")) << "abcd\n";
    EXPECT_THAT(SecretBox::from_file(path("short"), true).error().message, HasSubstr("32 bytes in hex"));
    EXPECT_THAT(SecretBox::from_file(path("no/such/folder"), true).error().message,
                HasSubstr("cannot be written"));
}

// Several nodes may make the first key at the same moment: all must end with the same one.
TEST_F(SecretBoxTest, WhoComesSecondReadsTheFirstOnesKey) {
    std::vector<std::string> sealed(4);
    {
        std::vector<std::jthread> threads;
        for (std::string& one : sealed)
            threads.emplace_back([&] {
                if (auto box = SecretBox::from_file(path("shared"), true)) one = box->seal(Secret("x"), "c");
            });
    }
    auto box = SecretBox::from_file(path("shared"), false);
    ASSERT_TRUE(box.has_value());
    for (const std::string& one : sealed) EXPECT_TRUE(box->open(one, "c").has_value());
}

}  // namespace
}  // namespace nebula::catalog
