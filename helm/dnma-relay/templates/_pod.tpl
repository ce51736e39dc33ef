{{/* The relay's files: everything below one folder. Secrets as files, so that no process listing or crash report shows them. */}}
{{- define "relay.secret" -}}
{{- /* dict "root" $ "of" "amqp" → "name key", or nothing */ -}}
{{- $values := index .root.Values .of -}}
{{- $outside := ternary .root.Values.externalSecret.amqpUrl .root.Values.externalSecret.matomoToken (eq .of "amqp") -}}
{{- if $values.existingSecret }}{{ $values.existingSecret }}
{{- else if and .root.Values.externalSecret.enabled $outside }}{{ include "relay.fullname" .root }}{{ end -}}
{{- end -}}

{{- define "relay.lists" -}}
{{- with .Values.referenceLists -}}
{{- if .existingConfigMap }}{{ .existingConfigMap }}{{ else if .files }}{{ include "relay.fullname" $ }}-lists{{ end -}}
{{- end -}}
{{- end -}}

{{- define "relay.tenants" -}}
{{- with .Values.tenants -}}
{{- if .existingConfigMap }}{{ .existingConfigMap }}{{ else if .toml }}{{ include "relay.fullname" $ }}-tenants{{ end -}}
{{- end -}}
{{- end -}}

{{- define "relay.bundle" -}}
{{- with .caBundle -}}{{ .configMap }}{{ .secret }}{{- end -}}
{{- end -}}

{{/* The names of the Service, and what else the pages are asked for by. */}}
{{- define "relay.hosts" -}}
{{- $name := include "relay.fullname" . -}}
{{- $space := include "relay.namespace" . -}}
{{- $service := ternary (list $name (print $name "." $space) (print $name "." $space ".svc") (print $name "." $space ".svc.cluster.local")) list .Values.service.enabled -}}
{{- join "," (concat $service .Values.http.hosts) -}}
{{- end -}}

{{/* Every variable of the relay. One without a value is left out, and the relay's default holds. */}}
{{- define "relay.env" -}}
{{- $files := "/etc/dnma-relay" -}}
{{- $env := list
  (list "AMQP_URL_FILE" (print $files "/amqp/url"))
  (list "AMQP_CA_FILE" (ternary (print $files "/amqp-ca/ca.crt") "" (ne "" (include "relay.bundle" .Values.amqp))))
  (list "AMQP_CLIENT_CERT_FILE" (ternary (print $files "/amqp-client/tls.crt") "" (ne "" .Values.amqp.clientCertificate.secret)))
  (list "AMQP_CLIENT_KEY_FILE" (ternary (print $files "/amqp-client/tls.key") "" (ne "" .Values.amqp.clientCertificate.secret)))
  (list "ALLOW_PLAINTEXT" .Values.allowPlaintext)
  (list "QUEUE_PREFIX" .Values.queue.prefix)
  (list "QUEUE_SHARDS" .Values.queue.shards)
  (list "QUEUE_PREFETCH" .Values.queue.prefetch)
  (list "TOPOLOGY" (ternary "verify" .Values.queue.topology .Values.topologyOperator.enabled))
  (list "MATOMO_URL" .Values.matomo.url)
  (list "MATOMO_SITE_ID" .Values.matomo.siteId)
  (list "MATOMO_TOKEN_AUTH_FILE" (ternary (print $files "/matomo/token") "" (ne "" (include "relay.secret" (dict "root" . "of" "matomo")))))
  (list "SSL_CERT_FILE" (ternary (print $files "/matomo-ca/ca.crt") "" (ne "" (include "relay.bundle" .Values.matomo))))
  (list "MATOMO_MAX_AGE" .Values.matomo.maxAge)
  (list "MATOMO_API" .Values.matomo.api)
  (list "MATOMO_CONCURRENCY" .Values.matomo.concurrency)
  (list "MATOMO_BULK_SIZE" .Values.matomo.bulkSize)
  (list "MATOMO_TIMEOUT" .Values.matomo.timeout)
  (list "MATOMO_MAX_RATE" .Values.matomo.maxRate)
  (list "RETRY_DELAYS" (join "," .Values.queue.retryDelays))
  (list "VALIDATION" .Values.validation)
  (list "REFERENCE_LISTS" (ternary (print $files "/lists") "" (ne "" (include "relay.lists" .))))
  (list "TENANTS" (ternary (print $files "/tenants/tenants.toml") "" (ne "" (include "relay.tenants" .))))
  (list "HTTP_LISTEN" (printf "%s:%v" .Values.http.address .Values.http.port))
  (list "HTTP_HOSTS" (include "relay.hosts" .))
  (list "LOG_FORMAT" .Values.log.format)
  (list "RUST_LOG" .Values.log.filter)
-}}
{{- range $env }}
{{- $value := last . }}
{{- /* A number of a values file is a float, which text would give as 1e+06. */ -}}
{{- $value = ternary ($value | int64) $value (kindIs "float64" $value) | toString }}
{{- if $value }}
- name: {{ first . }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Whole folders, never a subPath: only these follow a change of their ConfigMap. */}}
{{- define "relay.volumes" -}}
- name: amqp
  secret:
    secretName: {{ include "relay.secret" (dict "root" . "of" "amqp") }}
    defaultMode: 288 # 0440
    items: [{key: {{ .Values.amqp.existingSecretKey }}, path: url}]
{{- with include "relay.secret" (dict "root" . "of" "matomo") }}
- name: matomo
  secret:
    secretName: {{ . }}
    defaultMode: 288 # 0440
    items: [{key: {{ $.Values.matomo.existingSecretKey }}, path: token}]
{{- end }}
{{- with .Values.amqp.clientCertificate }}
{{- if .secret }}
- name: amqp-client
  secret:
    secretName: {{ .secret }}
    defaultMode: 288 # 0440
    items:
      - {key: {{ .certificateKey }}, path: tls.crt}
      - {key: {{ .privateKeyKey }}, path: tls.key}
{{- end }}
{{- end }}
{{- range $name := list "amqp" "matomo" }}
{{- with (index $.Values $name).caBundle }}
{{- if .configMap }}
- name: {{ $name }}-ca
  configMap:
    name: {{ .configMap }}
    items: [{key: {{ .key }}, path: ca.crt}]
{{- else if .secret }}
- name: {{ $name }}-ca
  secret:
    secretName: {{ .secret }}
    items: [{key: {{ .key }}, path: ca.crt}]
{{- end }}
{{- end }}
{{- end }}
{{- with include "relay.lists" . }}
- name: lists
  configMap:
    name: {{ . }}
{{- end }}
{{- with include "relay.tenants" . }}
- name: tenants
  configMap:
    name: {{ . }}
{{- end }}
{{- end -}}

{{/* Each volume of the relay's own is mounted where its name says. */}}
{{- define "relay.volumeMounts" -}}
{{- range fromYamlArray (include "relay.volumes" .) }}
- {name: {{ .name }}, mountPath: /etc/dnma-relay/{{ .name }}, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What every container of the relay shares. */}}
{{- define "relay.container" -}}
image: {{ include "relay.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
env:
  {{- include "relay.env" . | trim | nindent 2 }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  {{- include "relay.volumeMounts" . | trim | nindent 2 }}
{{- end -}}

{{/* What every pod of the relay shares. */}}
{{- define "relay.podSpec" -}}
serviceAccountName: {{ include "relay.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- range $key := list "imagePullSecrets" "nodeSelector" "tolerations" "dnsConfig" }}
{{- with index $.Values $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
volumes:
  {{- include "relay.volumes" . | nindent 2 }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
