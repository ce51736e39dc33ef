{{/* What the schema cannot say: values that contradict each other. */}}
{{- define "relay.validate" -}}
{{- $shards := int .Values.queue.shards -}}
{{- if not (or .Values.amqp.existingSecret .Values.externalSecret.enabled) -}}
{{- fail "amqp.existingSecret is empty: name a Secret with the broker's address, or set externalSecret.enabled" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled -}}
{{- fail "autoscaling.enabled and keda.enabled are both true: two autoscalers would fight over one Deployment, choose one" -}}
{{- end -}}
{{- range $name := list "autoscaling" "keda" -}}
{{- $scaler := index $.Values $name -}}
{{- if $scaler.enabled -}}
{{- if gt (int $scaler.maxReplicas) $shards -}}
{{- fail (printf "%s.maxReplicas (%d) is above queue.shards (%d): more replicas than shards cannot work, raise queue.shards or lower maxReplicas" $name (int $scaler.maxReplicas) $shards) -}}
{{- end -}}
{{- if gt (int $scaler.minReplicas) (int $scaler.maxReplicas) -}}
{{- fail (printf "%s.minReplicas (%d) is above maxReplicas (%d)" $name (int $scaler.minReplicas) (int $scaler.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.keda -}}
{{- if and .enabled (not (or .existingSecret .authenticationRef)) -}}
{{- fail "keda.existingSecret is empty: KEDA needs the address of the management API and a user who may look, or a keda.authenticationRef" -}}
{{- end -}}
{{- end -}}
{{- $least := add 10 (include "relay.seconds" .Values.matomo.timeout) -}}
{{- if lt (int (include "relay.gracePeriod" .)) (int $least) -}}
{{- fail (printf "terminationGracePeriodSeconds (%v) is too short: a relay that stops needs matomo.timeout and 10 s more, %d s in all; hits in flight would be stored twice" .Values.terminationGracePeriodSeconds $least) -}}
{{- end -}}
{{- if and .Values.metrics.podMonitor.enabled .Values.metrics.serviceMonitor.enabled -}}
{{- fail "metrics.podMonitor.enabled and metrics.serviceMonitor.enabled are both true: everything would be counted twice" -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.service.enabled) -}}
{{- fail "metrics.serviceMonitor.enabled needs service.enabled" -}}
{{- end -}}
{{- if and .Values.topologyOperator.enabled (not .Values.topologyOperator.rabbitmqClusterReference) -}}
{{- fail "topologyOperator.rabbitmqClusterReference is empty: name the cluster" -}}
{{- end -}}
{{- if .Values.externalSecret.enabled -}}
{{- if not (and .Values.externalSecret.secretStoreRef.name .Values.externalSecret.amqpUrl) -}}
{{- fail "externalSecret needs secretStoreRef.name and amqpUrl" -}}
{{- end -}}
{{- if or .Values.amqp.existingSecret .Values.matomo.existingSecret -}}
{{- fail "externalSecret.enabled and an existingSecret contradict each other: choose one" -}}
{{- end -}}
{{- end -}}
{{- range $name := list "amqp" "matomo" -}}
{{- $bundle := (index $.Values $name).caBundle -}}
{{- if and $bundle.configMap $bundle.secret -}}
{{- fail (printf "%s.caBundle names both a configMap and a secret: choose one" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
