// The export as a client gets it: piece by piece, whole or visibly broken.
#include "billing/bills/bills_fixture.hpp"

namespace nebula::billing::bills {
namespace {

// Keeps what a handler sends.
class KeptExchange final : public http::Exchange {
   public:
    explicit KeptExchange(std::string query) : query_(std::move(query)) { head_.query = query_; }
    const http::RequestHead& head() const override { return head_; }
    RequestId id() const override { return {}; }
    std::string_view remote_ip() const override { return "127.0.0.1"; }
    IoThread& thread() override { throw std::logic_error("no thread in this test"); }
    Ticks started() const override { return {}; }
    std::string_view path_param(std::string_view) const override { return {}; }
    Async<Result<std::string_view>> body(std::size_t) override { co_return std::string_view(); }
    void add_header(std::string_view name, std::string_view value) override {
        headers += std::string(name) + ": " + std::string(value) + "\n";
    }
    Async<Result<void>> respond(int code, std::string_view type, std::string_view text) override {
        status = code;
        content_type = type;
        sent = text;
        co_return Result<void>{};
    }
    Async<Result<void>> respond_error(Error error) override {
        status = http::status_of(error.code);
        co_return Result<void>{};
    }
    void begin_stream(int code, std::string_view type) override {
        status = code;
        content_type = type;
    }
    Async<Result<void>> write(std::string_view piece) override {
        ++pieces;
        sent += piece;
        if (pieces == leaves_after) co_return fail(Code::cancelled, "the client left");
        co_return Result<void>{};
    }
    Async<Result<void>> end(std::string_view last) override {
        sent += last;
        has_ended = true;
        co_return Result<void>{};
    }
    void abort(std::string_view) override {}
    bool has_begun() const override { return status != 0; }
    void on_gone(std::move_only_function<void()>) override {}
    bool is_gone() const override { return false; }

    int status = 0;
    int pieces = 0;
    int leaves_after = 0;
    bool has_ended = false;
    std::string content_type, sent, headers;

   private:
    std::string query_;
    http::RequestHead head_;
};

class BillExport : public BillsFixture {
   public:
    void add_year() {
        for (int month = 1; month <= 9; ++month)
            for (const char* day : {"01", "15", "28"})
                add_use(account, {.hour = "2025-0" + std::to_string(month) + "-" + day + "T05:00:00Z",
                                  .model = "=cmd()",
                                  .charge = month});
    }
    static std::int64_t lines(const std::string& text) { return std::ranges::count(text, '\n'); }
};
NEBULA_BOTH_ENGINES(BillExport);

// Why: a year by hours is too much for memory at once; pieces must join without a seam, whatever the
// grouping.
TEST_P(BillExport, PiecesJoinToTheWholeYear) {
    add_year();
    for (const char* group : {"hour", "day", "week", "month"}) {
        KeptExchange exchange("from=2024-12-31&to=2025-12-30&group=" + std::string(group));
        sync_wait(pages->export_csv(exchange, caller(account)));
        EXPECT_EQ(exchange.status, 200);
        EXPECT_TRUE(exchange.has_ended);
        EXPECT_EQ(exchange.content_type, "text/csv; charset=utf-8");
        EXPECT_TRUE(exchange.headers.contains("usage.csv"));
        // Five times the 28th and the 1st share a week.
        std::int64_t periods = group[0] == 'm' ? 9 : group[0] == 'w' ? 22 : 27;
        EXPECT_EQ(lines(exchange.sent), 1 + periods) << exchange.sent;
        EXPECT_TRUE(exchange.sent.starts_with("start,product,model,"));
        EXPECT_TRUE(exchange.sent.contains(R"x(,llm,"'=cmd()",)x")) << exchange.sent;
        EXPECT_GT(exchange.pieces, 5);
    }
}

// Why: an empty window is an answer, a wrong one an error, and a client that left ends the work.
TEST_P(BillExport, EmptyWrongAndAbandonedExportsEndCleanly) {
    add_year();
    KeptExchange empty("from=2024-01-01&to=2024-01-01");
    sync_wait(pages->export_csv(empty, caller(account)));
    EXPECT_EQ(empty.status, 200);
    EXPECT_EQ(lines(empty.sent), 1);
    KeptExchange wrong("from=2024-01-01&to=2025-12-31");
    sync_wait(pages->export_csv(wrong, caller(account)));
    EXPECT_EQ(wrong.status, 400);
    KeptExchange left("from=2024-12-31&to=2025-12-30");
    left.leaves_after = 2;
    sync_wait(pages->export_csv(left, caller(account)));
    EXPECT_EQ(left.pieces, 2);
    EXPECT_FALSE(left.has_ended);
}

}  // namespace
}  // namespace nebula::billing::bills
