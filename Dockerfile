FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# What coredns -version says: --build-arg VERSION="$(git describe --tags --always --dirty)"
ARG VERSION=devel
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w -X main.version=$VERSION" -o /coredns ./coredns
# Port 53 without root. NAT needs more: run with --user 0 and NET_ADMIN.
RUN apt-get update && apt-get install -y --no-install-recommends libcap2-bin && setcap cap_net_bind_service=+ep /coredns

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends iptables nftables ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /coredns /coredns
USER 65532:65532
EXPOSE 53 53/udp
ENTRYPOINT ["/coredns"]
