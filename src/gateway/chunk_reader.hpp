#pragma once
// Reads chat chunks for edges that tell them in another API's words. Texts stay the JSON they are: a raw text
// here is a JSON string with its quotes, ready to be written again.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace nebula::gateway {

class ChunkSink {
   public:
    virtual ~ChunkSink() = default;
    virtual void model(std::string_view raw) = 0;
    virtual void text(std::string_view raw, bool is_reasoning) = 0;
    /// A piece of tool call `index` (0, 1, 2 … in order of appearance); absent parts are empty. False: it
    /// cannot be told any more.
    virtual bool call(std::int64_t index, std::string_view raw_id, std::string_view raw_name,
                      std::string_view raw_arguments) = 0;
    virtual void finished(std::string_view reason) = 0;
    /// Of the usage report, which comes once or with every chunk.
    virtual void reasoning_tokens(std::int64_t count) { (void)count; }
};

/// One per stream, on one thread; keeps its buffers.
class ChunkReader {
   public:
    ChunkReader();
    ~ChunkReader();
    /// Tells the sink what the chunk holds; false when it is malformed or the sink refuses.
    bool read(std::string_view data, ChunkSink& sink);
    /// The next chunk is the first one of another stream.
    void restart();

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace nebula::gateway
