{{/* How many seconds a pod has to end. */}}
{{- define "trustmint.grace" -}}
{{- $needed := add .Values.drainSeconds .Values.shutdownSeconds 15 -}}
{{- .Values.terminationGracePeriodSeconds | default $needed -}}
{{- end }}

{{/* The addresses of Redis, as a list in JSON. */}}
{{- define "trustmint.redisUrls" -}}
{{- $redis := .Values.store.redis -}}
{{- $urls := concat ($redis.sentinel.urls | default list) ($redis.cluster | default list) -}}
{{- if $redis.url }}{{ $urls = append $urls $redis.url }}{{ end -}}
{{- toJson $urls -}}
{{- end }}

{{/* trustmint.yaml. Paths start at its folder, so that it can be checked wherever it is put together with the others. */}}
{{- define "trustmint.settings" -}}
{{- $address := eq .Values.bindAddress "::" | ternary "[::]" .Values.bindAddress -}}
{{- $listen := dict "address" (printf "%s:8080" $address) -}}
{{- with .Values.trustedProxies }}{{ $_ := set $listen "trusted_proxies" . }}{{ end -}}
{{- with .Values.tls.existingSecret -}}
{{- $_ := set $listen "tls" (dict "certificate_file" (printf "../tls/%s" $.Values.tls.certificateKey) "key_file" (printf "../tls/%s" $.Values.tls.privateKeyKey)) -}}
{{- end -}}
{{- $operations := dict "address" (printf "%s:8081" $address) -}}
{{- with .Values.operations.callers }}{{ $_ := set $operations "callers" . }}{{ end -}}
{{- $state := dict "store" .Values.store.type -}}
{{- if eq .Values.store.type "memory" -}}
{{- $_ := set $state "capacity" .Values.store.memory.capacity -}}
{{- else -}}
{{- $redis := dict -}}
{{- with .Values.store.redis -}}
{{- $redis = dict "prefix" .prefix "timeout" .timeout "wait_for_replicas" .waitForReplicas -}}
{{- if .url }}{{ $_ := set $redis "url" .url }}{{ end -}}
{{- if or .sentinel.name .sentinel.urls }}{{ $_ := set $redis "sentinel" .sentinel }}{{ end -}}
{{- if .cluster }}{{ $_ := set $redis "cluster" .cluster }}{{ end -}}
{{- if .username }}{{ $_ := set $redis "username" .username }}{{ end -}}
{{- if .existingSecret }}{{ $_ := set $redis "password_file" (printf "../redis/%s" .existingSecretKey) }}{{ end -}}
{{- if or .ca.existingSecret .ca.existingConfigMap }}{{ $_ := set $redis "ca_file" (printf "../redis-ca/%s" .ca.key) }}{{ end -}}
{{- end -}}
{{- $_ := set $state "redis" $redis -}}
{{- end -}}
{{- $telemetry := dict -}}
{{- with .Values.otlp -}}
{{- if .endpoint -}}
{{- $otlp := dict "endpoint" .endpoint "signals" .signals "interval" .interval "service_name" (.serviceName | default (include "trustmint.fullname" $)) -}}
{{- if has "traces" .signals }}{{ $_ := set $otlp "sample_one_in" (int .sampleOneIn) }}{{ end -}}
{{- if .existingSecret }}{{ $_ := set $otlp "headers_file" (printf "../otlp/%s" .existingSecretKey) }}{{ end -}}
{{- if or .ca.existingSecret .ca.existingConfigMap }}{{ $_ := set $otlp "ca_file" (printf "../otlp-ca/%s" .ca.key) }}{{ end -}}
{{- $_ := set $telemetry "otlp" $otlp -}}
{{- end -}}
{{- end -}}
{{- $settings := deepCopy (.Values.settings | default dict) -}}
{{- $directory := trimSuffix "/" (printf "../policy/%s" (.Values.policy.subdirectory | default "")) -}}
{{- $settings = mergeOverwrite $settings (dict
  "listen" $listen
  "operations" $operations
  "policy" (dict "directory" $directory)
  "keys" (dict "directory" "../keys")
  "state" $state
  "telemetry" $telemetry
  "limits" (dict "drain" (printf "%ds" (int .Values.drainSeconds)) "shutdown_timeout" (printf "%ds" (int .Values.shutdownSeconds)))) -}}
{{- toYaml $settings -}}
{{- end }}
