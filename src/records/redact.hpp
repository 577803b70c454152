#pragma once
// Private to this module.

#include <string>
#include <string_view>
#include <vector>

namespace nebula::records {

/// `text` (JSON, or several values, a line each) with the values of these members replaced, at any depth;
/// several values become an array. What is not JSON becomes null: it cannot be searched for what must not be
/// kept.
std::string redacted(std::string_view text, const std::vector<std::string>& members);

}  // namespace nebula::records
