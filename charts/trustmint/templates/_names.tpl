{{/* The chart's name in labels. */}}
{{- define "trustmint.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 45 | trimSuffix "-" -}}
{{- end }}

{{/* The name of all objects, short enough for every suffix: a CronJob's may have 52 letters. A release's name may have dots, which a Service's may not. */}}
{{- define "trustmint.fullname" -}}
{{- $name := include "trustmint.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | replace "." "-" | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "trustmint.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "trustmint.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{/* What makes a pod one of the service's. The component keeps the pods of `helm test` apart. It never changes: a Deployment's selector cannot. */}}
{{- define "trustmint.selector" -}}
app.kubernetes.io/name: {{ include "trustmint.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: server
{{- end }}

{{/* The same of the pods of `helm test`. */}}
{{- define "trustmint.testSelector" -}}
{{- include "trustmint.selector" . | replace "component: server" "component: test" }}
{{- end }}

{{/* metadata of an object. Call it with `root` and, where they differ from the usual, `name`, `component`, `labels`, `annotations`.
     Those of the chart win over those that were asked for. */}}
{{- define "trustmint.metadata" -}}
{{- $root := .root -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/name" (include "trustmint.name" $root)
  "app.kubernetes.io/instance" $root.Release.Name
  "app.kubernetes.io/component" (.component | default "server")
  "app.kubernetes.io/version" ($root.Chart.AppVersion | replace "+" "_" | trunc 63)
  "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $annotations := mergeOverwrite (dict) (deepCopy $root.Values.commonAnnotations) (.annotations | default dict) -}}
{{- $metadata := dict
  "name" (.name | default (include "trustmint.fullname" $root))
  "namespace" $root.Release.Namespace
  "labels" (mergeOverwrite (dict) (deepCopy $root.Values.commonLabels) (.labels | default dict) $own) -}}
{{- if $annotations }}{{ $_ := set $metadata "annotations" $annotations }}{{ end -}}
{{- toYaml $metadata -}}
{{- end }}

{{- define "trustmint.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Whether an object of the Prometheus operator is made. Call it with `root`, `enabled` and `kind`. */}}
{{- define "trustmint.monitored" -}}
{{- if or (eq (toString .enabled) "true") (and (eq (toString .enabled) "auto") (.root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind))) -}}
true
{{- end -}}
{{- end }}

{{/* Which of a host's paths go to the service, as a list in JSON. Call it with `root` and `host`. */}}
{{- define "trustmint.paths" -}}
{{- $ofDialects := .root.Files.Get "files/paths.yaml" | fromYaml -}}
{{- .host.paths | default (concat .root.Values.publicPaths (get $ofDialects (.host.dialect | default "generic"))) | toJson -}}
{{- end }}

{{- define "trustmint.servicePort" -}}
{{- .Values.service.port | default (.Values.tls.existingSecret | empty | ternary 80 443) -}}
{{- end }}

{{/* Whether Prometheus is to read the operations port. */}}
{{- define "trustmint.scraped" -}}
{{- if or (include "trustmint.operationsService" .) (include "trustmint.monitored" (dict "root" . "enabled" .Values.podMonitor.enabled "kind" "PodMonitor")) -}}
true
{{- end -}}
{{- end }}

{{/* Whether Prometheus needs a Service to find the pods. */}}
{{- define "trustmint.operationsService" -}}
{{- if or .Values.operations.service (include "trustmint.monitored" (dict "root" . "enabled" .Values.serviceMonitor.enabled "kind" "ServiceMonitor")) -}}
true
{{- end -}}
{{- end }}
