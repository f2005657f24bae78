# vocabd in an image that holds one static binary and the CA certificates, and nothing to patch or to log in to.
# docker build -t vocabd . && docker run --read-only -p 127.0.0.1:8080:8080 -v vocabd:/data vocabd

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# A static glibc binary for the architecture that builds it; --target keeps the flags away from build scripts and macros. Made small
# where it costs no time: no line tables and no symbols (a panic still logs its file and line), relocations packed, and where the linker
# is lld (x86-64) functions that are alike are one.
ENV CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=symbols
# The cached build must not take these sources for its own because they are older than it.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    touch src/lib.rs src/main.rs \
    && target=$(rustc -vV | sed -n 's/^host: //p') \
    && case $target in x86_64-*) same=,--icf=all ;; *) same= ;; esac \
    && export RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs$same" \
    && cargo build --release --locked --bin vocabd --target "$target" \
    && mkdir -p /image/data /image/etc/ssl/certs \
    && cp "target/$target/release/vocabd" /image/vocabd \
    && deploy/sbom.sh "$target" > /image/sbom.cdx.json \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && echo 'vocabd:x:65532:65532:vocabd:/data:/sbin/nologin' > /image/etc/passwd \
    && echo 'vocabd:x:65532:' > /image/etc/group

FROM scratch
COPY --from=build /image/etc /etc
COPY --from=build /image/vocabd /vocabd
COPY --from=build /image/sbom.cdx.json /sbom.cdx.json
COPY --from=build --chown=65532:65532 /image/data /data
# In so many words: the container's network decides who may call. Publish the port to 127.0.0.1, or ask for keys with
# VOCABD_KEYS_FILE, which counts whatever is said here.
ENV VOCABD_LISTEN=0.0.0.0:8080 VOCABD_ALLOW_UNAUTHENTICATED=true VOCABD_DATA_DIR=/data
USER 65532:65532
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/vocabd", "health"]
ENTRYPOINT ["/vocabd"]
CMD ["serve"]
