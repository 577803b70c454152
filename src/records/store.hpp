#pragma once
// Every SQL statement of the request log. Private to this module.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/ids.hpp"
#include "store/store.hpp"

namespace nebula::records {

/// One row of request_log: entries of one account, a line each.
struct Segment {
    AccountId account;
    RequestId last;
    RequestId first;
    std::int64_t count = 0;
    std::string entries;
};
void insert_segments(store::Tx& tx, std::span<const Segment> segments, Time now);
/// Those that may hold `id`, behind `after`, at most `limit`; `last` bounds how long a request can take.
std::vector<Segment> segments_around(store::Tx& tx, AccountId account, RequestId id, RequestId after,
                                     RequestId last, std::int64_t limit);
/// The latest ones up to and with `until`, latest first.
std::vector<Segment> latest_segments(store::Tx& tx, AccountId account, RequestId until, std::int64_t limit);

struct Body {
    AccountId account;
    RequestId id;
    std::string deflated;
};
void insert_bodies(store::Tx& tx, std::span<const Body> bodies, Time now);
std::optional<std::string> read_body(store::Tx& tx, AccountId account, RequestId id);

void put_feedback(store::Tx& tx, AccountId account, RequestId id, const std::string& category,
                  const std::string& comment, Time now);

/// Rows deleted; at most `limit` of each kind.
std::int64_t delete_before(store::Tx& tx, Time before, std::int64_t limit);

}  // namespace nebula::records
