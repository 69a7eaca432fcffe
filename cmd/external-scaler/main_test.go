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

	"github.com/headgate/headgate/internal/promserver"
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
func start(t *testing.T, environ ...string) (address string, stop func() int) {
	t.Helper()
	p := &program{}
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
	return address, stop
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
	address, stop := start(t, "HEADGATE_PROMETHEUS_URL="+prometheus.URL, "HEADGATE_SCALER_STALE_AFTER=2s")
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
	address, _ := start(t, "HEADGATE_PROMETHEUS_URL=http://127.0.0.1:9",
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

func TestArguments(t *testing.T) {
	for _, test := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"--help"}, exitOK, "HEADGATE_SCALER_GRPC_LISTEN"},
		{[]string{"--version"}, exitOK, "external-scaler"},
		{[]string{"--prot"}, exitSettings, "--prot"},
	} {
		var out strings.Builder
		if status := runMain(context.Background(), test.args, nil, &out, &out); status != test.status || !strings.Contains(out.String(), test.says) {
			t.Errorf("%v: exit status %d and\n%s", test.args, status, out.String())
		}
	}
}
