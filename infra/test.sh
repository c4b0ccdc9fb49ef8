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
python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
if [ ${#packages[@]} -gt 0 ]; then
    sudo=""
    [ "$(id -u)" -eq 0 ] || sudo="sudo"
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi
if ! $quick; then
    cargo deny --version >/dev/null 2>&1 || cargo install --locked --quiet cargo-deny
fi

step "what the cluster's tests ask: AWS's aggregation for Python, and a second Kinesis"
if ! target/python/bin/python -c 'import aws_kinesis_agg.aggregator' 2>/dev/null; then
    python3 -m venv target/python
    # It needs six and does not say so.
    target/python/bin/pip install --quiet --disable-pip-version-check aws_kinesis_agg==1.2.3 six
fi
[ -e target/node/node_modules/kinesis-local/main.js ] || npm install --silent --no-audit --no-fund --prefix target/node kinesis-local@0.6.2

if ! $quick; then
    step "format"
    cargo fmt --all -- --check
    step "lints"
    cargo clippy --workspace --all-targets --locked --features cluster -- -D warnings
    # Without the cluster, as most people build it.
    cargo clippy --workspace --locked -- -D warnings
    step "licences, bans and sources of dependencies"
    cargo deny --offline check licenses bans sources
fi

step "the files for a cluster on one machine"
target/python/bin/check-jsonschema --version >/dev/null 2>&1 || target/python/bin/pip install --quiet --disable-pip-version-check check-jsonschema==0.39.0
target/python/bin/check-jsonschema --builtin-schema vendor.compose-spec infra/compose.yaml
bash -n infra/local.sh

step "binaries that the tests start"
cargo build --release --locked -p pipeline -p loadtest

step "tests"
cargo test --workspace --locked --features cluster

step "the commands of the README"
infra/readme.sh

step "a cluster on one machine ends by itself when what it stands on dies"
PODIUM_LISTEN=127.0.0.1:8083 PODIUM_DATA=target/orphans infra/local.sh >target/orphans.txt 2>&1 & cluster=$!
for _ in $(seq 600); do
    doubles=$(sed -n 's/.*--pid doubles=\([0-9]*\) .*/\1/p' target/orphans.txt)
    [ -z "$doubles" ] || break
    sleep 0.5
done
kill -KILL "$doubles"
timeout 60 tail --pid="$cluster" -f /dev/null || { echo "infra/local.sh does not end" >&2; exit 1; }

step "every benchmark runs"
cargo bench --locked -p benches -- --test
