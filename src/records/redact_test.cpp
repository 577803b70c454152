#include "records/redact.hpp"

#include <gtest/gtest.h>

namespace nebula::records {
namespace {

// What an operator named must not be kept, however deep it stands; and what cannot be searched is not kept at
// all.
TEST(Redacted, MembersAreReplacedAtAnyDepth) {
    EXPECT_EQ(redacted(R"({"user":"u","a":[{"b":{"user":{"name":"n"}}}],"c":1})", {"user"}),
              R"({"user":"[redacted]","a":[{"b":{"user":"[redacted]"}}],"c":1})");
    EXPECT_EQ(redacted("{\"a\":1}\n{\"user\":2}\n", {"user"}), R"([{"a":1},{"user":"[redacted]"}])");
    EXPECT_EQ(redacted("not json", {"user"}), "null");
    EXPECT_EQ(redacted("", {"user"}), "null");
}

}  // namespace
}  // namespace nebula::records
