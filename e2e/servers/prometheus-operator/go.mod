// Module prometheus-operator pins the definition of ServiceMonitor.
module github.com/headgate/headgate/e2e/servers/prometheus-operator

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
