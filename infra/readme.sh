#!/usr/bin/env bash
# Runs the README again: every line that begins with "$ " in a console block, in order, in one shell. The lines under a
# command are what it must print, "…" standing for anything; the command that starts the server runs in the background.
# Needs the release binaries; works in a directory of its own that looks like a checkout.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
# Copies, so that the program finds itself in this directory and says so as it would in a checkout.
mkdir -p "$work/target/release"
cp "$root/target/release/podium" "$root/target/release/loadtest" "$work/target/release/"
server=""
cleanup() {
    for pid in $server ${SERVER:-} ${LOAD:-} ${CLUSTER:-}; do kill "$pid" 2>/dev/null; done
    # What they still write would be in the way.
    wait 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work" || exit 1

fail() { printf 'README: %s\n' "$*" >&2; exit 1; }

# Checks one printed line against one of the README's, piece by piece around each "…".
matches() {
    local wanted=$1 printed=$2 piece first=true
    while :; do
        piece=${wanted%%…*}
        if $first; then
            [[ "$printed" == "$piece"* ]] || return 1
            printed=${printed#"$piece"}
            first=false
        else
            [[ "$printed" == *"$piece"* ]] || return 1
            printed=${printed#*"$piece"}
        fi
        [[ "$wanted" == *…* ]] || break
        wanted=${wanted#*…}
    done
    [[ -z "$printed" || "$2" == *"$piece" ]]
}

number=0
run() {
    local command=$1 expected=$2 line
    number=$((number + 1))
    local out=$work/out.$number
    command=${command//..\/shared/$root/..\/shared}
    command=${command//infra\/local.sh/$root/infra/local.sh}
    printf '%s\n' "\$ $1"
    case "$command" in
    "cargo run --release")
        target/release/podium >"$work/server.txt" 2>"$work/server-log.txt" &
        server=$!
        for _ in $(seq 200); do
            curl -fs http://127.0.0.1:8080/readyz >/dev/null && break
            sleep 0.1
        done
        cp "$work/server.txt" "$out"
        ;;
    *"LOAD=\$!")
        # Goes on in the background; what it prints is looked at by the command that waits for it.
        eval "${command%& LOAD=*} >\"$work/load.txt\" 2>&1 & LOAD=\$!"
        : >"$out"
        ;;
    *) eval "$command" >"$out" 2>"$work/err.txt" || { cat "$work/err.txt" "$out" >&2; fail "failed: $command"; } ;;
    esac
    [[ "$command" == 'wait $LOAD' ]] && out=$work/load.txt
    while IFS= read -r line; do
        [ -z "$line" ] && continue
        [ "$line" = "…" ] && continue
        local found=false printed
        while IFS= read -r printed || [ -n "$printed" ]; do
            matches "$line" "$printed" && found=true && break
        done <"$out"
        $found || { cat "$out" "$work/err.txt" >&2; fail "after \"$1\" this line was not printed: $line"; }
    done <<<"$expected"
}

command="" expected="" console=false
while IFS= read -r line || [ -n "$line" ]; do
    if [ "$line" = '```console' ]; then console=true; continue; fi
    if [ "$line" = '```' ] && $console; then
        [ -n "$command" ] && run "$command" "$expected"
        command="" expected="" console=false
        continue
    fi
    $console || continue
    if [[ "$line" == '$ '* ]]; then
        [ -n "$command" ] && run "$command" "$expected"
        command=${line#'$ '} expected=""
    elif [[ "$line" == '> '* ]]; then
        command+=$'\n'${line#'> '}
    else
        expected+=$line$'\n'
    fi
done <"$root/README.md"
[ "$number" -gt 10 ] || fail "found only $number commands"
printf '%s commands of the README did what it says\n' "$number"
