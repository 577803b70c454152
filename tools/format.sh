#!/usr/bin/env bash
# clang-format over our C++: --check (fails on a difference) or --write, optionally only below the named folders.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
--check) mode=(--dry-run -Werror) ;;
--write) mode=(-i) ;;
*) echo "tools/format.sh --check|--write [FOLDER…]" >&2; exit 2 ;;
esac
shift
[ $# -gt 0 ] || set -- src bench test/fuzz
find "$@" -name node_modules -prune -o \( -name '*.cpp' -o -name '*.hpp' \) -print0 | sort -z |
    xargs -0 -r clang-format-19 "${mode[@]}" --
