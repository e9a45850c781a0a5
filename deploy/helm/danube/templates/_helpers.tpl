{{- define "danube.labels" -}}
app.kubernetes.io/name: danube
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "danube.meta" -}}
name: {{ .root.Release.Name }}-{{ .component }}
labels:
  {{- include "danube.labels" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "danube.image" -}}
{{ with .root.Values.image.registry }}{{ . }}/{{ end }}danube-{{ .component }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- /* What every pod of ours and of the servers has in common: no privilege, nothing to write to but volumes. */}}
{{- define "danube.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "danube.labels" . | nindent 8 }}
{{- end }}

{{- define "danube.confined" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* The names of a StatefulSet's pods as URLs: of {scheme, port, replicas, component}. */}}
{{- define "danube.peers" -}}
{{- $found := list }}
{{- range $at := until (int .replicas) }}
{{- $found = append $found (printf "%s%s-%s-%d.%s-%s:%d" $.scheme $.root.Release.Name $.component $at $.root.Release.Name $.component (int $.port)) }}
{{- end }}
{{- join "," $found }}
{{- end }}

{{- define "danube.nats" -}}
{{ .Values.nats.url | default (include "danube.peers" (dict "root" . "component" "nats" "scheme" "nats://" "port" 4222 "replicas" .Values.nats.replicas)) }}
{{- end }}

{{- /* The Secret with the passwords of NATS's users; empty if the named servers have none. */}}
{{- define "danube.passwords" -}}
{{- if .Values.nats.passwordsSecret }}{{ .Values.nats.passwordsSecret }}
{{- else if not .Values.nats.url }}{{ .Release.Name }}-nats-passwords
{{- end }}
{{- end }}

{{- define "danube.etcd" -}}
{{ .Values.etcd.endpoints | default (include "danube.peers" (dict "root" . "component" "etcd" "scheme" "" "port" 2379 "replicas" .Values.etcd.replicas)) }}
{{- end }}

{{- /* The beginning of the names of the Secrets that the platform, NATS and etcd show each other. */}}
{{- define "danube.inside" -}}
{{ .Values.inside.secrets | default (printf "%s-inside" .Release.Name) }}
{{- end }}

{{- /* Whether NATS, and etcd, are spoken to by TLS: of {root, elsewhere}. */}}
{{- define "danube.inside.used" -}}
{{- if or (not .elsewhere) .root.Values.inside.secrets }}yes{{ end }}
{{- end }}

{{- define "danube.inside.any" -}}
{{ include "danube.inside.used" (dict "root" . "elsewhere" .Values.nats.url) }}{{ include "danube.inside.used" (dict "root" . "elsewhere" .Values.etcd.endpoints) }}
{{- end }}

{{- /* TLS and tokens of a port that others reach, as variables of {root, prefix}. */}}
{{- define "danube.guard" -}}
{{- $security := .root.Values.security }}
{{- if and $security.tlsSecret $security.authSecret }}
- {name: {{ .prefix }}_TLS_CERT_FILE, value: /etc/danube/tls/tls.crt}
- {name: {{ .prefix }}_TLS_KEY_FILE, value: /etc/danube/tls/tls.key}
{{- if $security.clientCertificates }}
- {name: {{ .prefix }}_TLS_CLIENT_CA_FILE, value: /etc/danube/tls/ca.crt}
- {name: {{ .prefix }}_TLS_CLIENT_CERTS, value: required}
{{- end }}
- {name: {{ .prefix }}_AUTH_ENABLED, value: "true"}
- {name: {{ .prefix }}_AUTH_{{ ternary "PUBLIC" "SECRET" $security.publicKey }}_KEY_FILE, value: /etc/danube/auth/key}
{{- with $security.superAdmins }}
- {name: {{ $.prefix }}_AUTH_SUPER_ADMINS, value: {{ join "," . | quote }}}
{{- end }}
{{- else if $security.insecure }}
- {name: {{ .prefix }}_INSECURE, value: "true"}
{{- else }}
{{- fail "Set security.tlsSecret and security.authSecret, or security.insecure=true to serve whoever reaches the ports." }}
{{- end }}
{{- end }}

{{- define "danube.probes" -}}
startupProbe: {httpGet: {path: /livez, port: http}, periodSeconds: 2, failureThreshold: 45}
livenessProbe: {httpGet: {path: /livez, port: http}, periodSeconds: 10, timeoutSeconds: 5}
{{- /* Kubernetes asks grpc.health.v1 in plaintext only. */}}
{{- if and .port (not .root.Values.security.tlsSecret) }}
readinessProbe: {grpc: {port: {{ .port }}}, periodSeconds: 5, timeoutSeconds: 5}
{{- else }}
readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 5, timeoutSeconds: 5}
{{- end }}
{{- end }}

{{- /* The container of a service: {root, component, values, prefix, port (optional), env (optional)}. */}}
{{- define "danube.container" -}}
- name: {{ .component }}
  image: {{ include "danube.image" . }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: [--config, /etc/danube/danube.toml]
  {{- include "danube.confined" . | nindent 2 }}
  ports:
    - {name: http, containerPort: 9040}
    {{- with .port }}
    - {name: grpc, containerPort: {{ . }}}
    {{- end }}
  env:
    {{- with include "danube.passwords" .root }}
    - {name: {{ $.prefix }}_NATS_USER, value: {{ $.component }}}
    - {name: {{ $.prefix }}_NATS_PASSWORD, valueFrom: {secretKeyRef: {name: {{ . }}, key: {{ $.component }}}}}
    {{- end }}
    {{- if .port }}
    - {name: {{ .prefix }}_GRPC_ADDR, value: "0.0.0.0:{{ .port }}"}
    - {name: {{ .prefix }}_DEFAULT_STORAGE, value: {{ .root.Values.defaultStorage }}}
    {{- include "danube.guard" . | nindent 4 }}
    {{- end }}
    {{- with .env }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- range $name, $value := .values.env }}
    - {name: {{ $name }}, value: {{ $value | quote }}}
    {{- end }}
  {{- if not (or (include "danube.passwords" .root) .port .env .values.env) }} []{{ end }}
  resources: {{ toYaml .values.resources | nindent 4 }}
  {{- include "danube.probes" . | nindent 2 }}
  {{- if .port }}
  # Balancers hear that the pod goes before it stops to accept.
  lifecycle: {preStop: {exec: {command: [sleep, "5"]}}}
  {{- end }}
  volumeMounts:
    - {name: config, mountPath: /etc/danube/danube.toml, subPath: danube.toml}
    - {name: tmp, mountPath: /tmp}
    {{- if include "danube.inside.any" .root }}
    - {name: inside, mountPath: /tls, readOnly: true}
    {{- end }}
    {{- if and .port .root.Values.security.tlsSecret }}
    - {name: tls, mountPath: /etc/danube/tls, readOnly: true}
    - {name: auth, mountPath: /etc/danube/auth, readOnly: true}
    {{- end }}
    {{- if eq .component "storage" }}
    - {name: data, mountPath: /var/lib/danube}
    {{- end }}
{{- end }}

{{- define "danube.volumes" -}}
- {name: config, configMap: {name: {{ .root.Release.Name }}-config}}
- {name: tmp, emptyDir: {}}
{{- if include "danube.inside.any" .root }}
- {name: inside, secret: {secretName: {{ include "danube.inside" .root }}-{{ .component }}, defaultMode: 0440}}
{{- end }}
{{- if and .port .root.Values.security.tlsSecret }}
- {name: tls, secret: {secretName: {{ .root.Values.security.tlsSecret }}}}
- {name: auth, secret: {secretName: {{ .root.Values.security.authSecret }}}}
{{- end }}
{{- end }}

{{- define "danube.claim" -}}
volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .class }}
      storageClassName: {{ . }}
      {{- end }}
      resources: {requests: {storage: {{ .size }}}}
{{- end }}

{{- define "danube.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{ include "danube.meta" . | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{ include "danube.labels" . | nindent 6 }}
{{- end }}
