#include "store/store.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>

namespace nebula::store {
namespace {

Result<std::unique_ptr<Db>> open(const std::string& url, metrics::Registry& metrics) {
    StoreSettings settings;
    settings.url = url;
    return Db::open(settings, metrics);
}

// The first thing an operator gets wrong is the URL: the answer must name the setting and the forms.
TEST(StoreUrl, IsRefusedWhenItNamesNoEngine) {
    metrics::Registry metrics;
    for (const char* url :
         {"", "sqlite:", "mysql://root@localhost/db", "/var/lib/nebula.db", "SQLITE:./x.db"}) {
        auto db = open(url, metrics);
        ASSERT_FALSE(db) << url;
        EXPECT_EQ(db.error().code, Code::invalid_request);
        EXPECT_EQ(db.error().param, "store.url");
    }
}

// A server that is not there is our operator's problem, not a defect: an error with the reason in the log's
// part.
TEST(StoreUrl, ReportsADatabaseThatCannotBeReached) {
    metrics::Registry metrics;
    for (const char* url : {"postgres://nobody@/none?host=/nonexistent", "sqlite:/proc/nowhere/nebula.db"}) {
        auto db = open(url, metrics);
        ASSERT_FALSE(db) << url;
        EXPECT_EQ(db.error().code, Code::internal);
        EXPECT_FALSE(db.error().detail.empty());
    }
}

// Balances and key hashes lie in this file: other users of the machine must not read it.
TEST(SqliteFile, IsMadeForItsOwnerAlone) {
    std::string base = (std::filesystem::temp_directory_path() / "nebula-test-XXXXXX").string();
    ASSERT_NE(mkdtemp(base.data()), nullptr);
    metrics::Registry metrics;
    auto db = open("sqlite:" + base + "/deep/data/nebula.db", metrics);
    ASSERT_TRUE(db) << db.error().detail;
    ASSERT_TRUE((*db)->migrate({}));
    struct stat info;
    for (const char* folder : {"/deep", "/deep/data"}) {
        ASSERT_EQ(stat((base + folder).c_str(), &info), 0);
        EXPECT_EQ(info.st_mode & 0777, 0700u);
    }
    for (const char* suffix : {"", "-wal", "-shm"}) {
        ASSERT_EQ(stat((base + "/deep/data/nebula.db" + suffix).c_str(), &info), 0) << suffix;
        EXPECT_EQ(info.st_mode & 0077, 0u) << suffix;
    }
    db->reset();
    std::filesystem::remove_all(base);
}

}  // namespace
}  // namespace nebula::store
