#pragma once
// Finding model files. Private to runtime.

#include <string>
#include <vector>

#include "runtime/runtime.hpp"

namespace nebula::runtime {

struct FoundFile {
    ModelFile file;
    std::int64_t kv_bytes_per_token = 0;
    std::int64_t modified_ns = 0;  // with the size, tells a replaced file
};

Result<FoundFile> inspect_file(const std::string& path);
/// Tokens of one sequence: what is asked for (0 = a payable default), never more than the file says (0 =
/// unknown).
std::int64_t served_context(std::int64_t wanted, std::int64_t of_file);
/// *.gguf in `directory`, by id; what cannot be used is logged and left out.
std::vector<FoundFile> find_files(const std::string& directory);

}  // namespace nebula::runtime
