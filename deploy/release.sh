#!/usr/bin/env bash
# Builds a release into dist/: a binary for Debian 12 and later, a Docker image, and their checksums.
# It is to be run on Debian 12: a binary needs the C library of the machine it was built on, or a newer one.
. "$(dirname "$0")/common.sh"

# The C library of Debian 12.
newest_glibc=2.36
image=berth

main() {
    install_packages ca-certificates curl gcc libc6-dev binutils
    ensure_rust
    local version name binary dist=$root/dist
    version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    name=berth-$version-linux-$(uname -m)
    say "building berth $version (some minutes)"
    (cd "$root" && cargo build --profile dist --locked --quiet --package berth)
    binary=$root/target/dist/berth
    check_glibc "$binary"
    mkdir -p "$dist"
    install -m 0755 "$binary" "$dist/$name"
    make_image "$dist/$name" "$version"
    docker save "$image:$version" "$image:latest" | gzip -n >"$dist/$name.image.tar.gz"
    (cd "$dist" && sha256sum "$name" "$name.image.tar.gz" >SHA256SUMS)
    say "made in $dist, and the image $image:$version in this machine's Docker:"
    cat "$dist/SHA256SUMS"
}

# Refuses a binary that a Debian 12 could not start.
check_glibc() {
    local needed
    needed=$(objdump -T "$1" | grep -o 'GLIBC_[0-9.]*' | cut -d_ -f2 | sort -uV | tail -n1)
    [ "$(printf '%s\n' "$newest_glibc" "$needed" | sort -V | tail -n1)" = "$newest_glibc" ] ||
        fail "the binary needs glibc $needed, and Debian 12 has $newest_glibc: build releases on Debian 12"
}

# An image of nothing but the binary, the libraries it is linked with, and the CAs of this machine.
make_image() (
    ensure_docker
    context=$(mktemp -d)
    trap 'rm -rf "$context"' EXIT
    files=$context/root
    install -D -m 0755 "$1" "$files/usr/bin/berth"
    ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
        install -D -m 0755 "$(readlink -f "$library")" "$files$library"
    done
    install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$files/etc/ssl/certs/ca-certificates.crt"
    printf 'berth:x:10001:10001::/var/lib/berth:/\n' | install -D -m 0644 /dev/stdin "$files/etc/passwd"
    printf 'berth:x:10001:\n' | install -D -m 0644 /dev/stdin "$files/etc/group"
    printf 'hosts: files dns\n' | install -D -m 0644 /dev/stdin "$files/etc/nsswitch.conf"
    install -d -m 1777 "$files/tmp"
    install -d -m 0700 "$context/data"
    docker build --quiet --file "$root/deploy/docker/Dockerfile" --tag "$image:$2" --tag "$image:latest" "$context" >/dev/null
)

main "$@"
