#include "records/deflate.hpp"

#include <zlib.h>

#include "base/check.hpp"
#include "store/store.hpp"

namespace nebula::records {

std::string deflated(std::string_view text) {
    uLongf size = compressBound(text.size());
    std::string out(size, '\0');
    int done = compress2(reinterpret_cast<Bytef*>(out.data()), &size,
                         reinterpret_cast<const Bytef*>(text.data()), text.size(), Z_BEST_SPEED);
    CHECK(done == Z_OK, "the buffer is as large as zlib asked for");
    out.resize(size);
    return out;
}

std::string inflated(std::string_view bytes, std::size_t bytes_max) {
    std::string out;
    z_stream stream{};
    if (inflateInit(&stream) != Z_OK) throw store::DbError("cannot inflate");
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream.avail_in = static_cast<uInt>(bytes.size());
    int state = Z_OK;
    while (state == Z_OK && out.size() <= bytes_max) {
        std::size_t at = out.size();
        out.resize(at + 64 * 1024);
        stream.next_out = reinterpret_cast<Bytef*>(out.data() + at);
        stream.avail_out = 64 * 1024;
        state = inflate(&stream, Z_NO_FLUSH);
        out.resize(out.size() - stream.avail_out);
    }
    inflateEnd(&stream);
    if (state != Z_STREAM_END || out.size() > bytes_max)
        throw store::DbError("a stored body is damaged or too large");
    return out;
}

}  // namespace nebula::records
