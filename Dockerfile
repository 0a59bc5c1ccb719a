# Three images from one build: `docker build --target api .`, `--target worker`, `--target redis`.

ARG RUST_IMAGE=rust:1.95-bookworm
# Must not be older than the one above: the binaries use its C library.
ARG RUNTIME_IMAGE=debian:bookworm-slim
# 7.2 is the first version with WAITAOF (CRUNCH_DURABILITY=fsync), and the last under the BSD license.
ARG REDIS_IMAGE=redis:7.2-bookworm

FROM ${RUST_IMAGE} AS rust
WORKDIR /src

# The manifests of the workspace, with empty crates: they alone determine which dependencies are built, and how.
FROM rust AS manifests
COPY . .
RUN find . -name Cargo.toml -o -name Cargo.lock -o -name .cargo | tar -c -T - | tar -x -C / --one-top-level=manifests \
 && cd /manifests && for crate in $(find . -mindepth 2 -name Cargo.toml -exec dirname {} \;); do \
      mkdir -p "$crate/src" && : >"$crate/src/lib.rs" && echo 'fn main() {}' >"$crate/src/main.rs"; done

# The dependencies are a separate layer: a change of the sources does not rebuild them.
FROM rust AS build
COPY --from=manifests /manifests .
# A manifest contains the path of this test.
RUN mkdir -p tests/it && : >tests/it/main.rs \
 && cargo build --release --locked -p crunch-api -p crunch-worker --bins --target-dir /build
COPY . .
# Cargo compares times, and the sources are older than the empty crates: delete what was built from the empty crates.
RUN rm -rf /build/release/.fingerprint/crunch-* /build/release/deps/*crunch* /build/release/crunch-* \
 && cargo build --release --locked -p crunch-api -p crunch-worker --bins --target-dir /build \
 && mkdir -p /out && install -t /out /build/release/crunch-api /build/release/crunch-worker

FROM ${RUNTIME_IMAGE} AS runtime
# A fixed id, so that a cluster can check that it is not root, and volumes can be owned by it.
RUN groupadd --gid 10001 crunch \
 && useradd --uid 10001 --gid crunch --no-create-home --home-dir /tmp --shell /usr/sbin/nologin crunch \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/crunch
USER 10001:10001

FROM runtime AS api
COPY --from=build /out/crunch-api /usr/local/bin/
# Loopback is not reachable from outside the container. With this address the API does not start until it has keys
# (CRUNCH_API_KEYS), or until CRUNCH_AUTH=off turns authentication off.
ENV CRUNCH_API_ADDR=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=5s --start-period=600s --retries=3 CMD ["crunch-api", "health"]
# Without a shell, which would not forward SIGTERM.
ENTRYPOINT ["crunch-api"]

# The base for images with commands in other languages, such as examples/word-count/Dockerfile: install their dependencies
# as root, copy the commands and their tasks.toml, return to `USER 10001:10001`, and set CRUNCH_TASKS.
FROM runtime AS worker
COPY --from=build /out/crunch-worker /usr/local/bin/
# Only the health check uses it. To collect the metrics of the worker, set 0.0.0.0:9090.
ENV CRUNCH_WORKER_ADDR=127.0.0.1:9090
HEALTHCHECK --interval=5s --timeout=5s --start-period=600s --retries=3 CMD ["crunch-worker", "health"]
ENTRYPOINT ["crunch-worker"]

# Contains the configuration: the user of Redis could not read a file mounted from a clone that only its owner can read.
FROM ${REDIS_IMAGE} AS redis
COPY redis.conf deploy/redis-cluster.conf /etc/crunch/
COPY deploy/crunch-redis deploy/crunch-redis-cluster /usr/local/bin/
RUN chmod 755 /etc/crunch /usr/local/bin/crunch-redis* && chmod 644 /etc/crunch/*
