# The proxy's image: one binary, no shell, no root. Settings: /etc/fluent-auth-proxy/proxy.toml, or variables.
#
#     docker build -t fluent-auth-proxy .                                  for the machine at hand
#     docker build --platform linux/amd64,linux/arm64 -t … --push .        for both, cross-compiled, not emulated
#     docker build --target sandbox -t fluent-sandbox .                    the simulated Fluent of deploy/compose.yaml
#
# Where these images come from elsewhere: --build-arg RUST_IMAGE=…, --build-arg RUNTIME_IMAGE=…
ARG RUST_IMAGE=docker.io/library/rust:1.95-slim-bookworm
# The program is static: certificates and a user are all that it needs.
ARG RUNTIME_IMAGE=gcr.io/distroless/static-debian12:nonroot

FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS dependencies
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /build
# Puts the list of crates into the program, for scanners of images.
COPY deploy/tools deploy/tools
RUN deploy/tools cargo-auditable
ENV PATH=/build/target/tools/bin:$PATH
# What makes the list of licences.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*
# From here on the architectures part: what is above is made once for all.
ARG TARGETARCH
# A linker for the other architecture, where that is wanted; /build/target-triple says which one it is.
# hadolint ignore=DL3008
RUN case "${TARGETARCH:=$(dpkg --print-architecture)}" in \
      amd64) machine=x86_64 compiler=gcc-x86-64-linux-gnu ;; \
      arm64) machine=aarch64 compiler=gcc-aarch64-linux-gnu ;; \
      *) echo "no such architecture here: $TARGETARCH" >&2; exit 1 ;; \
    esac \
    && echo "$machine-unknown-linux-gnu" > target-triple \
    && mkdir .cargo \
    && printf '[target.%s]\nrustflags = ["-Ctarget-feature=+crt-static"]\n' "$(cat target-triple)" > .cargo/config.toml \
    && if [ "$TARGETARCH" != "$(dpkg --print-architecture)" ]; then \
      apt-get update \
      && apt-get install -y --no-install-recommends "$compiler" "libc6-dev-$TARGETARCH-cross" \
      && rm -rf /var/lib/apt/lists/* \
      && rustup target add "$(cat target-triple)" \
      && printf 'linker = "%s-linux-gnu-gcc"\n' "$machine" >> .cargo/config.toml; \
    fi
# Dependencies alone, in a layer that lasts until Cargo.lock changes: each crate of ours is empty here.
COPY Cargo.toml Cargo.lock ./
COPY tests/bench/Cargo.toml tests/bench/
COPY tests/sandbox/Cargo.toml tests/sandbox/
RUN mkdir -p src deploy/clients tests/bench/benches tests/bench/src tests/demo tests/sandbox/src \
    && touch src/lib.rs tests/sandbox/src/lib.rs \
    && echo 'fn main() {}' | tee src/main.rs deploy/clients/client.rs tests/bench/benches/instructions.rs \
      tests/bench/src/main.rs tests/demo/main.rs tests/sandbox/src/main.rs \
    && cargo auditable build --release --locked --target "$(cat target-triple)" --package fluent-auth-proxy --bin fluent-auth-proxy

FROM dependencies AS build
COPY LICENSE LICENSE
COPY deploy/licences deploy/shipped deploy/
COPY config config
COPY src src
# Copies keep their age, and cargo builds again only what is younger than what it built.
RUN find src -name '*.rs' -exec touch {} + \
    && cargo auditable build --release --locked --target "$(cat target-triple)" --package fluent-auth-proxy --bin fluent-auth-proxy \
    && mkdir -p /out/var/lib/fluent-auth-proxy \
    && cp "target/$(cat target-triple)/release/fluent-auth-proxy" /out/ \
    && deploy/licences "$(cat target-triple)" > /out/THIRD-PARTY-LICENCES

FROM dependencies AS build-sandbox
COPY tests/sandbox tests/sandbox
RUN find tests/sandbox -name '*.rs' -exec touch {} + \
    && cargo auditable build --release --locked --target "$(cat target-triple)" --package fluent-sandbox --bin fluent-sandbox \
    && mkdir -p /out \
    && cp "target/$(cat target-triple)/release/fluent-sandbox" /out/

# hadolint ignore=DL3006
FROM ${RUNTIME_IMAGE} AS sandbox
COPY --from=build-sandbox /out/fluent-sandbox /usr/bin/fluent-sandbox
USER 65532:65532
EXPOSE 4290
ENTRYPOINT ["/usr/bin/fluent-sandbox"]

# hadolint ignore=DL3006
FROM ${RUNTIME_IMAGE} AS proxy
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="fluent-auth-proxy" \
      org.opencontainers.image.description="An authenticating reverse proxy for the Fluent Commerce GraphQL API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/fluent-auth-proxy /usr/bin/fluent-auth-proxy
# The place for cache.store = "file", for a volume: its owner is whom the proxy runs as.
COPY --from=build --chown=65532:65532 /out/var/lib/fluent-auth-proxy /var/lib/fluent-auth-proxy
COPY --from=build /out/THIRD-PARTY-LICENCES /usr/share/doc/fluent-auth-proxy/
COPY LICENSE /usr/share/doc/fluent-auth-proxy/
USER 65532:65532
WORKDIR /var/lib/fluent-auth-proxy
EXPOSE 4280 4281
# Alive, not ready: a refused account is not mended by a restart.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/bin/fluent-auth-proxy", "health", "--live"]
ENTRYPOINT ["/usr/bin/fluent-auth-proxy"]
CMD ["serve"]
