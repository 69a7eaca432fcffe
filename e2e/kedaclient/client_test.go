package kedaclient

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kedacore/keda/v2/pkg/scalers"
	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
	v2 "k8s.io/api/autoscaling/v2"
)

// limit is how long a test waits for what has to happen at once. KEDA opens a
// stream that has ended anew after 2 s.
const limit = 30 * time.Second

// binary is Headgate's scaler: the one in HEADGATE_TEST_SCALER, else the one
// that TestMain builds.
var binary = os.Getenv("HEADGATE_TEST_SCALER")

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if binary != "" {
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "headgate-kedaclient-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "external-scaler")
		if out, err := exec.Command("go", "build", "-C", "../..", "-o", binary, "./cmd/external-scaler").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the scaler: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// coordinator tells the scaler of its queue on its stream of changes, so that
// no Prometheus is needed.
type coordinator struct {
	*httptest.Server
	mu      sync.Mutex
	events  []string
	changed chan struct{} // closed and replaced when there is one more
}

func newCoordinator(t *testing.T) *coordinator {
	t.Helper()
	c := &coordinator{changed: make(chan struct{})}
	c.Server = httptest.NewServer(c)
	t.Cleanup(func() {
		c.CloseClientConnections()
		c.Close()
	})
	return c
}

// ServeHTTP streams all events from the first one on.
func (c *coordinator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for told := 0; ; {
		c.mu.Lock()
		news, changed := c.events[told:], c.changed
		c.mu.Unlock()
		told += len(news)
		fmt.Fprint(w, strings.Join(news, ""))
		http.NewResponseController(w).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// says publishes an event of the queue that has a capacity of 10,000.
func (c *coordinator) says(id string, depth int, level string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, fmt.Sprintf("event: feedback\ndata: {\"coordinator_id\": %q, \"queue_size\": %d, \"capacity\": 10000, \"level\": %q}\n\n", id, depth, level))
	close(c.changed)
	c.changed = make(chan struct{})
}

// server is Headgate's scaler at work.
type server struct {
	*coordinator
	address  string
	defaults string // file with the defaults of triggers
}

var listening = regexp.MustCompile(`msg="listening for KEDA" address=(\S+)`)

// serve starts a scaler, which is stopped when the test ends, with further
// environment.
func serve(t *testing.T, environ ...string) server {
	t.Helper()
	s := server{coordinator: newCoordinator(t), defaults: filepath.Join(t.TempDir(), "defaults.yml")}
	s.writeDefaults(t, "")
	command := exec.Command(binary)
	command.Env = append(environ, "HEADGATE_SCALER_GRPC_LISTEN=127.0.0.1:0", "HEADGATE_SCALER_LISTEN=127.0.0.1:0",
		"HEADGATE_PROMETHEUS_URL=http://127.0.0.1:9", "HEADGATE_SCALER_COORDINATOR_URLS="+s.URL,
		"HEADGATE_SCALER_INTERVAL=100ms", "HEADGATE_SCALER_STALE_AFTER=1h", "HEADGATE_SCALER_DEFAULTS_FILE="+s.defaults)
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	address, drained := make(chan string, 1), make(chan struct{})
	var log strings.Builder // read once it is drained
	go func() {
		defer close(drained)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			fmt.Fprintln(&log, lines.Text())
			if match := listening.FindStringSubmatch(lines.Text()); match != nil {
				address <- match[1]
			}
		}
	}()
	t.Cleanup(func() {
		command.Process.Signal(syscall.SIGTERM)
		<-drained
		if err := command.Wait(); err != nil {
			t.Errorf("the scaler ends with %v\n%s", err, log.String())
		}
	})
	select {
	case s.address = <-address:
	case <-drained:
		t.Fatalf("the scaler does not start\n%s", log.String())
	case <-time.After(limit):
		t.Fatal("the scaler does not listen")
	}
	return s
}

func (s server) writeDefaults(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(s.defaults+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.defaults+".new", s.defaults); err != nil {
		t.Fatal(err)
	}
}

// trigger is what KEDA's operator makes of the second trigger of a ScaledObject
// with this metadata, as key and value in turn.
func (s server) trigger(pairs ...string) *scalersconfig.ScalerConfig {
	metadata := map[string]string{"scalerAddress": s.address, "coordinatorIds": "bars"}
	for i := 0; i < len(pairs); i += 2 {
		metadata[pairs[i]] = pairs[i+1]
	}
	return &scalersconfig.ScalerConfig{
		ScalableObjectName: "pipeline", ScalableObjectNamespace: "shop", ScalableObjectType: "ScaledObject",
		TriggerType: "external", TriggerIndex: 1, TriggerMetadata: metadata,
		MetricType: v2.AverageValueMetricType, GlobalHTTPTimeout: 3 * time.Second,
		ResolvedEnv: map[string]string{}, AuthParams: map[string]string{},
	}
}

func external(t *testing.T, config *scalersconfig.ScalerConfig) scalers.Scaler {
	t.Helper()
	client, err := scalers.NewExternalScaler(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(context.Background()) })
	return client
}

// observe does what KEDA does at each polling: the spec, then the value and
// whether the trigger is active.
func observe(t *testing.T, client scalers.Scaler) (name string, target, value float64, active bool, err error) {
	t.Helper()
	specs := client.GetMetricSpecForScaling(t.Context())
	if len(specs) != 1 {
		t.Fatalf("there are %d specs, want one", len(specs))
	}
	name = specs[0].External.Metric.Name
	if quantity := specs[0].External.Target.AverageValue; quantity != nil {
		target = quantity.AsApproximateFloat64()
	} else {
		target = specs[0].External.Target.Value.AsApproximateFloat64()
	}
	values, active, err := client.GetMetricsAndActivity(t.Context(), name)
	for _, v := range values { // the autoscaler adds up all that it gets
		value += v.Value.AsApproximateFloat64()
	}
	return name, target, value, active, err
}

// eventually observes until there is a value.
func eventually(t *testing.T, client scalers.Scaler) (name string, target, value float64, active bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		name, target, value, active, err := observe(t, client)
		if err == nil {
			return name, target, value, active
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestKEDAsClientGetsTheNumbersThatTheScalerMeans(t *testing.T) {
	s := serve(t)
	s.says("bars", 6000, "soft")
	s.says("ticks", 1, "ok")
	s.says("quotes", 0, "ok")
	s.says("news", 9000, "hard")
	type seen struct {
		Name          string
		Target, Value float64
		Active        bool
	}
	tests := []struct {
		name     string
		metadata []string
		kind     v2.MetricTargetType
		want     seen
	}{
		{"a depth", nil, v2.AverageValueMetricType, seen{"s1-headgate-queue-depth", 2000, 6000, true}},
		{"an empty queue", []string{"coordinatorIds", "quotes"}, v2.AverageValueMetricType, seen{"s1-headgate-queue-depth", 2000, 0, false}},
		{"a depth of one", []string{"coordinatorIds", "ticks", "targetValue", "2"}, v2.AverageValueMetricType, seen{"s1-headgate-queue-depth", 2, 1, true}},
		{"below one, as its target", []string{"metric", "utilization", "targetValue", "0.25"}, v2.ValueMetricType, seen{"s1-headgate-utilization", 0.25, 0.6, true}},
		{"two together", []string{"coordinatorIds", "bars,ticks"}, v2.AverageValueMetricType, seen{"s1-headgate-queue-depth", 2000, 6001, true}},
		{"no hard pressure", []string{"metric", "hardPressure"}, v2.AverageValueMetricType, seen{"s1-headgate-hard-pressure", 0.5, 0, false}},
		{"hard pressure", []string{"metric", "hardPressure", "coordinatorIds", "news"}, v2.AverageValueMetricType, seen{"s1-headgate-hard-pressure", 0.5, 1, true}},
	}
	eventually(t, external(t, s.trigger("coordinatorIds", "news"))) // of which was told last
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := s.trigger(test.metadata...)
			config.MetricType = test.kind
			name, target, value, active, err := observe(t, external(t, config))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, seen{name, target, value, active}); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestWhatTheOperatorReadsFromTheWorkloadsEnvironmentArrives(t *testing.T) {
	s := serve(t)
	s.says("bars", 6000, "soft")
	config := s.trigger("targetValueFromEnv", "TARGET")
	config.ResolvedEnv["TARGET"] = "750"
	if _, target, _, _ := eventually(t, external(t, config)); target != 750 {
		t.Errorf("the target is %v, want that of the environment", target)
	}
}

func TestWhatIsMissingIsAnErrorAndKeepsItsSpec(t *testing.T) {
	s := serve(t)
	missing := func(client scalers.Scaler, says string) {
		t.Helper()
		name, target, value, _, err := observe(t, client)
		if err == nil || !strings.Contains(err.Error(), "Unavailable") || !strings.Contains(err.Error(), says) {
			t.Errorf("the value is %v, %v; want Unavailable and %q", value, err, says)
		}
		if name != "s1-headgate-queue-depth" || target != 2000 {
			t.Errorf("the spec is %s with the target %v", name, target)
		}
	}
	bars, ticks := external(t, s.trigger()), external(t, s.trigger("coordinatorIds", "ticks"))
	missing(bars, "no signals were read")
	s.says("ticks", 1, "ok")
	eventually(t, ticks)
	missing(bars, `"bars"`)
}

func TestAWrongKeyShowsInKEDAsError(t *testing.T) {
	s := serve(t)
	_, _, value, _, err := observe(t, external(t, s.trigger("targetVale", "5", "metric", "depth")))
	if err == nil {
		t.Fatalf("the value is %v, and no error", value)
	}
	for _, want := range []string{`targetVale is "5"`, "targetValue", `metric is "depth"`, "queueDepth", "relativePressure"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s\nhas no %s", err, want)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error is more than one line: %q", err)
	}
}

// receive waits for one element.
func receive[E any](t *testing.T, from <-chan E, what string) E {
	t.Helper()
	select {
	case e, open := <-from:
		if !open {
			t.Fatalf("%s: the channel is closed", what)
		}
		return e
	case <-time.After(limit):
		t.Fatalf("%s: nothing comes", what)
	}
	panic("unreachable")
}

// push runs KEDA's push scaler until the returned function is called.
func push(t *testing.T, config *scalersconfig.ScalerConfig) (client scalers.PushScaler, active chan bool, stop func()) {
	t.Helper()
	client, err := scalers.NewExternalPushScaler(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	active = make(chan bool)
	go client.Run(ctx, active)
	stop = sync.OnceFunc(func() {
		cancel()
		for range active { // it is closed when Run ends
		}
		client.Close(context.Background())
	})
	t.Cleanup(stop)
	return client, active, stop
}

func TestKEDAsPushScalerIsToldOfTransitionsAndOfNewTargets(t *testing.T) {
	s := serve(t)
	client, active, stop := push(t, s.trigger())
	streamed := client.(interface{ MetricSpecChan() <-chan []v2.MetricSpec }).MetricSpecChan()
	specs := receive(t, streamed, "the first specs")
	if diff := cmp.Diff(client.GetMetricSpecForScaling(t.Context()), specs); diff != "" {
		t.Errorf("asked for and streamed (-asked +streamed)\n%s", diff)
	}
	s.says("bars", 0, "ok")
	if receive(t, active, "at the first sight") {
		t.Error("an empty queue is active")
	}
	s.says("bars", 9000, "hard")
	if !receive(t, active, "after the queue has filled") {
		t.Error("a full queue is not active")
	}
	if _, _, value, isActive, err := observe(t, client); err != nil || value != 9000 || !isActive {
		t.Errorf("the value is %v, active %v, %v; want what was pushed", value, isActive, err)
	}
	s.says("bars", 8000, "ok") // no transition
	s.says("bars", 0, "ok")
	if receive(t, active, "after the queue is empty") {
		t.Error("a message that is no transition came")
	}

	s.writeDefaults(t, "scaledObjects: {shop/pipeline: {targetValue: 0.5}}")
	specs = receive(t, streamed, "specs with the new target")
	if target := specs[0].External.Target.AverageValue.AsApproximateFloat64(); target != 0.5 {
		t.Errorf("the new target is %v, want 0.5", target)
	}
	if diff := cmp.Diff(client.GetMetricSpecForScaling(t.Context()), specs); diff != "" {
		t.Errorf("asked for and streamed later (-asked +streamed)\n%s", diff)
	}
	stop()
}

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	certificate, key := sign(t, template, nil)
	return authority{certificate, key}
}

// sign makes a certificate of a template, signed by itself where by is nil.
func sign(t *testing.T, template *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if by == nil {
		by = &authority{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

// issue returns a certificate for a name at 127.0.0.1, as PEM.
func (a authority) issue(t *testing.T, name string) (certificate, key string) {
	t.Helper()
	leaf, private := sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, &a)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", leaf.Raw), encode("PRIVATE KEY", der)
}

func (a authority) pem() string { return encode("CERTIFICATE", a.certificate.Raw) }

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestMutualTLSByTriggerAuthentication(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	certificate, key := ours.issue(t, "headgate")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"tls.crt": certificate, "tls.key": key, "ca.crt": ours.pem(),
		"web.yml": "tls_server_config: {cert_file: tls.crt, key_file: tls.key, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, "HEADGATE_SCALER_GRPC_WEB_CONFIG_FILE="+filepath.Join(dir, "web.yml"), "HEADGATE_SCALER_CLIENT_NAMES=keda-operator")
	s.says("bars", 6000, "soft")

	// as is the parameters of a TriggerAuthentication.
	as := func(by authority, name string) map[string]string {
		certificate, key := by.issue(t, name)
		return map[string]string{"caCert": ours.pem(), "tlsClientCert": certificate, "tlsClientKey": key}
	}
	wrongServer := as(ours, "keda-operator")
	wrongServer["caCert"] = theirs.pem()
	tests := []struct {
		name   string
		params map[string]string
		says   string // in the error; none where it is empty
	}{
		{"the right client", as(ours, "keda-operator"), ""},
		{"a wrong name", as(ours, "somebody"), "PermissionDenied"},
		{"another authority", as(theirs, "keda-operator"), "Unavailable"},
		{"no certificate", map[string]string{"caCert": ours.pem()}, "Unavailable"},
		{"no TLS", nil, "Unavailable"},
		{"a scaler of another authority", wrongServer, "unknown authority"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := s.trigger()
			maps.Copy(config.AuthParams, test.params)
			client := external(t, config)
			if test.says == "" {
				if _, _, value, _ := eventually(t, client); value != 6000 {
					t.Fatalf("the value is %v, want 6000", value)
				}
				return
			}
			values, _, err := client.GetMetricsAndActivity(t.Context(), "s1-headgate-queue-depth")
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("the values are %v, %v; want %s", values, err, test.says)
			}
		})
	}
}
