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
/// *.gguf in `directory`, by id; what cannot be used is logged and left out.
std::vector<FoundFile> find_files(const std::string& directory);

}  // namespace nebula::runtime
