# Two images from one build: `docker build --target api .` and `docker build --target worker .`

ARG RUST_IMAGE=rust:1.95-bookworm
# Must not be older than the one above: the binaries use its C library.
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p crunch-api -p crunch-worker --bins --target-dir /build \
 && install -D -t /out /build/release/crunch-api /build/release/crunch-worker \
 && rm -rf /build

FROM ${RUNTIME_IMAGE} AS runtime
# A fixed number, so that a cluster can check that it is not root's, and volumes can be given to it.
RUN groupadd --gid 10001 crunch \
 && useradd --uid 10001 --gid crunch --no-create-home --home-dir /tmp --shell /usr/sbin/nologin crunch
USER 10001:10001

FROM runtime AS api
COPY --from=build /out/crunch-api /usr/local/bin/
# Inside a container everything else comes from outside. The API refuses to start like this until it is given
# keys (CRUNCH_API_KEYS), or somebody says with CRUNCH_AUTH=off that nobody has to show who they are.
ENV CRUNCH_API_ADDR=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 CMD ["crunch-api", "health"]
# No shell in between: SIGTERM must arrive.
ENTRYPOINT ["crunch-api"]

# For commands in other languages, build on this one: install what they need as root, copy them and their tasks.toml in,
# go back to `USER 10001:10001`, and set CRUNCH_TASKS.
FROM runtime AS worker
COPY --from=build /out/crunch-worker /usr/local/bin/
ENTRYPOINT ["crunch-worker"]
