#!/usr/bin/env bash
# A cluster on one machine with nothing to install but Rust: doubles of Kinesis and DynamoDB that keep everything in
# memory, and a gateway, a grader and a ranker as processes of their own. Stays in the foreground; Ctrl-C or SIGTERM
# stops all of it, and what it held is gone.
#
#   infra/local.sh              a debug build: the first takes half the time of a release build
#   infra/local.sh --release    a release build, for load
#
# PODIUM_LISTEN (127.0.0.1:8080) is where the gateway serves, PODIUM_DATA (podium-data) where its issuer's key is.
# Needs bash 4.3 or newer, which has `wait -n`.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

profile=debug
build=()
case "${1:-}" in
"") ;;
--release) profile=release build=(--release) ;;
*) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
listen=${PODIUM_LISTEN:-127.0.0.1:8080}
data=${PODIUM_DATA:-podium-data}
bin=${CARGO_TARGET_DIR:-$root/target}/$profile

(cd "$root" && cargo build --quiet --locked ${build[@]+"${build[@]}"} --workspace --features cluster --bin podium --example doubles)

work=$(mktemp -d)
stages=()
alive=""
doubles=""
status=0

# Stages first: they give their leases back and store what they did, for which they need the doubles. One that has not
# ended after a while, such as when the doubles are gone, is killed.
stop() {
    trap '' INT TERM
    for pid in ${stages[@]+"${stages[@]}"}; do kill -TERM "$pid" 2>/dev/null || true; done
    for _ in $(seq 150); do
        alive=$(for pid in ${stages[@]+"${stages[@]}"}; do kill -0 "$pid" 2>/dev/null && echo "$pid" || true; done)
        [ -n "$alive" ] || break
        sleep 0.1
    done
    for pid in $alive; do kill -KILL "$pid" 2>/dev/null || true; done
    for pid in ${stages[@]+"${stages[@]}"}; do wait "$pid" 2>/dev/null || true; done
    [ -z "$doubles" ] || kill -TERM "$doubles" 2>/dev/null || true
    [ -z "$doubles" ] || wait "$doubles" 2>/dev/null || true
    rm -rf "$work"
    exit "$status"
}
trap stop EXIT
trap 'exit 0' INT TERM

fail() {
    printf 'infra/local.sh: %s\n' "$*" >&2
    status=1
    exit 1
}

# Each process has a group of its own: Ctrl-C reaches this script alone, which decides the order in which they end.
start() {
    local name=$1
    shift
    set -m
    "$@" </dev/null >"$work/$name.out" 2>"$work/$name.err" &
    started=$!
    set +m
}

# Waits until a process has printed a line that begins with $3, and returns it in $line.
await() {
    local name=$1 pid=$2 wanted=$3
    for _ in $(seq 600); do
        line=$(grep -m 1 "^$wanted" "$work/$name.out" || true)
        [ -z "$line" ] || return 0
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    cat "$work/$name.err" >&2
    fail "$name did not start"
}

start doubles "$bin/examples/doubles"
doubles=$started
await doubles "$doubles" http://

# Nothing of a real account is used or reached.
unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL_KINESIS AWS_ENDPOINT_URL_DYNAMODB
export AWS_ENDPOINT_URL=$line AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
# A variable of the one-machine Podium would be another number of partitions.
unset PODIUM_PARTITIONS PODIUM_TABLE PODIUM_STREAM_PREFIX

"$bin/podium" streams create --partitions 8 --mode provisioned --shards 2 >"$work/streams.out"
"$bin/podium" table create >"$work/table.out"

# What the load generator is told, so that it can say what an answer costs.
costs=(--pid "doubles=$doubles")
for stage in grade rank; do
    start "$stage" "$bin/podium" "$stage" --data "$data" --admin-listen 127.0.0.1:0
    stages+=("$started")
    await "$stage" "$started" "Podium's $stage stage is up"
    costs+=(--metrics "${line##* at }" --pid "$stage=$started")
done
start gateway "$bin/podium" gateway --listen "$listen" --data "$data"
stages+=("$started")
await gateway "$started" "Podium's gateway is up at "
url=${line##* at }
url=${url%/}
costs+=(--metrics "$url/metrics" --pid "gateway=$started")

podium=$bin/podium
podium=${podium#"$PWD/"}
cat <<END
A cluster is up at $url/ (gateway, grade and rank on doubles at $AWS_ENDPOINT_URL).
A host's token:  $podium token --role host --data $data
A quiz:          $podium quiz publish $root/infra/capitals.json --quiz capitals --url $url --data $data
Its leaderboard: curl -s $url/v1/quizzes/capitals/leaderboard
A load and its costs (a \`--release\` build, and loadtest beside podium):
                 loadtest run --rate 1000 --duration 10s --url $url --data $data ${costs[*]}
Another grader:  AWS_ENDPOINT_URL=$AWS_ENDPOINT_URL AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local $podium grade
Ctrl-C stops it.
END

# Ends when one of them does, which none should.
wait -n "${stages[@]}" "$doubles" || true
for name in doubles grade rank gateway; do
    [ ! -s "$work/$name.err" ] || tail -n 3 "$work/$name.err" | sed "s/^/$name: /" >&2
done
fail "a process ended by itself"
