package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/headgate/headgate/access"
	"github.com/headgate/headgate/coordinator"
	"github.com/headgate/headgate/coordinator/client"
	"github.com/headgate/headgate/coordinator/feedback"
	"github.com/headgate/headgate/coordinator/httpapi"
	"github.com/headgate/headgate/internal/promserver"
	"github.com/headgate/headgate/pressure"
	"github.com/headgate/headgate/settings"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program is the scaler as it runs, by its arguments and environment.
type program struct {
	mu     sync.Mutex
	stderr strings.Builder
}

func (p *program) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.Write(text)
}

func (p *program) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

var listening = regexp.MustCompile(`msg="listening for KEDA" address=(\S+)`)

// start runs the scaler with that environment and returns its gRPC address. It
// is stopped by stop, which returns its exit status.
func start(t *testing.T, environ ...string) (address string, p *program, stop func() int) {
	t.Helper()
	p = &program{}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	environ = append(environ, "HEADGATE_SCALER_LISTEN=127.0.0.1:0", "HEADGATE_SCALER_GRPC_LISTEN=127.0.0.1:0", "HEADGATE_SCALER_INTERVAL=100ms")
	go func() { ended <- runMain(ctx, nil, environ, io.Discard, p) }()
	stop = sync.OnceValue(func() int {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { stop() })
	until(t, "the scaler listens", func() bool {
		match := listening.FindStringSubmatch(p.log())
		if match != nil {
			address = match[1]
		}
		return match != nil
	})
	return address, p, stop
}

// until waits for a condition that other processes or goroutines bring about.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after 30 s it is not so: %s", what)
		}
	}
}

func dial(t *testing.T, address string, creds credentials.TransportCredentials) pb.ExternalScalerClient {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return pb.NewExternalScalerClient(conn)
}

var bars = &pb.ScaledObjectRef{Name: "pipeline", Namespace: "shop", ScalerMetadata: map[string]string{"coordinatorIds": "bars"}}

func TestTheScalerAnswersFromARealPrometheus(t *testing.T) {
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "coordinator_queue_depth{coordinator_id=\"bars\"} 4200\ncoordinator_queue_capacity{coordinator_id=\"bars\"} 10000\n")
	}))
	defer exporter.Close()
	prometheus := promserver.StartForTest(t, 200*time.Millisecond,
		promserver.Scrape{Job: "pipeline", Targets: []string{strings.TrimPrefix(exporter.URL, "http://")}})
	address, _, stop := start(t, "HEADGATE_PROMETHEUS_URL="+prometheus.URL, "HEADGATE_SCALER_STALE_AFTER=2s")
	client := dial(t, address, insecure.NewCredentials())
	value := func() (float64, error) {
		answer, err := client.GetMetrics(t.Context(), &pb.GetMetricsRequest{ScaledObjectRef: bars, MetricName: "headgate-queue-depth"})
		if err != nil {
			return 0, err
		}
		return answer.MetricValues[0].MetricValueFloat, nil
	}
	until(t, "the depth is answered", func() bool { v, err := value(); return err == nil && v == 4200 })
	if err := prometheus.Stop(); err != nil {
		t.Fatal(err)
	}
	until(t, "a depth that is too old is Unavailable", func() bool { _, err := value(); return status.Code(err) == codes.Unavailable })
	if status := stop(); status != exitOK {
		t.Errorf("exit status is %d, want 0", status)
	}
}

func TestACoordinatorsWordReachesKEDAWithoutPrometheus(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	gate := coordinator.New(coordinator.WithLogger(quiet))
	defer gate.Close()
	handler := httpapi.New(t.Context(), gate, feedback.NewBus(quiet), quiet, access.Everyone())
	subscribed := make(chan struct{}, 1)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/changes" {
			select {
			case subscribed <- struct{}{}:
			default:
			}
		}
		handler.ServeHTTP(w, r)
	}))
	defer api.Close()
	// The interval of start is short, but there is nothing to read.
	address, _, stop := start(t, "HEADGATE_PROMETHEUS_URL=http://127.0.0.1:9", "HEADGATE_SCALER_COORDINATOR_URLS="+api.URL)
	stream, err := dial(t, address, insecure.NewCredentials()).StreamIsActive(t.Context(), bars)
	if err != nil {
		t.Fatal(err)
	}
	<-subscribed
	sender, err := client.New(api.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan bool)
	go func() {
		defer close(told)
		for {
			answer, err := stream.Recv()
			if err != nil {
				return
			}
			told <- answer.Result
		}
	}()
	limit := time.After(30 * time.Second)
	for _, size := range []int{4200, 0, 17} {
		event := pressure.Event{CoordinatorID: "bars", QueueSize: size, Capacity: 10_000, Level: pressure.OK}
		// The stream's first event may come before the coordinator listens to the
		// subscriber, and is then sent again.
		again := time.NewTicker(200 * time.Millisecond)
		for answered := false; !answered; {
			if err := sender.Feedback(t.Context(), event); err != nil {
				t.Fatal(err)
			}
			select {
			case active, open := <-told:
				if !open || active != (size > 0) {
					t.Errorf("with %d items active is %v", size, active)
				}
				answered = true
			case <-again.C:
			case <-limit:
				t.Fatal("the event is not told within 30 s")
			}
		}
		again.Stop()
	}
	if status := stop(); status != exitOK {
		t.Errorf("exit status is %d, want 0", status)
	}
	if _, open := <-told; open {
		t.Error("there was one message more")
	}
}

// authority signs certificates for a test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue signs a certificate for a name, with that serial number.
func (a *authority) issue(t *testing.T, name string, serial int64) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

func TestOnlyTheRightClientIsServedAndCertificatesMayBeRotated(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	serve := func(serial int64) {
		certificate, key := ours.issue(t, "headgate", serial)
		write("tls.crt", certificate)
		write("tls.key", key)
	}
	serve(10)
	write("ca.crt", ours.pem)
	write("web.yml", []byte("tls_server_config: {cert_file: tls.crt, key_file: tls.key, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt}\n"))
	address, _, _ := start(t, "HEADGATE_PROMETHEUS_URL=http://127.0.0.1:9",
		"HEADGATE_SCALER_GRPC_WEB_CONFIG_FILE="+filepath.Join(dir, "web.yml"), "HEADGATE_SCALER_CLIENT_NAMES=keda-operator")

	roots := x509.NewCertPool()
	roots.AddCert(ours.certificate)
	var served int64 // serial number of the server's certificate
	call := func(by *authority, name string) error {
		config := &tls.Config{RootCAs: roots, VerifyConnection: func(state tls.ConnectionState) error {
			served = state.PeerCertificates[0].SerialNumber.Int64()
			return nil
		}}
		if by != nil {
			pair, err := tls.X509KeyPair(by.issue(t, name, 20))
			if err != nil {
				t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{pair}
		}
		_, err := dial(t, address, credentials.NewTLS(config)).GetMetricSpec(t.Context(), bars)
		return err
	}
	if err := call(ours, "keda-operator"); err != nil {
		t.Errorf("the right client gets %v", err)
	}
	if err := call(ours, "somebody"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a wrong name gets %v, want PermissionDenied", err)
	}
	if err := call(theirs, "keda-operator"); status.Code(err) != codes.Unavailable {
		t.Errorf("a certificate of another authority gets %v, want no connection", err)
	}
	if err := call(nil, ""); status.Code(err) != codes.Unavailable {
		t.Errorf("no certificate gets %v, want no connection", err)
	}
	serve(11)
	if err := call(ours, "keda-operator"); err != nil || served != 11 {
		t.Errorf("after the rotation the server shows certificate %d, %v; want 11", served, err)
	}
	write("ca.crt", theirs.pem)
	if err := call(theirs, "keda-operator"); err != nil {
		t.Errorf("after the rotation of the authority its client gets %v", err)
	}
	if err := call(ours, "keda-operator"); status.Code(err) != codes.Unavailable {
		t.Errorf("after the rotation of the authority a client of the old one gets %v, want no connection", err)
	}
}

func TestAClientsNameNeedsACertificateThatIsVerified(t *testing.T) {
	dir := t.TempDir()
	certificate, key := newAuthority(t).issue(t, "headgate", 10)
	for name, data := range map[string]string{
		"tls.crt": string(certificate), "tls.key": string(key),
		"web.yml": "tls_server_config: {cert_file: tls.crt, key_file: tls.key, client_auth_type: RequireAnyClientCert}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var stderr strings.Builder
	status := runMain(t.Context(), nil, []string{
		"HEADGATE_SCALER_GRPC_WEB_CONFIG_FILE=" + filepath.Join(dir, "web.yml"), "HEADGATE_SCALER_CLIENT_NAMES=keda-operator",
	}, io.Discard, &stderr)
	if status != exitSettings || !strings.Contains(stderr.String(), "HEADGATE_SCALER_CLIENT_NAMES") || !strings.Contains(stderr.String(), "RequireAndVerifyClientCert") {
		t.Errorf("exit status is %d and\n%s", status, stderr.String())
	}
}

var listeningHTTP = regexp.MustCompile(`msg="Listening on".* address=(\S+)`)

func TestTheDefaultsFileCountsWhenItsConfigMapChanges(t *testing.T) {
	// As the kubelet writes a ConfigMap: the file is a link into a folder that
	// is a link itself, and the latter is replaced.
	dir := t.TempDir()
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	version := 0
	write := func(text string) {
		t.Helper()
		version++
		folder := fmt.Sprint("..version-", version)
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, folder, "defaults.yml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		link(folder, "..data.new")
		if err := os.Rename(filepath.Join(dir, "..data.new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	write("metrics: {queueDepth: {targetValue: 500}}")
	link(filepath.Join("..data", "defaults.yml"), "defaults.yml")

	address, program, stop := start(t, "HEADGATE_PROMETHEUS_URL=http://127.0.0.1:9", "HEADGATE_SCALER_DEFAULTS_FILE="+filepath.Join(dir, "defaults.yml"))
	client := dial(t, address, insecure.NewCredentials())
	target := func() float64 {
		t.Helper()
		spec, err := client.GetMetricSpec(t.Context(), bars)
		if err != nil {
			t.Fatal(err)
		}
		return spec.MetricSpecs[0].TargetSizeFloat
	}
	metrics := func() string {
		t.Helper()
		response, err := http.Get("http://" + listeningHTTP.FindStringSubmatch(program.log())[1] + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	defer http.DefaultClient.CloseIdleConnections()
	until(t, "the HTTP server listens", func() bool { return listeningHTTP.MatchString(program.log()) })
	if got := target(); got != 500 {
		t.Errorf("at the start the target is %v, want 500", got)
	}
	stream, err := client.StreamMetricSpec(t.Context(), bars)
	if err != nil {
		t.Fatal(err)
	}
	streamed := func(want float64) {
		t.Helper()
		spec, err := stream.Recv()
		if err != nil || spec.MetricSpecs[0].TargetSizeFloat != want {
			t.Fatalf("streamed is %v, %v; want a target of %v", spec, err, want)
		}
	}
	streamed(500)
	write("metrics: {queueDepth: {targetValue: 300}}")
	streamed(300)
	write("metrics: {queueDepth: {targetVale: 200}}")
	until(t, "the series says that the file is wrong", func() bool {
		return strings.Contains(metrics(), "headgate_scaler_defaults_good 0")
	})
	if got := target(); got != 300 {
		t.Errorf("with a wrong file the target is %v, want the old one", got)
	}
	if !strings.Contains(program.log(), "targetVale") {
		t.Errorf("the log does not name the wrong key:\n%s", program.log())
	}
	write("metrics: {queueDepth: {targetValue: 200}}")
	streamed(200)
	until(t, "the series says that the file is right", func() bool {
		return strings.Contains(metrics(), "headgate_scaler_defaults_good 1")
	})
	if status := stop(); status != exitOK {
		t.Errorf("exit status is %d, want 0", status)
	}
}

func TestAllThatIsWrongWithTheSettingsIsSaidAtOnce(t *testing.T) {
	defaults := filepath.Join(t.TempDir(), "defaults.yml")
	if err := os.WriteFile(defaults, []byte("metrics: {queueDepth: {targetVale: 3}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	status := runMain(context.Background(), nil, []string{
		"HEADGATE_SCALER_INTERVAL=soon", "HEADGATE_SCALER_STALE_AFTER=0s", "HEADGATE_SCALER_GRPC_LISTEN=nowhere",
		"HEADGATE_SCALER_CLIENT_NAMES=keda-operator", "HEADGATE_SCALER_COORDINATOR_URLS=:", "HEADGATE_SCALER_WEB_CONFIG_FILE=/nowhere/web.yml",
		"HEADGATE_SCALER_DEFAULTS_FILE=" + defaults, "HEADGATE_SCALAR_LISTEN=127.0.0.1:0",
	}, io.Discard, &stderr)
	if status != exitSettings {
		t.Errorf("exit status is %d, want 2", status)
	}
	for _, want := range []string{
		"HEADGATE_SCALER_INTERVAL", "HEADGATE_SCALER_STALE_AFTER", "HEADGATE_SCALER_GRPC_LISTEN", "HEADGATE_SCALER_CLIENT_NAMES",
		"HEADGATE_SCALER_COORDINATOR_URLS", "HEADGATE_SCALER_WEB_CONFIG_FILE", "targetVale", "HEADGATE_SCALAR_LISTEN",
	} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("%s is not named in\n%s", want, stderr.String())
		}
	}
	if strings.Contains(stderr.String(), "listening") {
		t.Errorf("something was started:\n%s", stderr.String())
	}
}

func TestHelpListsEverySetting(t *testing.T) {
	var stdout, stderr strings.Builder
	if status := runMain(t.Context(), []string{"--help"}, []string{"HEADGATE_SCALER_INTERVAL=soon"}, &stdout, &stderr); status != exitOK || stderr.Len() > 0 {
		t.Errorf("exit status is %d, and the error %q", status, stderr.String())
	}
	if !strings.HasPrefix(stdout.String(), "external-scaler answers KEDA's questions") {
		t.Errorf("it does not begin with what the program does:\n%s", stdout.String())
	}
	for _, v := range settings.Variables(settings.Scaler{}) {
		if !strings.Contains(stdout.String(), "\n  "+v.Name+"\n      "+v.Help+" (") {
			t.Errorf("%s is not there with its meaning", v.Name)
		}
	}
}

func TestArguments(t *testing.T) {
	for _, test := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"--help"}, exitOK, "HEADGATE_SCALER_GRPC_LISTEN"},
		{[]string{"--version"}, exitOK, "external-scaler"},
		{[]string{"--prot"}, exitSettings, "--prot"},
		{[]string{"serve", "now"}, exitSettings, "--help"},
	} {
		var out strings.Builder
		if status := runMain(context.Background(), test.args, nil, &out, &out); status != test.status || !strings.Contains(out.String(), test.says) {
			t.Errorf("%v: exit status %d and\n%s", test.args, status, out.String())
		}
	}
}
