#!/usr/bin/env bash
# Keeps `berth up` running where there is no systemd: starts it again when it ends, until it is told to stop.
#   run-loop.sh             run the loop in this process
#   run-loop.sh --running   0 if a loop runs
#   run-loop.sh --stop      stop the loop and the server, waiting for both
set -euo pipefail
pid_file=/run/berth.pid

running() {
    [ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null && grep -qz run-loop.sh "/proc/$(cat "$pid_file")/cmdline"
}

case ${1:-} in
--running)
    running
    ;;
--stop)
    running || exit 0
    pid=$(cat "$pid_file")
    kill -TERM "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    ;;
"")
    if running; then exit 0; fi
    echo $$ >"$pid_file"
    # Nobody rotates the log here, as journald does elsewhere: requests have lines where somebody asks for them.
    [ -n "${BERTH_CONFIG:-}" ] || export BERTH_ACCESS_LOG=${BERTH_ACCESS_LOG:-off}
    server=
    trap 'stopping=1; [ -z "$server" ] || kill -TERM "$server"' TERM INT
    stopping=
    while [ -z "$stopping" ]; do
        berth up --data "$BERTH_DATA" --listen "$BERTH_LISTEN" &
        server=$!
        # `wait` returns early when a signal comes; the server still has its grace to finish requests.
        while kill -0 "$server" 2>/dev/null; do wait "$server" || true; done
        server=
        [ -n "$stopping" ] || sleep 1
    done
    rm -f "$pid_file"
    ;;
*)
    echo "usage: run-loop.sh [--running|--stop]" >&2
    exit 2
    ;;
esac
