ARG PG=15
ARG RUST=1.95

FROM rust:${RUST}-slim-bookworm AS rust

FROM postgres:${PG}-bookworm AS build
ARG PG
RUN apt-get update && apt-get install -y --no-install-recommends \
        ca-certificates gcc libc6-dev libclang-dev make postgresql-server-dev-${PG} \
    && rm -rf /var/lib/apt/lists/*
COPY --from=rust /usr/local/rustup /usr/local/rustup
COPY --from=rust /usr/local/cargo /usr/local/cargo
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH
WORKDIR /src
COPY . .
RUN make install DESTDIR=/out PG_CONFIG=/usr/lib/postgresql/${PG}/bin/pg_config

FROM postgres:${PG}-bookworm
COPY --from=build /out/ /
