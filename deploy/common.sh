# What up.sh, down.sh and test.sh share: installing packages, finding Rust, reaching a Docker Engine.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
minimum_rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")

say() { printf '==> %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

require_root() {
    [ "$(id -u)" = 0 ] || fail "run this as root: it installs packages and starts services"
}

# Installs the Debian packages that are not there yet.
install_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    command -v apt-get >/dev/null || fail "install these packages with your package manager, then run this again: ${missing[*]}"
    say "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

rust_is_new_enough() {
    local version
    version=$(cargo --version 2>/dev/null | cut -d' ' -f2) || return 1
    [ -n "$version" ] && [ "$(printf '%s\n' "$minimum_rust" "$version" | sort -V | head -n1)" = "$minimum_rust" ]
}

# A cargo that is new enough on PATH, by way of rustup where there is none.
ensure_rust() {
    # shellcheck disable=SC1091
    [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
    rust_is_new_enough && return
    if ! command -v rustup >/dev/null; then
        say "installing rustup"
        curl --proto '=https' --tlsv1.2 -fsS https://sh.rustup.rs 2>/dev/null | sh -s -- -y -q --profile minimal --no-modify-path >/dev/null 2>&1 || true
        # shellcheck disable=SC1091
        [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
    fi
    if command -v rustup >/dev/null; then
        say "installing Rust $minimum_rust"
        rustup toolchain install "$minimum_rust" --profile minimal --component clippy >/dev/null 2>&1 || true
        export RUSTUP_TOOLCHAIN=$minimum_rust
    fi
    rust_is_new_enough || fail "Berth needs Rust $minimum_rust or newer: install it from https://rustup.rs, then run this again"
}

systemd_runs() { [ -d /run/systemd/system ]; }

# A Docker Engine that answers: the running one, systemd's, or one started here.
ensure_docker() {
    docker version >/dev/null 2>&1 && return
    install_packages docker.io iptables
    docker version >/dev/null 2>&1 && return
    if systemd_runs; then
        systemctl start docker
    else
        say "starting dockerd (log: /var/log/dockerd.log)"
        # A pid file left by a machine that lost power would keep the engine from starting.
        if [ -f /run/docker.pid ] && ! kill -0 "$(cat /run/docker.pid)" 2>/dev/null; then rm -f /run/docker.pid; fi
        setsid nohup dockerd >/var/log/dockerd.log 2>&1 </dev/null &
    fi
    wait_until 60 docker version || fail "the Docker Engine does not answer; see /var/log/dockerd.log or 'journalctl -u docker'"
}

# wait_until SECONDS COMMAND...: 0 as soon as the command succeeds, 1 when the time is over.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.2
    done
}
