#!/usr/bin/env bash
# Runs every fuzzer of build-fuzz for so many seconds each. A corpus grows in build-fuzz/corpus/NAME; what crashed lies
# in build-fuzz/findings/NAME.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1
mapfile -t programs < <(find build-fuzz/test/fuzz -maxdepth 1 -type f -executable -name 'fuzz_*' | sort)
[ ${#programs[@]} -gt 0 ] || { echo "no fuzzers in build-fuzz" >&2; exit 1; }
status=0
for program in "${programs[@]}"; do
    name=$(basename "$program")
    name=${name#fuzz_}
    mkdir -p "build-fuzz/corpus/$name" "build-fuzz/findings/$name"
    folders=("build-fuzz/corpus/$name")
    # Seeds of the repository are read, new ones are written to the build folder.
    if [ -d "test/fuzz/corpus/$name" ]; then folders+=("test/fuzz/corpus/$name"); fi
    echo "== $name, $seconds s"
    set +e
    "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="build-fuzz/findings/$name/" "${folders[@]}" >"build-fuzz/$name.log" 2>&1
    code=$?
    set -e
    grep -E 'ERROR|SUMMARY|Test unit|number_of_executed_units|average_exec_per_sec|peak_rss|DONE' \
        "build-fuzz/$name.log" || true
    [ $code = 0 ] || { status=1; echo "$name ended with $code: build-fuzz/$name.log, build-fuzz/findings/$name" >&2; }
done
exit $status
