#!/usr/bin/env bash
# From a fresh Debian machine to a running service: installs what is missing, builds Berth, starts it,
# builds an image, pushes it, deploys it, and prints where it answers. Run it again at any time.
# `--binary FILE` starts a binary that is there (deploy/release.sh makes some) and needs no Rust.
. "$(dirname "$0")/common.sh"

data=${BERTH_DATA:-/var/lib/berth}
listen=${BERTH_LISTEN:-127.0.0.1:5000}

main() {
    local binary
    case "${1:-} $#" in
    " 0") binary= ;;
    "--binary 2") binary=$(readlink -f "$2") && "$binary" --version >/dev/null || fail "$2 does not run on this machine" ;;
    *) fail "usage: deploy/up.sh [--binary FILE]" ;;
    esac
    require_root
    install_packages ca-certificates curl
    ensure_docker
    [ -n "$binary" ] || build
    start_berth "${binary:-$root/target/release/berth}"
    deploy_demo
    tell_next_steps
}

build() {
    install_packages gcc libc6-dev
    ensure_rust
    say "building berth (some minutes the first time)"
    (cd "$root" && cargo build --release --locked --quiet)
}

# Installs the binary and (re)starts the server only when the binary differs from the one that runs.
start_berth() {
    local built=$1 installed=/usr/local/bin/berth
    if ! cmp -s "$built" "$installed"; then
        install -m 0755 "$built" "$installed.new"
        mv "$installed.new" "$installed"
        "$root/deploy/down.sh" --quiet
    fi
    install -d -m 0700 "$data"
    if systemd_runs; then
        install -m 0644 "$root/deploy/systemd/berth.service" /etc/systemd/system/berth.service
        install -d /etc/systemd/system/berth.service.d
        printf '[Service]\nEnvironment=BERTH_DATA=%s BERTH_LISTEN=%s\n' "$data" "$listen" >/etc/systemd/system/berth.service.d/local.conf
        systemctl daemon-reload
        systemctl enable --now --quiet berth
    elif ! "$root/deploy/run-loop.sh" --running; then
        say "starting berth (log: /var/log/berth.log)"
        BERTH_DATA=$data BERTH_LISTEN=$listen setsid nohup "$root/deploy/run-loop.sh" >>/var/log/berth.log 2>&1 </dev/null &
    fi
    wait_until 30 curl -fsS "http://$listen/readyz" || fail "berth does not answer on $listen; see /var/log/berth.log or 'journalctl -u berth'"
}

# The image's tag is the hash of what it is made of, so that an unchanged clone neither builds nor deploys anew.
deploy_demo() (
    install_packages busybox-static
    context=$(mktemp -d)
    trap 'rm -rf "$context"' EXIT
    cp "$root/deploy/demo/Dockerfile" "$root/deploy/demo/index.html" /bin/busybox "$context"
    image=$listen/hello:$(cat "$context/Dockerfile" "$context/index.html" "$context/busybox" | sha256sum | cut -c1-12)
    account=${BERTH_ACCOUNT_ID:-000000000000}

    key=$(sed -n 's/^aws_access_key_id *= *//p' "$data/credentials")
    secret=$(sed -n 's/^aws_secret_access_key *= *//p' "$data/credentials")
    [ -n "$key" ] || fail "$data/credentials holds no access key; 'berth admin reset' makes a new one"
    # The login is kept in a folder of its own: whose docker configuration root's is, is not ours to change.
    config=$context/docker
    printf '%s' "$secret" | docker --config "$config" login --username "$key" --password-stdin "$listen" >/dev/null 2>&1 ||
        fail "docker login to $listen failed"
    if ! docker --config "$config" manifest inspect --insecure "$image" >/dev/null 2>&1; then
        say "building and pushing $image"
        docker build --quiet --tag "$image" "$context" >"$context/log" 2>&1 || { cat "$context/log" >&2; fail "docker build failed"; }
        docker --config "$config" push --quiet "$image" >/dev/null
    fi
    sed -e "s|IMAGE|$image|" -e "s|ACCOUNT|$account|" "$root/deploy/demo/service.json" >"$context/service.json"
    berth deploy "$context/service.json" --data "$data"
)

tell_next_steps() {
    cat <<TEXT

Berth runs on http://$listen. For aws and boto3 in this shell:

    export AWS_ENDPOINT_URL=http://$listen AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1
    export AWS_SHARED_CREDENTIALS_FILE=$data/credentials

For docker, podman, buildah and skopeo:

    aws ecr get-login-password | docker login --username AWS --password-stdin $listen

Stop it with deploy/down.sh; the data stays in $data.
TEXT
}

main "$@"
