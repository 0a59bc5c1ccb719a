# Finds the images that Dockerfile begins with, or makes stand-ins for them. Sourced by `compose-test`, never run.
#
# An engine that can pull the images named in Dockerfile uses them. Without access to a registry, stand-ins are made of
# Debian's packages and of the Rust and the crates of this machine, and are kept for the next run.
# shellcheck shell=bash

# Has Redis 8; the first release with a Redis that has WAITAOF, as the image named in Dockerfile.
readonly STAND_IN_DEBIAN=trixie

# Exports RUST_IMAGE, RUNTIME_IMAGE and REDIS_IMAGE, which docker-compose.yml passes to the builds. What is set stays.
find_base_images() {
  local name image missing=()
  for name in RUST_IMAGE RUNTIME_IMAGE REDIS_IMAGE; do
    image=${!name:-$(sed -n "s/^ARG $name=//p" Dockerfile)}
    export "$name=$image"
    docker image inspect "$image" >/dev/null 2>&1 || docker pull --quiet "$image" >/dev/null 2>&1 || missing+=("$name")
  done
  for name in "${missing[@]}"; do
    echo "script/${0##*/}: ${!name} cannot be pulled: using a stand-in" >&2
    make_debian
    case $name in
      RUST_IMAGE) make_rust ;;
      RUNTIME_IMAGE) export RUNTIME_IMAGE=crunch-test-debian ;;
      REDIS_IMAGE) make_redis ;;
    esac
  done
}

# Debian without anything that is not needed to install packages.
make_debian() {
  ! has_image crunch-test-debian || return 0
  require debootstrap
  ((EUID == 0)) || fail "debootstrap needs root to make a stand-in for a base image"
  local directory
  directory=$(mktemp -d)
  debootstrap --variant=minbase "$STAND_IN_DEBIAN" "$directory" >"$directory.log" ||
    fail "debootstrap failed: see $directory.log"
  rm -rf "$directory"/var/cache/apt/archives/*.deb "$directory"/var/lib/apt/lists/* "$directory.log"
  tar -C "$directory" -c . | docker import - crunch-test-debian >/dev/null
  rm -rf "$directory"
}

# The toolchain of this machine, a linker, and the crates of Cargo.lock, so that the build needs no registry. It optimizes
# little: that takes a third of the time. Another toolchain, lock or recipe is another image.
make_rust() {
  local version rust crates
  version=$(cat Cargo.lock <(cargo --version) <(declare -f make_rust) | cksum | cut -d ' ' -f 1)
  RUST_IMAGE=crunch-test-rust:$version
  ! has_image "$RUST_IMAGE" || return 0
  cargo fetch --locked
  rust=$(rustc --print sysroot)
  crates=${CARGO_HOME:-$HOME/.cargo}/registry
  {
    cat <<'END'
FROM crunch-test-debian
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY rust /usr/local
COPY crates /usr/local/cargo/registry
ENV CARGO_HOME=/usr/local/cargo CARGO_NET_OFFLINE=true
ENV CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
END
  } | build_from "$RUST_IMAGE" \
    --transform 's,^\./lib,rust/lib,S' --transform 's,^\./bin,rust/bin,S' --transform 's,^\./\(index\|cache\),crates/\1,S' \
    -C "$rust" ./bin ./lib -C "$crates" ./index ./cache
}

# The ids of the user and the data directory are those of the image named in Dockerfile.
make_redis() {
  REDIS_IMAGE=crunch-test-redis
  ! has_image "$REDIS_IMAGE" || return 0
  build_from "$REDIS_IMAGE" <<'END'
FROM crunch-test-debian
RUN groupadd --gid 999 redis && useradd --uid 999 --gid redis --no-create-home --home-dir /data redis \
 && install -d -o redis -g redis /data
RUN apt-get update && apt-get install -y --no-install-recommends redis-server redis-tools && rm -rf /var/lib/apt/lists/*
WORKDIR /data
END
}

has_image() {
  docker image inspect "$1" >/dev/null 2>&1
}

# build_from IMAGE TAR_ARGUMENTS…: builds the Dockerfile on standard input, with the files that the arguments of tar name.
build_from() {
  local image=$1 directory
  shift
  directory=$(mktemp -d)
  cat >"$directory/Dockerfile"
  tar -c -C "$directory" Dockerfile "$@" | docker build --quiet --tag "$image" - >/dev/null
  rm -rf "$directory"
}
