#include "gateway/media/audio_length.hpp"

#include <algorithm>
#include <array>
#include <optional>

namespace nebula::gateway::media {
namespace {

constexpr std::int64_t lowest_bytes_per_second = 1'000;

std::uint32_t little(std::string_view file, std::size_t at, std::size_t bytes) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i)
        value |= static_cast<std::uint32_t>(static_cast<unsigned char>(file[at + i])) << (8 * i);
    return value;
}

std::int64_t divided_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::int64_t by_lowest_rate(std::size_t bytes) {
    return divided_up(static_cast<std::int64_t>(bytes), lowest_bytes_per_second);
}

// https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html: chunks behind RIFF and WAVE, "fmt "
// before "data". Whatever length the data claims, it is taken to reach the end of the file.
std::optional<std::int64_t> wav_seconds(std::string_view file) {
    if (file.size() < 12 || !file.starts_with("RIFF") || file.substr(8, 4) != "WAVE") return std::nullopt;
    std::int64_t rate = 0;
    std::size_t at = 12;
    while (at + 8 <= file.size()) {
        std::string_view id = file.substr(at, 4);
        std::size_t size = little(file, at + 4, 4);
        at += 8;
        if (id == "data") {
            if (rate == 0) return std::nullopt;
            return divided_up(static_cast<std::int64_t>(file.size() - at), rate);
        }
        if (id == "fmt " && size >= 16 && at + 16 <= file.size()) {
            std::uint32_t format = little(file, at, 2);
            bool is_pcm = format == 1 || format == 3 || format == 0xFFFE;
            rate = little(file, at + 8, 4);
            // Samples stand in whole bytes; their bits multiplied first could overflow.
            std::int64_t of_samples = std::int64_t{little(file, at + 4, 4)} * little(file, at + 2, 2) *
                                      ((little(file, at + 14, 2) + 7) / 8);
            // Players of plain samples count these; the smaller of the two makes it longer.
            if (is_pcm && of_samples > 0) rate = rate > 0 ? std::min(rate, of_samples) : of_samples;
        }
        if (size > file.size() - at) return std::nullopt;
        at += size + (size & 1);
    }
    return std::nullopt;
}

struct Mp3Frame {
    std::size_t bytes = 0;
    std::int64_t samples = 0, sample_rate = 0;
};

// http://www.mp3-tech.org/programmer/frame_header.html; layer III only.
std::optional<Mp3Frame> mp3_frame(std::string_view file, std::size_t at) {
    static constexpr std::array<std::int64_t, 16> kbits_1{0,   32,  40,  48,  56,  64,  80,  96,
                                                          112, 128, 160, 192, 224, 256, 320, 0};
    static constexpr std::array<std::int64_t, 16> kbits_2{0,  8,  16, 24,  32,  40,  48,  56,
                                                          64, 80, 96, 112, 128, 144, 160, 0};
    static constexpr std::array<std::int64_t, 4> rates{44'100, 48'000, 32'000, 0};
    if (at + 4 > file.size()) return std::nullopt;
    auto byte = [&](std::size_t i) {
        return static_cast<unsigned>(static_cast<unsigned char>(file[at + i]));
    };
    if (byte(0) != 0xFF || (byte(1) & 0xE0) != 0xE0) return std::nullopt;
    unsigned version = (byte(1) >> 3) & 3, layer = (byte(1) >> 1) & 3;  // version 3: MPEG-1, 2: 2, 0: 2.5
    if (layer != 1 || version == 1) return std::nullopt;
    bool is_one = version == 3;
    std::int64_t kbits = (is_one ? kbits_1 : kbits_2)[byte(2) >> 4];
    std::int64_t rate = rates[(byte(2) >> 2) & 3] >> (is_one ? 0 : version == 2 ? 1 : 2);
    if (kbits == 0 || rate == 0) return std::nullopt;
    std::int64_t samples = is_one ? 1'152 : 576;
    std::int64_t bytes = samples / 8 * kbits * 1'000 / rate + ((byte(2) >> 1) & 1);
    return Mp3Frame{static_cast<std::size_t>(bytes), samples, rate};
}

std::size_t id3_bytes(std::string_view file) {
    if (file.size() < 10 || !file.starts_with("ID3")) return 0;
    std::size_t size = 0;
    for (std::size_t i = 6; i < 10; ++i) size = size << 7 | (static_cast<unsigned char>(file[i]) & 0x7F);
    return std::min(size + 10, file.size());
}

// Frame by frame. What is no frame counts by the lowest rate, so that nothing plays for free.
std::optional<std::int64_t> mp3_seconds(std::string_view file) {
    std::size_t at = id3_bytes(file);
    auto first = mp3_frame(file, at);
    if (!first || !mp3_frame(file, at + first->bytes)) return std::nullopt;
    std::int64_t us = 0;
    std::size_t lost = 0;
    while (at < file.size()) {
        auto frame = mp3_frame(file, at);
        if (frame) {
            us += frame->samples * 1'000'000 / frame->sample_rate;
            at += frame->bytes;
        } else {
            std::size_t next = file.find('\xFF', at + 1);
            if (next == std::string_view::npos) next = file.size();
            lost += next - at;
            at = next;
        }
    }
    return divided_up(us, 1'000'000) + by_lowest_rate(lost > 512 ? lost - 512 : 0);  // a tag at the end
}

}  // namespace

std::int64_t seconds_of(std::string_view file) {
    std::int64_t most = std::max<std::int64_t>(1, by_lowest_rate(file.size()));
    if (auto seconds = wav_seconds(file)) return std::clamp<std::int64_t>(*seconds, 1, most);
    if (auto seconds = mp3_seconds(file)) return std::clamp<std::int64_t>(*seconds, 1, most);
    return most;
}

}  // namespace nebula::gateway::media
