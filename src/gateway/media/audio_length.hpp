#pragma once
// How long a sound file plays, for metering where the provider does not tell.

#include <cstdint>
#include <string_view>

namespace nebula::gateway::media {

/// Seconds, rounded up; never less than it can be. WAV by its format and its bytes, MP3 frame by frame; what
/// else there is (and what cannot be read) by the lowest bit rate that speech is sent with, 8 kbit/s.
/// A header's own word for the length is not believed: players do not either.
std::int64_t seconds_of(std::string_view file);

}  // namespace nebula::gateway::media
