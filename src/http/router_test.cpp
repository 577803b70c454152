#include <gtest/gtest.h>

#include "http/http.hpp"

namespace nebula::http {
namespace {

Response one(const Error&, RequestId) { return {.status = 1, .body = ""}; }
Response two(const Error&, RequestId) { return {.status = 2, .body = ""}; }
Response three(const Error&, RequestId) { return {.status = 3, .body = ""}; }

Handler nothing() {
    return [](Exchange&) -> Async<void> { co_return; };
}

Router make_router() {
    Router router;
    router.add(Method::get, "/", one, nothing());
    router.add(Method::get, "/v1/models", one, nothing());
    router.add(Method::get, "/v1/models/{id*}", two, nothing());
    router.add(Method::post, "/v1/models/special", three, nothing());
    router.add(Method::get, "/a/{x}/c/{y}", one, nothing());
    router.add(Method::get, "/a/b/{z}", two, nothing());
    router.add(Method::del, "/a/{x}", three, nothing());
    router.set_dialect("/", one);
    router.set_dialect("/v1", two);
    router.set_dialect("/v1/models", three);
    return router;
}

// Which handler serves a path must not depend on the order in which routes were added.
TEST(Router, PrefersLiteralsAndFallsBackToParameters) {
    Router router = make_router();
    auto match = router.match(Method::get, "/v1/models/Qwen/Qwen3%3A32B");
    ASSERT_NE(match.handler, nullptr);
    ASSERT_EQ(match.params.size(), 1u);
    EXPECT_EQ(match.params[0].first, "id");
    EXPECT_EQ(match.params[0].second, "Qwen/Qwen3:32B");
    EXPECT_EQ(router.match(Method::post, "/v1/models/special").dialect, three);
    // The literal has no GET; the pattern beside it has.
    EXPECT_EQ(router.match(Method::get, "/v1/models/special").dialect, two);
    auto deep = router.match(Method::get, "/a/b/c/d");
    ASSERT_NE(deep.handler, nullptr);
    ASSERT_EQ(deep.params.size(), 2u);
    EXPECT_EQ(deep.params[0].second, "b");
    EXPECT_EQ(deep.params[1].second, "d");
    EXPECT_EQ(router.match(Method::get, "/a/b/c").params[0].first, "z");
    EXPECT_NE(router.match(Method::head, "/v1/models").handler, nullptr);
    EXPECT_NE(router.match(Method::get, "/").handler, nullptr);
}

// Parameters are one non-empty segment, decoded once; broken escapes stay.
TEST(Router, DecodesParameters) {
    Router router = make_router();
    EXPECT_EQ(router.match(Method::del, "/a/%2e%2F%zz%4").params[0].second, "./%zz%4");
    EXPECT_EQ(router.match(Method::del, "/a/%252e").params[0].second, "%2e");
    EXPECT_EQ(router.match(Method::del, "/a/").handler, nullptr);
    EXPECT_EQ(router.match(Method::del, "/a/b/").handler, nullptr);
    EXPECT_EQ(router.match(Method::get, "/v1/models/").handler, nullptr);
    EXPECT_EQ(router.match(Method::get, "*").handler, nullptr);
}

// 404 and 405 differ, and each area of the API answers in its own dialect.
TEST(Router, TellsUnknownPathsFromUnknownMethods) {
    Router router = make_router();
    auto match = router.match(Method::del, "/v1/models/special");
    EXPECT_EQ(match.handler, nullptr);
    EXPECT_TRUE(match.path_known);
    EXPECT_EQ(match.allow, "GET, HEAD, POST, OPTIONS");
    EXPECT_EQ(match.dialect, three);
    EXPECT_FALSE(router.match(Method::get, "/v1/other").path_known);
    EXPECT_EQ(router.match(Method::get, "/v1/other").dialect, two);
    EXPECT_EQ(router.match(Method::get, "/v1").dialect, two);
    EXPECT_EQ(router.match(Method::get, "/v12").dialect, one);
    Router bare;
    Response plain = bare.match(Method::get, "/x").dialect(Error{Code::not_found, "gone"}, RequestId{1});
    EXPECT_EQ(plain.status, 404);
}

// The documentation and the tests of access rules walk this list.
TEST(Router, ListsRoutes) {
    std::vector<std::string> expected = {"DELETE /a/{x}",          "GET /",          "GET /a/b/{z}",
                                         "GET /a/{x}/c/{y}",       "GET /v1/models", "GET /v1/models/{id*}",
                                         "POST /v1/models/special"};
    EXPECT_EQ(make_router().routes(), expected);
    Router router = make_router();
    EXPECT_ANY_THROW(router.add(Method::get, "/v1/models", one, nothing()));
    EXPECT_ANY_THROW(router.add(Method::get, "/x/{rest*}/y", one, nothing()));
}

}  // namespace
}  // namespace nebula::http
