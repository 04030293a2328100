#!/usr/bin/env bash
# Stops Berth. Running tasks go on: Berth never stops a container because it stops itself.
. "$(dirname "$0")/common.sh"
require_root
if systemd_runs; then
    systemctl stop berth 2>/dev/null || true
else
    "$root/deploy/run-loop.sh" --stop
fi
[ "${1:-}" = --quiet ] || say "berth is stopped; its data stays, and its containers run on"
