#pragma once
// Shared by the sources of tables.hpp.

#include <limits>

#include "billing/commerce/tables.hpp"

namespace nebula::billing::commerce::sql {

inline std::optional<Time> optional_time(const store::Row& row, int column) {
    if (row.is_null(column)) return std::nullopt;
    return from_micros(row.i64(column));
}
inline store::Param time_or_null(const std::optional<Time>& time) {
    if (!time) return nullptr;
    return to_micros(*time);
}
inline store::Param text_or_null(std::string_view text) {
    if (text.empty()) return nullptr;
    return text;
}

}  // namespace nebula::billing::commerce::sql
