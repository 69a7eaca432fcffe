# The pipeline: runs the job file that is given as in "run /etc/headgate/job.yaml".
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
    -o /out/pipeline ./cmd/pipeline && mkdir /out/data

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="headgate pipeline" \
    org.opencontainers.image.description="Runs a job file: sources, the gate, the write queue and a sink" \
    org.opencontainers.image.source="https://github.com/headgate/headgate" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --chmod=644 deploy/docker/passwd /etc/passwd
# For dead letters and for a SQLite store: the one folder that the user may write
# to, and the one that a job's relative paths begin at.
COPY --from=build --chown=65532:65532 /out/data /var/lib/headgate
WORKDIR /var/lib/headgate
COPY --from=build /out/pipeline /pipeline
# By number, so that Kubernetes can tell that it is not root.
USER 65532:65532
ENV HEADGATE_JOB_METRICS_LISTEN=0.0.0.0:9400
EXPOSE 9400
ENTRYPOINT ["/pipeline"]
