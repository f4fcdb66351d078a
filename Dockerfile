# One static binary, the public certificate authorities, licences, and the list of what the binary is made of. docs/image.md says how
# to build, run and verify the image; tests/image builds and runs it by these lines, without a Docker engine.

# For an image that is built from the same toolchain each time, put the digest of your mirror's copy after the tag.
FROM rust:1.95.0-bookworm AS build
WORKDIR /build
RUN cargo install --locked --debug --version 0.5.9 cargo-cyclonedx

# Dependencies are a layer of their own: they are built again when Cargo.lock changes, not when the source does.
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
COPY benches benches
RUN mkdir -p src && touch src/lib.rs && echo 'fn main() {}' > src/main.rs \
    && cargo build --locked --release --lib

COPY config config
COPY src src
# A checkout may be older than the layer above, and Cargo goes by age: without `touch` the empty library would be up to date.
# The flag links a static C library, and is for that last step alone: dependencies are those of `cargo build --release`, and macros,
# which the compiler loads and which could not be static, do not see it. So no target has to be named.
RUN touch src/lib.rs src/main.rs \
    && cargo rustc --locked --release --bin trustmint -- -C target-feature=+crt-static

ARG SOURCE_DATE_EPOCH
RUN cargo cyclonedx --format json --spec-version 1.5 --no-build-deps --override-filename trustmint.cdx

FROM scratch
ARG CREATED
ARG REVISION
ARG SOURCE
ARG VERSION
LABEL org.opencontainers.image.title="trustmint" \
      org.opencontainers.image.description="Trusted publishing for any package registry: a CI job's OIDC token becomes a scoped upload macaroon that expires in minutes." \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}"

# Identity providers' certificates are checked against these. Mount another bundle over the file to trust other authorities.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY LICENSE-APACHE LICENSE-MIT /licenses/
# Scanners look for the ending.
COPY --from=build /build/trustmint.cdx.json /usr/share/sbom/trustmint.cdx.json
COPY --from=build /build/target/release/trustmint /usr/local/bin/trustmint

# Names are looked up by the C library, which has the readers of /etc/hosts and of DNS in itself since glibc 2.34, and asks them in that
# order where there is no /etc/nsswitch.conf. The two files that it reads are those that every engine mounts.
WORKDIR /etc/trustmint
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/trustmint", "health", "--config", "/etc/trustmint/settings/trustmint.yaml"]
ENTRYPOINT ["/usr/local/bin/trustmint"]
CMD ["serve", "--config", "/etc/trustmint/settings/trustmint.yaml"]
