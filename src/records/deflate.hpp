#pragma once
// Texts as they are kept: deflated (zlib). Private to this module.

#include <string>
#include <string_view>

namespace nebula::records {

std::string deflated(std::string_view text);
/// Throws store::DbError when it is damaged, or longer than `bytes_max`.
std::string inflated(std::string_view bytes, std::size_t bytes_max);

}  // namespace nebula::records
