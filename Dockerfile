FROM rust:1.95-slim-bookworm AS build
