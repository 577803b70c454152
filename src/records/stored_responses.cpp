#include "records/stored_responses.hpp"

#include <algorithm>

#include "records/deflate.hpp"

namespace nebula::records {
namespace {

using store::Blob;
using store::Param;
using store::Row;
using store::Sql;
using store::Tx;

constexpr std::int64_t delete_rows = 200;
constexpr std::size_t inflated_bytes_max = 64 * 1024 * 1024;

constexpr Sql sql_insert{
    "records.insert_response",
    "INSERT INTO stored_responses (account_id, id, previous_id, created_at, expires_at, input, response)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7)"};
constexpr Sql sql_find{"records.find_response",
                       "SELECT previous_id, input, response FROM stored_responses"
                       " WHERE account_id = $1 AND id = $2 AND expires_at > $3"};
constexpr Sql sql_delete{
    "records.delete_response",
    "DELETE FROM stored_responses WHERE account_id = $1 AND id = $2 AND expires_at > $3"};
constexpr Sql sql_expire{
    "records.expire_responses",
    "DELETE FROM stored_responses WHERE (account_id, id) IN (SELECT account_id, id FROM stored_responses"
    " WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)"};

std::unexpected<Error> none() { return fail(Code::not_found, "there is no such response"); }

std::optional<StoredResponse> read_one(Tx& tx, AccountId account, RequestId id, Time now) {
    std::optional<StoredResponse> found;
    tx.query(sql_find, {account.db(), id.db(), to_micros(now)}, [&](const Row& row) {
        found.emplace();
        found->id = id;
        if (!row.is_null(0)) found->previous = RequestId::from_db(row.i64(0));
        found->input = inflated(row.blob(1), inflated_bytes_max);
        found->response = inflated(row.blob(2), inflated_bytes_max);
    });
    return found;
}

}  // namespace

void ResponsesSettings::describe(settings::Visitor& v) {
    v.field(
        {.name = "enabled",
         .help =
             "Responses can be stored. Off: nothing of them is kept, and previous_response_id is refused."},
        enabled);
    v.field({.name = "store",
             .help = "Whether a response is stored when the client does not say (its member `store`)."},
            store);
    v.field({.name = "retention_days",
             .help = "Stored responses are deleted after so many days.",
             .min = 1,
             .max = 3650},
            retention_days);
    v.field(
        {.name = "bytes_max",
         .help = "Largest stored response with its input, in bytes; larger ones are answered but not stored.",
         .min = 1024,
         .max = 32 * 1024 * 1024},
        bytes_max);
    v.field({.name = "chain_max",
             .help = "How many responses a conversation of previous_response_id may have.",
             .min = 1,
             .max = 10'000},
            chain_max);
    v.field({.name = "chain_bytes_max",
             .help = "Largest conversation of previous_response_id, in bytes of its items.",
             .min = 1024,
             .max = 256 * 1024 * 1024},
            chain_bytes_max);
}

StoredResponses::StoredResponses(const ResponsesSettings& settings, store::Db& db, const Clock& clock,
                                 metrics::Registry& metrics)
    : settings_(settings),
      db_(db),
      clock_(clock),
      stored_(metrics.counter("nebula_responses_stored_total", "Responses stored for later.")),
      failed_(metrics.counter("nebula_responses_not_stored_total",
                              "Responses that should have been stored and were not.")) {}

StoredResponses::~StoredResponses() = default;

Result<void> StoredResponses::check_size(const StoredResponse& response) const {
    if (response.input.size() + response.response.size() > static_cast<std::size_t>(settings_.bytes_max))
        return fail(Code::payload_too_large, "the response is too large to be stored", "store");
    return {};
}

Async<Result<void>> StoredResponses::save(AccountId account, StoredResponse response) {
    auto fits = check_size(response);
    if (!fits) {
        failed_.add();
        co_return fits;
    }
    Time now = clock_.now();
    Time expires = now + std::chrono::days(settings_.retention_days);
    auto work = [account, now, expires, one = std::move(response)](Tx& tx) -> Result<bool> {
        std::string input = deflated(one.input), text = deflated(one.response);
        Param previous = nullptr;
        if (one.previous) previous = one.previous.db();
        tx.exec(sql_insert, {account.db(), one.id.db(), previous, to_micros(now), to_micros(expires),
                             Blob{input}, Blob{text}});
        return true;
    };
    auto done = co_await db_.in_tx(std::move(work));
    (done ? stored_ : failed_).add();
    if (!done) co_return fail(std::move(done.error()));
    co_return Result<void>();
}

Async<Result<StoredResponse>> StoredResponses::find(AccountId account, RequestId id) {
    Time now = clock_.now();
    auto work = [=](Tx& tx) -> Result<StoredResponse> {
        auto found = read_one(tx, account, id, now);
        if (!found) return none();
        return std::move(*found);
    };
    co_return co_await db_.read(std::move(work));
}

Async<Result<std::vector<StoredResponse>>> StoredResponses::conversation(AccountId account, RequestId id) {
    Time now = clock_.now();
    std::int64_t count_max = settings_.chain_max;
    auto bytes_max = static_cast<std::size_t>(settings_.chain_bytes_max);
    auto work = [=](Tx& tx) -> Result<std::vector<StoredResponse>> {
        std::vector<StoredResponse> chain;
        std::size_t bytes = 0;
        for (RequestId next = id; next;) {
            auto one = read_one(tx, account, next, now);
            if (!one) return none();
            bytes += one->input.size() + one->response.size();
            if (chain.size() >= static_cast<std::size_t>(count_max) || bytes > bytes_max)
                return fail(Code::payload_too_large,
                            "the conversation of this response is too long to go on with",
                            "previous_response_id");
            next = one->previous;
            chain.push_back(std::move(*one));
        }
        std::ranges::reverse(chain);
        return chain;
    };
    co_return co_await db_.read(std::move(work));
}

Async<Result<void>> StoredResponses::remove(AccountId account, RequestId id) {
    Time now = clock_.now();
    auto work = [=](Tx& tx) -> Result<bool> {
        if (tx.exec(sql_delete, {account.db(), id.db(), to_micros(now)}) == 0) return none();
        return true;
    };
    auto done = co_await db_.in_tx(std::move(work));
    if (!done) co_return fail(std::move(done.error()));
    co_return Result<void>();
}

Result<bool> StoredResponses::expire() {
    Time now = clock_.now();
    auto work = [now](Tx& tx) -> Result<std::int64_t> {
        return tx.exec(sql_expire, {to_micros(now), delete_rows});
    };
    auto rows = db_.in_tx_blocking(work);
    if (!rows) return fail(std::move(rows.error()));
    return *rows >= delete_rows;
}

}  // namespace nebula::records
