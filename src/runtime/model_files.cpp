#include "runtime/model_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <regex>

#include "base/log.hpp"
#include "runtime/gguf.hpp"

namespace nebula::runtime {
namespace {

constexpr std::size_t first_bytes = 1 << 20;
constexpr std::size_t head_bytes_max = 256U << 20;  // vocabularies take tens of MiB

class Fd {
   public:
    explicit Fd(int fd) : fd_(fd) {}
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd() {
        if (fd_ >= 0) ::close(fd_);
    }
    int get() const { return fd_; }

   private:
    int fd_;
};

// Reads rather than maps: a file that shrinks while it is mapped would kill the process.
bool read_up_to(int fd, std::string& head, std::size_t bytes) {
    std::size_t have = head.size();
    head.resize(bytes);
    while (have < bytes) {
        ssize_t got = ::pread(fd, head.data() + have, bytes - have, static_cast<off_t>(have));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        have += static_cast<std::size_t>(got);
    }
    head.resize(have);
    return have == bytes;
}

// Later parts of a split model: "name-00002-of-00005"; the runner finds them through the first one.
bool is_later_part(const std::string& id) {
    static const std::regex part("-(\\d{5})-of-\\d{5}$");
    std::smatch match;
    return std::regex_search(id, match, part) && match[1] != "00001";
}

}  // namespace

Result<FoundFile> inspect_file(const std::string& path) {
    Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat about{};
    if (fd.get() < 0 || ::fstat(fd.get(), &about) != 0)
        return fail(Code::invalid_request, "cannot read the file: " + std::string(std::strerror(errno)));
    if (!S_ISREG(about.st_mode)) return fail(Code::invalid_request, "not a regular file");
    auto file_bytes = static_cast<std::uint64_t>(about.st_size);
    std::string head;
    for (std::size_t want = first_bytes;; want *= 4) {
        std::size_t bytes = static_cast<std::size_t>(std::min<std::uint64_t>(want, file_bytes));
        if (!read_up_to(fd.get(), head, bytes))
            return fail(Code::invalid_request, "the file changed while it was read");
        auto facts = read_gguf(head, file_bytes);
        if (!facts && facts.error().detail == need_more && bytes < file_bytes && want < head_bytes_max)
            continue;
        if (!facts) return fail(facts.error());
        FoundFile found;
        found.file = {.id = std::filesystem::path(path).stem().string(),
                      .path = path,
                      .file_bytes = static_cast<std::int64_t>(file_bytes),
                      .context_length = facts->context_length,
                      .architecture = facts->architecture};
        found.kv_bytes_per_token = facts->kv_bytes_per_token;
        found.modified_ns = about.st_mtim.tv_sec * 1'000'000'000 + about.st_mtim.tv_nsec;
        return found;
    }
}

std::int64_t served_context(std::int64_t wanted, std::int64_t of_file) {
    constexpr std::int64_t default_max = 8'192, unknown = 4'096;
    std::int64_t known = of_file > 0 ? of_file : wanted > 0 ? wanted : unknown;
    return std::min(known, wanted > 0 ? wanted : default_max);
}

Result<ModelFile> read_model_file(const std::string& path) {
    auto found = inspect_file(path);
    if (!found) return fail(found.error());
    return std::move(found->file);
}

std::vector<FoundFile> find_files(const std::string& directory) {
    std::vector<FoundFile> found;
    std::error_code failed;
    auto entries = std::filesystem::directory_iterator(directory, failed);
    if (failed) {
        LOG_WARN("models directory cannot be read", {"path", directory}, {"reason", failed.message()});
        return found;
    }
    for (; entries != std::filesystem::directory_iterator(); entries.increment(failed)) {
        const std::filesystem::path& path = entries->path();
        if (path.extension() != ".gguf" || is_later_part(path.stem().string())) continue;
        auto one = inspect_file(path.string());
        if (!one) {
            LOG_WARN("model file left out", {"path", path.string()}, {"reason", one.error().message});
        } else if (one->file.architecture == "clip") {
            LOG_INFO("model file left out", {"path", path.string()},
                     {"reason", "an image encoder, no model"});
        } else {
            found.push_back(std::move(*one));
        }
        if (failed) break;
    }
    std::ranges::sort(found, {}, [](const FoundFile& f) -> const std::string& { return f.file.id; });
    return found;
}

}  // namespace nebula::runtime
