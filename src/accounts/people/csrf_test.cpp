#include "accounts/people/csrf.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace nebula::accounts {
namespace {

bool from_this_site(std::vector<http::Header> headers) {
    headers.push_back({"host", "nebula.test:8080"});
    http::RequestHead head;
    head.method = http::Method::post;
    head.headers = headers;
    return is_from_this_site(head);
}

// A cookie is sent along with other sites' requests; this table decides which of them may change something.
TEST(Csrf, DecidesByFetchSiteThenOriginThenContentType) {
    const http::Header json{"content-type", "application/json"};
    const http::Header form{"content-type", "application/x-www-form-urlencoded"};
    const http::Header own{"origin", "http://nebula.test:8080"};
    EXPECT_TRUE(from_this_site({{"sec-fetch-site", "same-origin"}, form}));
    EXPECT_TRUE(from_this_site({{"sec-fetch-site", "none"}, form}));
    EXPECT_FALSE(from_this_site({{"sec-fetch-site", "cross-site"}, json}));
    EXPECT_FALSE(from_this_site({{"sec-fetch-site", "same-site"}, json, own}));
    EXPECT_FALSE(from_this_site({{"sec-fetch-site", ""}, json}));

    EXPECT_TRUE(from_this_site({own, form}));
    EXPECT_TRUE(from_this_site({{"origin", "https://nebula.test:8080"}}));
    EXPECT_FALSE(from_this_site({{"origin", "http://nebula.test"}, json}));
    EXPECT_FALSE(from_this_site({{"origin", "http://nebula.test:8080.evil.test"}, json}));
    EXPECT_FALSE(from_this_site({{"origin", "null"}, json}));
    EXPECT_FALSE(from_this_site({{"origin", ""}, json}));

    EXPECT_TRUE(from_this_site({json}));
    EXPECT_TRUE(from_this_site({{"content-type", "application/json; charset=utf-8"}}));
    EXPECT_FALSE(from_this_site({form}));
    EXPECT_FALSE(from_this_site({{"content-type", "Text/Plain; x=application/json"}}));
    EXPECT_FALSE(from_this_site({{"content-type", "multipart/form-data; boundary=x"}}));
    EXPECT_FALSE(from_this_site({{"content-type", "application/json, text/plain"}}));
    EXPECT_FALSE(from_this_site({{"content-type", ""}}));
    EXPECT_FALSE(from_this_site({}));
}

}  // namespace
}  // namespace nebula::accounts
