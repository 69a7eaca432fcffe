package scenario

import (
	"fmt"
	"strings"
	"time"
)

// scaled is a Deployment whose pods nobody runs, for only how many it asks for
// counts, and a ScaledObject of the same name.
type scaled struct {
	name          string
	replicas      int // at first
	least, most   int // replicas
	polling, cool time.Duration
	trigger       string // in YAML's flow style
}

// yaml are both objects.
func (s scaled) yaml(namespace string) string {
	return fmt.Sprintf(`
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: nobody
          image: nobody
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  scaleTargetRef: {name: %[1]s}
  minReplicaCount: %[4]d
  maxReplicaCount: %[5]d
  pollingInterval: %[6]d
  cooldownPeriod: %[7]d
  triggers: [%[8]s]
`, s.name, namespace, s.replicas, s.least, s.most, int(s.polling.Seconds()), int(s.cool.Seconds()), s.trigger)
}

// ourTrigger is one of the scaler's, with metadata as in YAML's flow style, and
// what stands beside them.
func (e *Env) ourTrigger(kind, metadata string, beside ...string) string {
	all := append([]string{
		"type: " + kind,
		fmt.Sprintf(`metadata: {scalerAddress: "%s:6000", %s}`, e.Node.Address(e.Namespace, scalerComponent), metadata),
	}, beside...)
	return "{" + strings.Join(all, ", ") + "}"
}

// kedasTrigger is KEDA's own on the same series, with a threshold in items.
func (e *Env) kedasTrigger(threshold int, metadata string) string {
	return fmt.Sprintf(`{type: prometheus, metadata: {serverAddress: %q, query: %q, threshold: "%d"%s}}`, e.Prometheus.URL, depthQuery, threshold, metadata)
}
