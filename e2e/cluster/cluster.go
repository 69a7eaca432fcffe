// Package cluster runs a real Kubernetes control plane with a real KEDA on the
// loopback: etcd, the API server, the controller manager, KEDA's operator and
// its metrics adapter, each a process of its own. There are no nodes; package
// node does the kubelet's part.
package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/headgate/headgate/e2e/servers"
	"github.com/headgate/headgate/internal/process"
)

const (
	// HPASync is how often the controller manager looks at each
	// HorizontalPodAutoscaler; 15 s by default, and shorter here so that a
	// scenario takes seconds.
	HPASync = 2 * time.Second

	// kedaNamespace is where KEDA believes to run.
	kedaNamespace = "keda"

	// startLimit bounds the start of one server.
	startLimit = 60 * time.Second

	stopLimit = 15 * time.Second

	token = "headgate-scenarios"
)

// Cluster is a running control plane.
type Cluster struct {
	Dir     string // with everything that it keeps; logs in Dir/logs
	Client  kubernetes.Interface
	Dynamic dynamic.Interface

	// Operator is KEDA's operator, whose processor time is measured.
	Operator *process.Process

	mapper  *restmapper.DeferredDiscoveryRESTMapper
	config  *rest.Config
	started []*process.Process // in the order in which they started
	ports   []int              // free ones
}

// Start starts everything and returns when KEDA's metrics are served. On an
// error nothing runs. Programs are those that servers.Build made.
func Start(ctx context.Context, dir string, programs map[string]string, progress io.Writer) (_ *Cluster, err error) {
	c := &Cluster{Dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	for _, folder := range []string{c.Logs(), filepath.Join(dir, "certificates")} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
	}
	for range ports {
		port, err := process.FreePort()
		if err != nil {
			return nil, err
		}
		c.ports = append(c.ports, port)
	}
	for _, step := range []struct {
		what string
		do   func(context.Context, map[string]string) error
	}{
		{"certificates", c.makeCertificates},
		{"etcd", c.startEtcd},
		{"kube-apiserver", c.startAPIServer},
		{"kube-controller-manager", c.startControllerManager},
		{"KEDA's resource definitions", c.defineResources},
		{"KEDA's operator", c.startOperator},
		{"KEDA's metrics adapter", c.startAdapter},
	} {
		started := time.Now()
		if err := step.do(ctx, programs); err != nil {
			return nil, fmt.Errorf("start the cluster: %s: %w", step.what, err)
		}
		fmt.Fprintf(progress, "headgate: cluster: %s: %.1f s\n", step.what, time.Since(started).Seconds())
	}
	return c, nil
}

// Logs is the folder of the servers' logs.
func (c *Cluster) Logs() string { return filepath.Join(c.Dir, "logs") }

// Tails returns the ends of the servers' logs.
func (c *Cluster) Tails(lines int) string {
	var b strings.Builder
	for _, p := range c.started {
		fmt.Fprintf(&b, "--- the end of %s\n%s\n", p.LogPath, process.Tail(p.LogPath, lines))
	}
	return b.String()
}

// Stop ends the servers, the last one first.
func (c *Cluster) Stop() error {
	var errs []error
	for i := len(c.started) - 1; i >= 0; i-- {
		errs = append(errs, c.started[i].Stop(stopLimit))
	}
	c.started = nil
	return errors.Join(errs...)
}

// Places of the ports in c.ports.
const (
	portEtcd = iota
	portEtcdPeer
	portAPIServer
	portControllerManager
	portOperatorMetrics
	portOperatorProbe
	portOperatorService
	portAdapter
	portAdapterMetrics
	ports // how many
)

func (c *Cluster) at(port int) string { return fmt.Sprintf("127.0.0.1:%d", c.ports[port]) }

func (c *Cluster) certificate(name string) string {
	return filepath.Join(c.Dir, "certificates", name)
}

func (c *Cluster) kubeconfig() string { return filepath.Join(c.Dir, "kubeconfig") }

// Kubeconfig is the file by which clients such as kubectl reach the cluster.
func (c *Cluster) Kubeconfig() string { return c.kubeconfig() }

// makeCertificates writes the files by which the servers trust one another, and
// the clients' configuration.
func (c *Cluster) makeCertificates(context.Context, map[string]string) error {
	authority, err := NewAuthority("headgate-scenarios")
	if err != nil {
		return err
	}
	folder := filepath.Join(c.Dir, "certificates")
	for name, hosts := range map[string][]string{
		"apiserver": {"localhost", "127.0.0.1", "kubernetes", "kubernetes.default.svc"},
		"proxy":     nil,
		"accounts":  nil,
	} {
		if err := authority.write(folder, name, hosts...); err != nil {
			return err
		}
	}
	// KEDA reads a folder of fixed names.
	if err := authority.write(filepath.Join(folder, "keda"), "tls", "localhost", "127.0.0.1"); err != nil {
		return err
	}
	tokens := fmt.Sprintf("%s,admin,admin,system:masters\n", token)
	if err := os.WriteFile(c.certificate("tokens.csv"), []byte(tokens), 0o600); err != nil {
		return err
	}
	server := "https://" + c.at(portAPIServer)
	c.config = &rest.Config{
		Host: server, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: authority.PEM},
		QPS: 500, Burst: 1000,
	}
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"headgate": {Server: server, CertificateAuthorityData: authority.PEM}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"admin": {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{"headgate": {Cluster: "headgate", AuthInfo: "admin"}},
		CurrentContext: "headgate",
	}, c.kubeconfig())
}

// start runs one server and waits until it answers its health with success.
// With an empty health it does not wait.
func (c *Cluster) start(ctx context.Context, s process.Spec, health string) (*process.Process, error) {
	s.Log = c.Logs()
	p, err := process.Start(s)
	if err != nil {
		return nil, err
	}
	c.started = append(c.started, p)
	if health == "" {
		return p, nil
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.config.CAData)
	client := &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}},
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return p, Poll(ctx, func(ctx context.Context) error {
		select {
		case <-p.Ended():
			return Final(fmt.Errorf("%s ended: %w\n%s", p.Name, p.Err(), process.Tail(p.LogPath, 20)))
		default:
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, health, nil)
		if err != nil {
			return Final(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(io.LimitReader(response.Body, 2000))
			return fmt.Errorf("%s answers %s: %s", health, response.Status, text)
		}
		return nil
	})
}

func (c *Cluster) startEtcd(ctx context.Context, programs map[string]string) error {
	client, peer := "http://"+c.at(portEtcd), "http://"+c.at(portEtcdPeer)
	_, err := c.start(ctx, process.Spec{Name: "etcd", Binary: programs["etcd"], Args: []string{
		"--data-dir=" + filepath.Join(c.Dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=default=" + peer,
	}}, client+"/health")
	return err
}

func (c *Cluster) startAPIServer(ctx context.Context, programs map[string]string) error {
	_, err := c.start(ctx, process.Spec{Name: "kube-apiserver", Binary: programs["kube-apiserver"], Args: []string{
		"--etcd-servers=http://" + c.at(portEtcd),
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", c.ports[portAPIServer]),
		"--tls-cert-file=" + c.certificate("apiserver.crt"), "--tls-private-key-file=" + c.certificate("apiserver.key"),
		"--client-ca-file=" + c.certificate("ca.crt"),
		"--token-auth-file=" + c.certificate("tokens.csv"), "--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.certificate("accounts.crt"),
		"--service-account-signing-key-file=" + c.certificate("accounts.key"),
		"--requestheader-client-ca-file=" + c.certificate("ca.crt"), "--requestheader-allowed-names=proxy",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + c.certificate("proxy.crt"), "--proxy-client-key-file=" + c.certificate("proxy.key"),
		// Without nodes nobody makes the tokens that the plugin would mount.
		"--disable-admission-plugins=ServiceAccount",
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16",
	}}, "https://"+c.at(portAPIServer)+"/readyz")
	if err != nil {
		return err
	}
	if c.Client, err = kubernetes.NewForConfig(c.config); err != nil {
		return err
	}
	if c.Dynamic, err = dynamic.NewForConfig(c.config); err != nil {
		return err
	}
	c.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.Client.Discovery()))
	return nil
}

func (c *Cluster) startControllerManager(ctx context.Context, programs map[string]string) error {
	_, err := c.start(ctx, process.Spec{Name: "kube-controller-manager", Binary: programs["kube-controller-manager"], Args: []string{
		"--kubeconfig=" + c.kubeconfig(), "--leader-elect=false",
		"--authentication-kubeconfig=" + c.kubeconfig(), "--authorization-kubeconfig=" + c.kubeconfig(),
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", c.ports[portControllerManager]),
		"--tls-cert-file=" + c.certificate("apiserver.crt"), "--tls-private-key-file=" + c.certificate("apiserver.key"),
		"--controllers=deployment-controller,replicaset-controller,horizontal-pod-autoscaler-controller," +
			"namespace-controller,serviceaccount-controller,garbage-collector-controller",
		"--horizontal-pod-autoscaler-sync-period=" + HPASync.String(),
		"--horizontal-pod-autoscaler-downscale-stabilization=5s",
		// The default of 15 s would hold back the first scaling of each scenario.
		"--horizontal-pod-autoscaler-initial-readiness-delay=1s",
		"--kube-api-qps=200", "--kube-api-burst=400",
	}}, "https://"+c.at(portControllerManager)+"/healthz")
	return err
}

// defineResources installs KEDA's custom resource definitions, the namespace
// that KEDA runs in, and the API that its adapter will serve.
func (c *Cluster) defineResources(ctx context.Context, _ map[string]string) error {
	dir, err := servers.ModuleField(ctx, "keda", "github.com/kedacore/keda/v2", "Dir")
	if err != nil {
		return err
	}
	if err := c.InstallDefinitions(ctx, filepath.Join(dir, "config", "crd", "bases", "*.yaml")); err != nil {
		return err
	}
	_, err = c.ApplyYAML(ctx, fmt.Sprintf(`
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: v1
kind: Service
metadata: {name: keda-metrics-apiserver, namespace: %[1]s}
spec: {type: ExternalName, externalName: localhost, ports: [{port: %[2]d}]}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.external.metrics.k8s.io}
spec:
  group: external.metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {name: keda-metrics-apiserver, namespace: %[1]s, port: %[2]d}
`, kedaNamespace, c.ports[portAdapter]))
	return err
}

func (c *Cluster) kedaEnvironment() []string {
	return []string{
		"POD_NAMESPACE=" + kedaNamespace, "KEDA_CLUSTER_OBJECT_NAMESPACE=" + kedaNamespace, "WATCH_NAMESPACE=",
		"KEDA_HTTP_DEFAULT_TIMEOUT=3000",
	}
}

func (c *Cluster) startOperator(ctx context.Context, programs map[string]string) error {
	p, err := c.start(ctx, process.Spec{Name: "keda-operator", Binary: programs["keda-operator"], Env: c.kedaEnvironment(), Args: []string{
		"--kubeconfig=" + c.kubeconfig(),
		"--cert-dir=" + c.certificate("keda"), "--enable-cert-rotation=false",
		"--enable-webhook-patching=false", "--enable-apiservice-patching=false",
		"--metrics-bind-address=" + c.at(portOperatorMetrics),
		"--health-probe-bind-address=" + c.at(portOperatorProbe),
		"--metrics-service-bind-address=" + c.at(portOperatorService),
		"--kube-api-qps=200", "--kube-api-burst=400",
		"--zap-log-level=info", "--zap-encoder=console", "--zap-time-encoding=rfc3339nano",
	}}, "http://"+c.at(portOperatorProbe)+"/readyz")
	c.Operator = p
	return err
}

func (c *Cluster) startAdapter(ctx context.Context, programs map[string]string) error {
	health := "https://" + c.at(portAPIServer) + "/apis/external.metrics.k8s.io/v1beta1"
	_, err := c.start(ctx, process.Spec{Name: "keda-adapter", Binary: programs["keda-adapter"], Env: c.kedaEnvironment(), Args: []string{
		"--lister-kubeconfig=" + c.kubeconfig(), "--kubeconfig=" + c.kubeconfig(),
		"--authentication-kubeconfig=" + c.kubeconfig(), "--authorization-kubeconfig=" + c.kubeconfig(),
		fmt.Sprintf("--metrics-service-address=localhost:%d", c.ports[portOperatorService]),
		fmt.Sprintf("--port=%d", c.ports[portAdapterMetrics]),
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", c.ports[portAdapter]),
		"--cert-dir=" + c.certificate("keda"),
		"--tls-cert-file=" + filepath.Join(c.certificate("keda"), "tls.crt"),
		"--tls-private-key-file=" + filepath.Join(c.certificate("keda"), "tls.key"),
		"--client-ca-file=" + c.certificate("ca.crt"),
		"--kube-api-qps=200", "--kube-api-burst=400",
	}}, health)
	return err
}

// OperatorMetrics is the address of the operator's own series.
func (c *Cluster) OperatorMetrics() string { return "http://" + c.at(portOperatorMetrics) + "/metrics" }
