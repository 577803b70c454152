#!/usr/bin/env bash
# clang-tidy over every source of the product ("all"), or over those that differ from the upstream branch or the last
# commit ("changed").
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
all)
    mapfile -t files < <(find src bench -name node_modules -prune -o \
        -name '*.cpp' ! -name '*test.cpp' -print | sort) ;;
changed)
    base=$(git merge-base HEAD '@{upstream}' 2>/dev/null || git rev-parse -q --verify HEAD~1 || git rev-parse HEAD)
    mapfile -t files < <({ git diff --name-only --diff-filter=d "$base" -- 'src/*.cpp' 'bench/*.cpp'
        git ls-files --others --exclude-standard -- 'src/*.cpp' 'bench/*.cpp'; } |
        grep -v 'test\.cpp$' | sort -u) ;;
*) echo "tools/tidy.sh all|changed" >&2; exit 2 ;;
esac
[ ${#files[@]} -gt 0 ] || exit 0
printf '%s\0' "${files[@]}" |
    xargs -0 -n 1 -P "${JOBS:-$(nproc)}" clang-tidy-19 -p build --quiet \
        2> >(grep -v 'warnings\? generated' >&2)
