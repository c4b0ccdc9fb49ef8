#!/usr/bin/env bash
# Installs what Podium's tests need on a bare Debian with Rust, and runs everything that must pass.
#
#   infra/test.sh           everything
#   infra/test.sh --quick   without the lints (the tests alone)
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false
[ "${1:-}" = "--quick" ] && quick=true

for data in opentriviaqa/geography contest/runs.json; do
    if [ ! -r "../shared/data/$data" ]; then
        printf '../shared/data/%s is not there: README.md, "For client developers", says where it comes from\n' "$data" >&2
        exit 1
    fi
done

step() { printf '\n== %s\n' "$*"; }

step "packages"
packages=()
command -v cc >/dev/null || packages+=(build-essential)
command -v curl >/dev/null || packages+=(curl)
command -v git >/dev/null || packages+=(git)
command -v chromium >/dev/null || packages+=(chromium)
command -v chromedriver >/dev/null || packages+=(chromium-driver)
if [ ${#packages[@]} -gt 0 ]; then
    sudo=""
    [ "$(id -u)" -eq 0 ] || sudo="sudo"
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi
if ! $quick; then
    cargo deny --version >/dev/null 2>&1 || cargo install --locked --quiet cargo-deny
fi

if ! $quick; then
    step "format"
    cargo fmt --all -- --check
    step "lints"
    cargo clippy --workspace --all-targets --locked -- -D warnings
    step "licences, bans and sources of dependencies"
    cargo deny --offline check licenses bans sources
fi

step "binaries that the tests start"
cargo build --release --locked -p pipeline -p loadtest

step "tests"
cargo test --workspace --locked

step "the commands of the README"
infra/readme.sh

step "every benchmark runs"
cargo bench --locked -p benches -- --test
