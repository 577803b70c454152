#pragma once
// Names of an entry's members, short as they are kept and whole as they are told: most of an entry's bytes
// would be names. Absent ones have the value of the table.

#include <string>
#include <string_view>

namespace nebula::records {

/// The entry with whole names, and with the members that have a usual value.
std::string expanded(std::string_view line);

}  // namespace nebula::records
