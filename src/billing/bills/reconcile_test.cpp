// Providers' exports as they come, and where the line between equal and different is.
#include "billing/bills/reconcile.hpp"

#include <gtest/gtest.h>

namespace nebula::billing::bills {
namespace {

std::string text_of(const UseByDay& use) {
    std::string text;
    for (const auto& [key, sum] : use)
        text += key.first + " " + key.second + " " + std::to_string(sum.requests) + "/" +
                std::to_string(sum.input) + "/" + std::to_string(sum.output) + ";";
    return text;
}

// Why: every provider exports something else; a row that is read wrongly hides a loss.
TEST(ProviderReport, IsReadFromCsvAndJsonLines) {
    struct Case {
        const char* text;
        ReportColumns columns;
        const char* expected;  // sums, or the column that is refused
    };
    const ReportColumns usual;
    const ReportColumns own{"day", "name", "in", "out", "calls"};
    const std::vector<Case> cases = {
        {"date,model,input_tokens,output_tokens,requests\n2026-11-01,a,10,2,1\n2026-11-01,a,5,1,2\n", usual,
         "2026-11-01 a 3/15/3;"},
        {"\xEF\xBB\xBF"
         "requests,output_tokens, input_tokens "
         ",model,timestamp\r\n1,2,3,\"x,\"\"y\"\"\",2026-11-01T23:59:59-01:00\r\n\r\n",
         usual, "2026-11-02 x,\"y\" 1/3/2;"},
        {"day,name,in,out,calls\n1793491200,m,1,1,1", own, "2026-11-01 m 1/1/1;"},
        {"{\"date\":\"2026-11-01\",\"model\":\"a\",\"input_tokens\":7,\"output_tokens\":\"8\",\"requests\":9}"
         "\n\n"
         "{\"timestamp\":1793577600,\"model\":\"b\",\"input_tokens\":1,\"output_tokens\":2}\n",
         usual, "2026-11-01 a 9/7/8;2026-11-02 b 0/1/2;"},
        {"", usual, ""},
        {"date,model,input_tokens,output_tokens\n", usual, ""},
        {"date,model,input_tokens,output_tokens\nyesterday,a,1,1\n", usual, "!date"},
        {"date,model,input_tokens,output_tokens\n2026-11-01,,1,1\n", usual, "!model"},
        {"date,model,input_tokens,output_tokens\n2026-11-01,a,1.5,1\n", usual, "!input_tokens"},
        {"date,model,input_tokens,output_tokens\n2026-11-01,a,1,-1\n", usual, "!output_tokens"},
        {"date,model,input_tokens\n2026-11-01,a,1\n", usual, "!output_tokens"},
        {"date,model,input_tokens,output_tokens\n2026-11-01,a,1,1\n", own, "!day"},
        {"{\"date\":\"2026-11-01\"\n", usual, "!"},
    };
    for (const Case& one : cases) {
        auto report = read_report(one.text, one.columns);
        EXPECT_EQ(report ? text_of(report->use) : "!" + report.error().param, one.expected) << one.text;
    }
}

// Why: an export without a count of requests must not make every day look wrong.
TEST(ProviderReport, WithoutRequestsOnlyTokensAreCompared) {
    auto report = read_report("date,model,input_tokens,output_tokens\n2026-11-01,a,10,2\n", {}).value();
    EXPECT_FALSE(report.has_requests);
    EXPECT_TRUE(differences({{{"2026-11-01", "a"}, {5, 10, 2}}}, report, {}).at(0).is_within);
}

// Why: the tolerance decides whether an operator is told; its edge must be exact.
TEST(ProviderReport, DifferencesAreWithinTheToleranceOrNot) {
    struct Case {
        DayUse ours, theirs;
        std::int64_t percent_nanos;
        bool expected;
    };
    for (const Case& one : std::vector<Case>{
             {{1, 100, 50}, {1, 100, 50}, 0, true},
             {{1, 101, 50}, {1, 100, 50}, 0, false},
             {{1, 101, 50}, {1, 100, 50}, 1'000'000'000, true},
             {{1, 99, 50}, {1, 100, 50}, 1'000'000'000, true},
             {{1, 102, 50}, {1, 100, 50}, 1'000'000'000, false},
             {{1, 100, 51}, {1, 100, 50}, 1'999'999'999, false},
             {{2, 100, 50}, {1, 100, 50}, 1'000'000'000, false},
             {{}, {0, 0, 0}, 0, true},
             {{1, 1, 0}, {}, 100'000'000'000, false},
             {{1'000'000'000'000'000, 1, 1}, {1'000'000'000'000'000, 1, 1}, 100'000'000'000, true}}) {
        ProviderReport theirs{{{{"2026-11-01", "a"}, one.theirs}}, true};
        auto all = differences({{{"2026-11-01", "a"}, one.ours}}, theirs, Nanos{one.percent_nanos});
        ASSERT_EQ(all.size(), 1u);
        EXPECT_EQ(all[0].is_within, one.expected) << one.ours.requests << "/" << one.ours.input << "/"
                                                  << one.ours.output << " at " << one.percent_nanos;
    }
    ProviderReport theirs{{{{"2026-11-02", "b"}, {1, 1, 1}}}, true};
    auto all = differences({{{"2026-11-01", "a"}, {1, 1, 1}}}, theirs, {});
    ASSERT_EQ(all.size(), 2u);
    EXPECT_FALSE(all[0].is_within || all[1].is_within) << "known to one side alone";
    EXPECT_EQ(all[1].theirs.input, 1);
    EXPECT_EQ(all[1].ours, DayUse{});
    EXPECT_EQ(window_of(theirs).to - window_of(theirs).from, std::chrono::hours(24));
}

}  // namespace
}  // namespace nebula::billing::bills
