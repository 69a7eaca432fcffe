{{/* Names and selectors are fixed, so there is one release in a namespace. */}}

{{/* Labels of every object: {component, root}; component may be empty. */}}
{{- define "headgate.labels" -}}
{{- if .component }}
app.kubernetes.io/name: headgate
app.kubernetes.io/component: {{ .component }}
{{- end }}
app.kubernetes.io/part-of: headgate
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "headgate.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "headgate.labels" . | trim | nindent 2 }}
{{- end }}

{{- define "headgate.selector" -}}
app.kubernetes.io/name: headgate
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "headgate.image" -}}
image: {{ .root.Values.image.registry }}/{{ .name }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- with .root.Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end }}

{{/* What every pod has: {account, values, root}. */}}
{{- define "headgate.pod" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
{{- with index $.values $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "headgate.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Annotations of a pod: {port, checksum, values}. */}}
{{- define "headgate.podAnnotations" -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ .port | quote }}
prometheus.io/path: /metrics
checksum/config: {{ .checksum }}
{{- with .values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Probes of a container, by the seconds between two looks at its readiness. */}}
{{- define "headgate.probes" -}}
livenessProbe:
  httpGet: {path: /-/healthy, port: http}
  periodSeconds: 10
  timeoutSeconds: 2
readinessProbe:
  httpGet: {path: /-/ready, port: http}
  periodSeconds: {{ . }}
  timeoutSeconds: 2
{{- end }}

{{/* Whether a second Deployment that may have no replicas is scaled. */}}
{{- define "headgate.burst" -}}
{{- if has .Values.scaling.kind (list "external" "external-push") }}true{{ end }}
{{- end }}

{{/* The settings of the controller and the scaler. */}}
{{- define "headgate.settings" -}}
HEADGATE_PROMETHEUS_URL: {{ .Values.prometheus.url | quote }}
HEADGATE_COORDINATOR_IDS: {{ join "," .Values.coordinatorIds | quote }}
HEADGATE_COORDINATOR_URL: dns+http://pipelines.{{ .Release.Namespace }}.svc:9400
HEADGATE_PROVIDER: {{ .Values.provider | quote }}
HEADGATE_SCALER_COORDINATOR_URLS: http://pipeline.{{ .Release.Namespace }}.svc:9400
{{- end }}

{{/* The pod of the pipelines: {component, root}. */}}
{{- define "headgate.pipelinePod" -}}
{{- $values := .root.Values.pipeline -}}
metadata:
  labels:
    {{- include "headgate.selector" .component | nindent 4 }}
    headgate.dev/takes: items
  annotations:
    {{- include "headgate.podAnnotations" (dict "port" 9400 "checksum" (sha256sum $values.job) "values" $values) | nindent 4 }}
spec:
  {{- include "headgate.pod" (dict "account" "pipeline" "values" $values "root" .root) | nindent 2 }}
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  containers:
    - name: pipeline
      {{- include "headgate.image" (dict "name" "pipeline" "root" .root) | nindent 6 }}
      args: [run, /etc/headgate/job.yaml]
      env:
        - {name: HEADGATE_LOG_FORMAT, value: {{ .root.Values.settings.HEADGATE_LOG_FORMAT | default "logfmt" }}}
        - {name: HEADGATE_JOB_METRICS_LISTEN, value: "0.0.0.0:9400"}
        - {name: HEADGATE_ALLOW_UNAUTHENTICATED, value: "true"}
        - name: HEADGATE_JOB_DAG_NODES_STORE_URL
          valueFrom: {secretKeyRef: {name: {{ .root.Values.store.secretName }}, key: {{ .root.Values.store.secretKey }}}}
        {{- with $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: http, containerPort: 9400}
      startupProbe:
        httpGet: {path: /-/healthy, port: http}
        periodSeconds: 1
        failureThreshold: 60
      {{- include "headgate.probes" 2 | nindent 6 }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      {{- include "headgate.containerSecurity" . | nindent 6 }}
      volumeMounts:
        - {name: job, mountPath: /etc/headgate, readOnly: true}
        - {name: data, mountPath: /var/lib/headgate}
  volumes:
    - name: job
      configMap: {name: pipeline-job}
    - name: data
      emptyDir: {sizeLimit: {{ $values.dataSize }}}
{{- end }}

{{/* The end of a trigger's metadata, and what follows it, under mutual TLS. */}}
{{- define "headgate.triggerTLS" -}}
{{- if . }}
  enableTLS: "true"
authenticationRef: {name: external-scaler}
{{- end }}
{{- end }}

{{/* What matches the coordinators in PromQL. */}}
{{- define "headgate.ids" -}}
{{- if eq (len .Values.coordinatorIds) 1 -}}
coordinator_id={{ first .Values.coordinatorIds | quote }}
{{- else -}}
{{- $quoted := list -}}
{{- range .Values.coordinatorIds }}{{ $quoted = append $quoted (regexQuoteMeta .) }}{{ end -}}
coordinator_id=~{{ join "|" $quoted | quote }}
{{- end -}}
{{- end }}

{{/* A number of the values as a text; a large one without an exponent. */}}
{{- define "headgate.number" -}}
{{- if eq (float64 (int64 .)) (float64 .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}
