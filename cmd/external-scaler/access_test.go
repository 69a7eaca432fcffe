package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	prom "github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/headgate/headgate/access/accesstest"
	"github.com/headgate/headgate/internal/route/routetest"
	"github.com/headgate/headgate/scaler"
)

func TestEveryRouteOfTheScalerIsForThoseWithItsRole(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	routes := scaler.NewServer(scaler.NewSignals(nil, time.Second, time.Second, time.Minute, quiet), quiet).Routes(prom.NewRegistry())
	_, program, _ := start(t, "HEADGATE_PROMETHEUS_URL=http://127.0.0.1:9", "HEADGATE_SCALER_ACCESS_FILE="+accesstest.File(t))
	until(t, "the HTTP server listens", func() bool { return listeningHTTP.MatchString(program.log()) })
	routetest.Try(t, "http://"+listeningHTTP.FindStringSubmatch(program.log())[1], routes)
	routetest.Described(t, "../..", "external-scaler", routes)
}

func TestEveryCallOfTheScalerIsForThoseWithItsRole(t *testing.T) {
	address, _, _ := start(t, "HEADGATE_PROMETHEUS_URL=http://127.0.0.1:9", "HEADGATE_SCALER_ACCESS_FILE="+accesstest.File(t))
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, call := range scaler.Calls() { // TestEveryCallThatIsServedHasARole holds the list to what is served
		for _, c := range accesstest.Clients() {
			got := codeOf(t, conn, call.Method, c.Authorization)
			refused := got == codes.Unauthenticated || got == codes.PermissionDenied
			switch {
			case c.May(call.Role):
				if refused {
					t.Errorf("%s is answered %v to %s, who may make it", call.Method, got, c.Name)
				}
			case c.Known() && got != codes.PermissionDenied, !c.Known() && got != codes.Unauthenticated:
				t.Errorf("%s is answered %v to %s, who may not make it", call.Method, got, c.Name)
			}
		}
	}
}

// codeOf makes a call with an empty message and tells what comes first.
func codeOf(t *testing.T, conn *grpc.ClientConn, method, authorization string) codes.Code {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if authorization != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", authorization)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return status.Code(err)
	}
	// A call that is refused early ends before it is sent; why is then received.
	if err := stream.SendMsg(&pb.ScaledObjectRef{}); err != nil && !errors.Is(err, io.EOF) {
		return status.Code(err)
	}
	stream.CloseSend()
	var answer pb.IsActiveResponse // the fields of others are passed over
	return status.Code(stream.RecvMsg(&answer))
}

func TestTheScalerTellsNoSecret(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := write("good.yml", "basic_auth: {username: ann, password: "+routetest.Secret+"}\n")
	bad := write("bad.yml", "basic_auth_users: {ann: ["+routetest.Secret+"]}\n")
	environ := []string{
		"HEADGATE_PROMETHEUS_URL=http://ann:" + routetest.Secret + "@127.0.0.1:9", "HEADGATE_PROMETHEUS_CLIENT_CONFIG_FILE=" + good,
		"HEADGATE_COORDINATOR_CLIENT_CONFIG_FILE=" + good, "HEADGATE_SCALER_COORDINATOR_URLS=http://127.0.0.1:9", "HEADGATE_LOG_LEVEL=debug",
		"HEADGATE_SCALER_ACCESS_FILE=" + accesstest.File(t),
	}
	for name, more := range map[string]string{
		"client settings that are wrong":        "HEADGATE_PROMETHEUS_CLIENT_CONFIG_FILE=" + bad,
		"a web configuration that is wrong":     "HEADGATE_SCALER_WEB_CONFIG_FILE=" + bad,
		"one for gRPC":                          "HEADGATE_SCALER_GRPC_WEB_CONFIG_FILE=" + bad,
		"an access file that is none":           "HEADGATE_SCALER_ACCESS_FILE=" + good,
		"defaults that are none":                "HEADGATE_SCALER_DEFAULTS_FILE=" + write("defaults.yml", "metrics: ["),
		"an address of a coordinator":           "HEADGATE_SCALER_COORDINATOR_URLS=ftp://ann:" + routetest.Secret + "@x",
		"an address of Prometheus that is none": "HEADGATE_PROMETHEUS_URL=ftp://ann:" + routetest.Secret + "@x",
	} {
		var said program
		if status := runMain(t.Context(), nil, append(slices.Clone(environ), more), &said, &said); status != exitSettings {
			t.Errorf("%s: exit status %d", name, status)
		}
		routetest.KeepsSecrets(t, name, said.log())
	}
	var help program
	runMain(t.Context(), []string{"--help"}, environ, &help, &help)
	routetest.KeepsSecrets(t, "--help", help.log())

	quiet := slog.New(slog.DiscardHandler)
	routes := scaler.NewServer(scaler.NewSignals(nil, time.Second, time.Second, time.Minute, quiet), quiet).Routes(prom.NewRegistry())
	_, program, stop := start(t, environ...)
	until(t, "the HTTP server listens, and Prometheus is missed", func() bool {
		return listeningHTTP.MatchString(program.log()) && strings.Contains(program.log(), "connection refused")
	})
	routetest.KeepsSecrets(t, "the scaler's port", routetest.Told(t, "http://"+listeningHTTP.FindStringSubmatch(program.log())[1], routes))
	stop()
	routetest.KeepsSecrets(t, "the log", program.log())
}
