package scenario

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/e2e/cluster"
)

const kedaName = "keda-operator" // that the client's certificate must have

// MutualTLS: KEDA is served with the right certificate, and refused with one of
// another authority, none, or one of another name; it refuses a scaler of
// another authority. Certificates and authorities are rotated without a restart.
var MutualTLS = Scenario{Name: "mutual-tls", Limit: 4 * time.Minute, Run: func(ctx context.Context, e *Env) error {
	ours, err := cluster.NewAuthority("ours")
	if err != nil {
		return err
	}
	theirs, err := cluster.NewAuthority("theirs")
	if err != nil {
		return err
	}
	host := e.Node.Address(e.Namespace, scalerComponent)
	server, err := e.issue(ctx, "external-scaler-tls", ours, ours.PEM, "external-scaler", host)
	if err != nil {
		return err
	}
	if _, err := e.issue(ctx, "keda-client-tls", ours, ours.PEM, kedaName); err != nil {
		return err
	}
	replicas, err := e.installStill(ctx, Plan{Overlay: "overlays/mutual-tls"})
	if err != nil {
		return err
	}
	if err := replicas.Is(ctx, 3, 40*time.Second); err != nil {
		return err
	}
	e.Say("the right client is served")

	refused := map[string]string{}
	for _, client := range []struct {
		name  string
		from  *cluster.Authority // nil for no certificate
		as    string
		trust *cluster.Authority
		says  string // by the scaler while the connection is made, or in KEDA's log
	}{
		{"another-authority", theirs, kedaName, ours, "tls: unknown certificate authority"},
		{"no-certificate", nil, "", ours, "tls: certificate required"},
		{"another-name", ours, "somebody", ours, "PermissionDenied"},
		{"another-server", ours, kedaName, theirs, "x509: certificate signed by unknown authority"},
	} {
		reason, err := e.tryClient(ctx, client.name, client.from, client.as, client.trust, client.says)
		if err != nil {
			return err
		}
		refused[client.name] = reason
		e.Say("%s is refused: %s", client.name, reason)
	}
	e.Figure("refused", refused)
	return e.rotate(ctx, ours, theirs, server, replicas)
}}

// issue makes a certificate and keeps it in a Secret, with what its owner
// trusts.
func (e *Env) issue(ctx context.Context, secret string, from *cluster.Authority, trusted []byte, name string, hosts ...string) (certificate []byte, err error) {
	certificate, key, err := from.Issue(name, hosts...)
	if err != nil {
		return nil, err
	}
	return certificate, e.secret(ctx, secret, map[string][]byte{"tls.crt": certificate, "tls.key": key, "ca.crt": trusted})
}

func (e *Env) secret(ctx context.Context, name string, data map[string][]byte) error {
	text, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": name, "namespace": e.Namespace}, "data": data,
	})
	if err != nil {
		return err
	}
	_, err = e.Cluster.ApplyYAML(ctx, string(text))
	return err
}

// tryClient has KEDA call the scaler with a certificate that is wrong, and
// waits until it says that it got no spec. It returns why: an alert of TLS that
// a client of our own is sent, where KEDA only sees the connection broken, or
// else what KEDA logs.
func (e *Env) tryClient(ctx context.Context, name string, from *cluster.Authority, as string, trust *cluster.Authority, says string) (reason string, err error) {
	config := &tls.Config{RootCAs: trust.Pool(), NextProtos: []string{"h2"}}
	if from == nil {
		err = e.secret(ctx, name, map[string][]byte{"ca.crt": trust.PEM})
	} else {
		var certificate, key []byte
		if certificate, key, err = from.Issue(as); err != nil {
			return "", err
		}
		pair, pairErr := tls.X509KeyPair(certificate, key)
		if pairErr != nil {
			return "", pairErr
		}
		// Go's client shows none that the server would not trust; KEDA's too. This
		// one insists.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		err = e.secret(ctx, name, map[string][]byte{"tls.crt": certificate, "tls.key": key, "ca.crt": trust.PEM})
	}
	if err != nil {
		return "", err
	}
	trigger := e.ourTrigger("external", `coordinatorIds: bars, metric: queueDepth, enableTLS: "true"`, "authenticationRef: {name: "+name+"}")
	_, err = e.Cluster.ApplyYAML(ctx, fmt.Sprintf(`
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  secretTargetRef:
    - {parameter: caCert, name: %[1]s, key: ca.crt}
    - {parameter: tlsClientCert, name: %[1]s, key: tls.crt}
    - {parameter: tlsClientKey, name: %[1]s, key: tls.key}
`, name, e.Namespace)+scaled{name: name, most: 10, polling: 2 * time.Second, cool: time.Minute, trigger: trigger}.yaml(e.Namespace))
	if err != nil {
		return "", err
	}
	ctx, cancel := within(ctx, 40*time.Second, "the refusal of "+name)
	defer cancel()
	if strings.HasPrefix(says, "tls:") {
		reason, err = alert(ctx, e.Node.Address(e.Namespace, scalerComponent)+":6000", config)
		if err == nil && !strings.Contains(reason, says) {
			err = fmt.Errorf("%s is refused by %q, want %q", name, reason, says)
		}
	} else {
		reason, err = e.awaitLog(ctx, name, says)
	}
	if err != nil {
		return "", err
	}
	if _, err := e.awaitTelling(ctx, name, "condition Ready is False", "no metric specs"); err != nil {
		return "", err
	}
	return reason, e.Cluster.Delete(ctx, cluster.ScaledObjects, e.Namespace, name)
}

// alert makes a connection that the server refuses, and returns how.
func alert(ctx context.Context, address string, config *tls.Config) (string, error) {
	dialer := tls.Dialer{Config: config}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	// Under TLS 1.3 the client learns it when it reads.
	if _, err = conn.Read(make([]byte, 1)); err == nil {
		return "", fmt.Errorf("%s answers", address)
	}
	return err.Error(), nil
}

// rotate changes the scaler's certificate, then the authority of its clients,
// then takes the old one's trust away, and shows after each that KEDA is
// served on a new connection by the same process.
func (e *Env) rotate(ctx context.Context, ours, theirs *cluster.Authority, server []byte, replicas *Track) error {
	process := e.Node.Processes(e.Namespace, scalerComponent)[0]
	host := e.Node.Address(e.Namespace, scalerComponent)
	n := replicas.Now()
	for i, step := range []struct {
		what string
		do   func() error
	}{
		{"the scaler's certificate", func() error {
			var err error
			server, err = e.issue(ctx, "external-scaler-tls", ours, ours.PEM, "external-scaler", host)
			return err
		}},
		{"both authorities trusted, and KEDA's certificate by the new one", func() error {
			var err error
			if server, err = e.issue(ctx, "external-scaler-tls", ours, slices.Concat(ours.PEM, theirs.PEM), "external-scaler", host); err != nil {
				return err
			}
			_, err = e.issue(ctx, "keda-client-tls", theirs, ours.PEM, kedaName)
			return err
		}},
		{"the old authority no longer trusted", func() error {
			var err error
			server, err = e.issue(ctx, "external-scaler-tls", ours, theirs.PEM, "external-scaler", host)
			return err
		}},
	} {
		if err := step.do(); err != nil {
			return err
		}
		if err := e.Node.Refresh(ctx, e.Namespace, scalerComponent); err != nil {
			return err
		}
		if err := shows(ctx, host+":6000", ours, server); err != nil {
			return err
		}
		if err := e.reconnects(ctx, 9-i); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		e.Load.Add(perStep)
		n++
		if err := replicas.Is(ctx, n, 40*time.Second); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		e.Say("rotated: %s; replicas went on to %d", step.what, n)
	}
	told, err := e.tryClient(ctx, "old-authority", ours, kedaName, ours, "tls: unknown certificate authority")
	if err != nil {
		return err
	}
	e.Say("a client of the old authority is refused: %s", told)
	now := e.Node.Processes(e.Namespace, scalerComponent)
	if len(now) != 1 || now[0] != process {
		return fmt.Errorf("the scaler was started anew")
	}
	e.Figure("rotations", 3)
	e.Figure("restarts", 0)
	e.Figure("replicas", path(replicas.All()))
	return nil
}

// reconnects has KEDA drop its connection and make a new one, with the
// certificates that its Secret has now.
func (e *Env) reconnects(ctx context.Context, maxReplicas int) error {
	started := func() (float64, error) {
		return series(ctx, e.scalerHTTP()+"/metrics", "grpc_server_started_total", `grpc_method="GetMetricSpec"`)
	}
	before, err := started()
	if err != nil {
		return err
	}
	if err := e.touch(ctx, "pipeline-burst", maxReplicas); err != nil {
		return err
	}
	ctx, cancel := within(ctx, 30*time.Second, "calling anew")
	defer cancel()
	return cluster.Poll(ctx, func(ctx context.Context) error {
		if now, err := started(); err != nil || now <= before {
			return fmt.Errorf("KEDA has asked for no spec since: %w", err)
		}
		return nil
	})
}

// shows checks that a new connection is shown a certificate.
func shows(ctx context.Context, address string, trusted *cluster.Authority, want []byte) error {
	pool := trusted.Pool()
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: pool, NextProtos: []string{"h2"}}}
	ctx, cancel := within(ctx, 10*time.Second, "showing the certificate")
	defer cancel()
	return cluster.Poll(ctx, func(ctx context.Context) error {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		shown := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
		if !cluster.SameCertificate(shown, want) {
			return fmt.Errorf("%s shows the certificate %v", address, shown.SerialNumber)
		}
		return nil
	})
}
