#pragma once
// What a provider says that it served, against what was recorded here: per UTC day and model of the provider.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "async/async.hpp"
#include "base/nanos.hpp"
#include "base/result.hpp"
#include "billing/bills/periods.hpp"
#include "store/store.hpp"

namespace nebula::billing::bills {

struct DayUse {
    std::int64_t requests = 0;
    std::int64_t input = 0;  // tokens, cached ones too
    std::int64_t output = 0;
    bool operator==(const DayUse&) const = default;
};
/// By day ("2026-11-01") and the provider's name of the model.
using UseByDay = std::map<std::pair<std::string, std::string>, DayUse>;

/// What an export calls its columns. Empty `date`: "date", else "timestamp".
struct ReportColumns {
    std::string date;
    std::string model = "model";
    std::string input = "input_tokens";
    std::string output = "output_tokens";
    std::string requests = "requests";
};
struct ProviderReport {
    UseByDay use;
    bool has_requests = true;  // false: there is no such column, requests are not compared
};
/// CSV with a head line, or one JSON object per line. Dates are ISO 8601 (without an offset: UTC) or UNIX
/// seconds. Error: invalid_request naming the line.
Result<ProviderReport> read_report(std::string_view text, const ReportColumns& columns);

/// From the report's first day to the end of its last one; empty report: an empty window.
Window window_of(const ProviderReport& report);

/// Sums of the usage records of one provider. `upstream_name` tells the provider's name of a model; it is
/// called on the database's threads. Reads page by page and changes nothing.
using UpstreamName = std::function<std::string(std::string_view model)>;
Async<Result<UseByDay>> recorded_use(store::Db& db, std::string provider, Window window,
                                     UpstreamName upstream_name);

struct Difference {
    std::string day;
    std::string model;
    DayUse ours;
    DayUse theirs;
    bool is_within = false;  // the tolerance, in every figure that is compared
};
/// Every day and model that either side knows. `percent`: tolerated share of the provider's figure, in
/// percent (Nanos: 1.5 = one and a half).
std::vector<Difference> differences(const UseByDay& ours, const ProviderReport& theirs, Nanos percent);

}  // namespace nebula::billing::bills
