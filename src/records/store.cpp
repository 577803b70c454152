#include "records/store.hpp"

namespace nebula::records {
namespace {

using store::Param;
using store::Row;
using store::Sql;
using store::Tx;

constexpr Sql sql_insert_segment{
    "records.insert_segment",
    "INSERT INTO request_log (account_id, last_id, first_id, written_at, entry_count, entries)"
    " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"};
constexpr Sql sql_around{
    "records.segments_around",
    "SELECT last_id, first_id, entry_count, entries FROM request_log"
    " WHERE account_id = $1 AND last_id > $3 AND last_id >= $2 AND last_id <= $4 AND first_id <= $2"
    " ORDER BY last_id LIMIT $5"};
constexpr Sql sql_latest{"records.latest_segments",
                         "SELECT last_id, first_id, entry_count, entries FROM request_log"
                         " WHERE account_id = $1 AND last_id <= $2 ORDER BY last_id DESC LIMIT $3"};
constexpr Sql sql_insert_body{
    "records.insert_body",
    "INSERT INTO request_bodies (account_id, id, written_at, body) VALUES ($1, $2, $3, $4)"
    " ON CONFLICT DO NOTHING"};
constexpr Sql sql_read_body{"records.read_body",
                            "SELECT body FROM request_bodies WHERE account_id = $1 AND id = $2"};
constexpr Sql sql_put_feedback{
    "records.put_feedback",
    "INSERT INTO request_feedback (account_id, id, created_at, category, comment)"
    " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account_id, id)"
    " DO UPDATE SET created_at = excluded.created_at, category = excluded.category,"
    " comment = excluded.comment"};
constexpr Sql sql_delete_log{
    "records.delete_log",
    "DELETE FROM request_log WHERE (account_id, last_id) IN (SELECT account_id, last_id FROM request_log"
    " WHERE written_at < $1 ORDER BY written_at LIMIT $2)"};
constexpr Sql sql_delete_bodies{
    "records.delete_bodies",
    "DELETE FROM request_bodies WHERE (account_id, id) IN (SELECT account_id, id FROM request_bodies"
    " WHERE written_at < $1 ORDER BY written_at LIMIT $2)"};
constexpr Sql sql_delete_feedback{
    "records.delete_feedback",
    "DELETE FROM request_feedback WHERE (account_id, id) IN (SELECT account_id, id FROM request_feedback"
    " WHERE created_at < $1 ORDER BY created_at LIMIT $2)"};

Segment read_segment(const Row& row, AccountId account) {
    return {account, RequestId::from_db(row.i64(0)), RequestId::from_db(row.i64(1)), row.i64(2),
            std::string(row.text(3))};
}

}  // namespace

void insert_segments(Tx& tx, std::span<const Segment> segments, Time now) {
    std::vector<Param> values;
    for (const Segment& one : segments)
        values.insert(values.end(), {one.account.db(), one.last.db(), one.first.db(), to_micros(now),
                                     one.count, std::string_view(one.entries)});
    if (!values.empty()) tx.exec_many(sql_insert_segment, 6, values);
}

std::vector<Segment> segments_around(Tx& tx, AccountId account, RequestId id, RequestId after, RequestId last,
                                     std::int64_t limit) {
    std::vector<Segment> found;
    tx.query(sql_around, {account.db(), id.db(), after.db(), last.db(), limit},
             [&](const Row& row) { found.push_back(read_segment(row, account)); });
    return found;
}

std::vector<Segment> latest_segments(Tx& tx, AccountId account, RequestId until, std::int64_t limit) {
    std::vector<Segment> found;
    tx.query(sql_latest, {account.db(), until.db(), limit},
             [&](const Row& row) { found.push_back(read_segment(row, account)); });
    return found;
}

void insert_bodies(Tx& tx, std::span<const Body> bodies, Time now) {
    std::vector<Param> values;
    for (const Body& one : bodies)
        values.insert(values.end(),
                      {one.account.db(), one.id.db(), to_micros(now), store::Blob{one.deflated}});
    if (!values.empty()) tx.exec_many(sql_insert_body, 4, values);
}

std::optional<std::string> read_body(Tx& tx, AccountId account, RequestId id) {
    std::optional<std::string> found;
    tx.query(sql_read_body, {account.db(), id.db()}, [&](const Row& row) { found = row.blob(0); });
    return found;
}

void put_feedback(Tx& tx, AccountId account, RequestId id, const std::string& category,
                  const std::string& comment, Time now) {
    tx.exec(sql_put_feedback,
            {account.db(), id.db(), to_micros(now), std::string_view(category), std::string_view(comment)});
}

std::int64_t delete_before(Tx& tx, Time before, std::int64_t limit) {
    std::int64_t rows = 0;
    for (const Sql* sql : {&sql_delete_log, &sql_delete_bodies, &sql_delete_feedback})
        rows += tx.exec(*sql, {to_micros(before), limit});
    return rows;
}

}  // namespace nebula::records
