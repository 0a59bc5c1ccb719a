# Three images from one build: `docker build --target api .`, `--target worker`, `--target redis`.

ARG RUST_IMAGE=rust:1.95-bookworm
# Must not be older than the one above: the binaries use its C library.
ARG RUNTIME_IMAGE=debian:bookworm-slim
# 7.2 is the first that can be asked to wait for its disk (CRUNCH_DURABILITY=fsync), and the last under the BSD license.
ARG REDIS_IMAGE=redis:7.2-bookworm

FROM ${RUST_IMAGE} AS rust
WORKDIR /src

# The manifests of the workspace with empty crates beside them: all that decides which dependencies are built, and how.
FROM rust AS manifests
COPY . .
RUN find . -name Cargo.toml -o -name Cargo.lock -o -name .cargo | tar -c -T - | tar -x -C / --one-top-level=manifests \
 && cd /manifests && for crate in $(find . -mindepth 2 -name Cargo.toml -exec dirname {} \;); do \
      mkdir -p "$crate/src" && : >"$crate/src/lib.rs" && echo 'fn main() {}' >"$crate/src/main.rs"; done

# The dependencies are a layer of their own: an edit of our sources does not build them again.
FROM rust AS build
COPY --from=manifests /manifests .
# A test that a manifest names by its path.
RUN mkdir -p tests/it && : >tests/it/main.rs \
 && cargo build --release --locked -p crunch-api -p crunch-worker --bins --target-dir /build
COPY . .
# Cargo goes by times, and the sources are older than the empty crates: what was built of those is thrown away.
RUN rm -rf /build/release/.fingerprint/crunch-* /build/release/deps/*crunch* /build/release/crunch-* \
 && cargo build --release --locked -p crunch-api -p crunch-worker --bins --target-dir /build \
 && mkdir -p /out && install -t /out /build/release/crunch-api /build/release/crunch-worker

FROM ${RUNTIME_IMAGE} AS runtime
# A fixed number, so that a cluster can check that it is not root's, and volumes can be given to it.
RUN groupadd --gid 10001 crunch \
 && useradd --uid 10001 --gid crunch --no-create-home --home-dir /tmp --shell /usr/sbin/nologin crunch \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/crunch
USER 10001:10001

FROM runtime AS api
COPY --from=build /out/crunch-api /usr/local/bin/
# Inside a container everything else comes from outside. The API refuses to start like this until it is given
# keys (CRUNCH_API_KEYS), or somebody says with CRUNCH_AUTH=off that nobody has to show who they are.
ENV CRUNCH_API_ADDR=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=5s --start-period=600s --retries=3 CMD ["crunch-api", "health"]
# No shell in between: SIGTERM must arrive.
ENTRYPOINT ["crunch-api"]

# For commands in other languages, build on this one, as examples/word-count/Dockerfile does: install what they need as root, copy them
# and their tasks.toml in, go back to `USER 10001:10001`, and set CRUNCH_TASKS.
FROM runtime AS worker
COPY --from=build /out/crunch-worker /usr/local/bin/
# Only the health check asks it. To collect its metrics, set 0.0.0.0:9090.
ENV CRUNCH_WORKER_ADDR=127.0.0.1:9090
HEALTHCHECK --interval=5s --timeout=5s --start-period=600s --retries=3 CMD ["crunch-worker", "health"]
ENTRYPOINT ["crunch-worker"]

# With its configuration in it: mounted from a clone that only its owner can read, the user of Redis could not read it.
FROM ${REDIS_IMAGE} AS redis
COPY redis.conf /etc/crunch/redis.conf
COPY deploy/crunch-redis /usr/local/bin/
RUN chmod 755 /etc/crunch /usr/local/bin/crunch-redis && chmod 644 /etc/crunch/redis.conf
