#!/usr/bin/env bash
# Configures a preset when it has not been, and builds targets: tools/build.sh PRESET TARGET…
# Ninja runs CMake again by itself when a CMake file or the list of sources changes.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1
shift
case $preset in
release) folder=build ;;
*) folder=build-$preset ;;
esac

configure() {
    local log
    log=$(mktemp)
    if ! cmake --preset "$preset" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
}

# A tree that was configured at another place (a copied checkout) is configured anew.
if ! grep -qsx "CMAKE_HOME_DIRECTORY:INTERNAL=$PWD" "$folder/CMakeCache.txt"; then
    rm -rf "$folder/CMakeCache.txt" "$folder/CMakeFiles"
    configure
elif [ CMakePresets.json -nt "$folder/build.ninja" ]; then
    configure
fi
exec ninja -C "$folder" -j "${JOBS:-$(nproc)}" "$@"
