# The external scaler: what KEDA asks it, from the same signals.
# Built from the root of the repository; "make images" does it.
ARG GO_VERSION=1.26.0

FROM --platform=$BUILDPLATFORM docker.io/library/golang:${GO_VERSION} AS build
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=unknown
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
    -ldflags "-s -w -buildid= -X github.com/prometheus/common/version.Version=$VERSION" \
    -o /out/external-scaler ./cmd/external-scaler

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="headgate external-scaler" \
    org.opencontainers.image.description="Answers KEDA how many replicas a pipeline should have" \
    org.opencontainers.image.source="https://github.com/headgate/headgate" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --chmod=644 deploy/docker/passwd /etc/passwd
COPY --from=build /out/external-scaler /external-scaler
# By number, so that Kubernetes can tell that it is not root.
USER 65532:65532
ENV HEADGATE_SCALER_LISTEN=0.0.0.0:8081 HEADGATE_SCALER_GRPC_LISTEN=0.0.0.0:6000
EXPOSE 6000 8081
ENTRYPOINT ["/external-scaler"]
