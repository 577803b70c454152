#include "records/entry.hpp"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

namespace nebula::records {
namespace {

// What is left out to save bytes must come back as what it was.
TEST(Expanded, TellsWholeNamesAndUsualValues) {
    auto told = boost::json::parse(expanded(R"({"i":"req_1","m":"m","r":"p","n":7,"o":3,"q":13,"l":500})"));
    EXPECT_EQ(told,
              boost::json::parse(R"({"id":"req_1","api":"openai","endpoint":"chat","model":"m","provider":"p",
        "status":200,"outcome":"completed","streamed":false,"input":7,"cached":0,"output":3,"reasoning":0,
        "tokenizer":"provider","charge":13,"byok":false,"latency_us":500,
        "attempts":[{"provider":"p","status":200,"latency_us":500}]})"));
}

// A request that was refused has no tokens, no charge and no outcome, not even usual ones.
TEST(Expanded, ARefusalStaysOne) {
    auto told =
        boost::json::parse(expanded(R"({"i":"req_1","a":"ollama","s":402,"e":"payment_required","d":true})"));
    EXPECT_EQ(told, boost::json::parse(R"({"id":"req_1","api":"ollama","endpoint":"chat","status":402,
        "error":"payment_required","streamed":true})"));
}

}  // namespace
}  // namespace nebula::records
