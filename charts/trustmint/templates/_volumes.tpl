{{/* Every file is mounted as a directory, never by `subPath`: a mounted file would not follow its ConfigMap or Secret. */}}

{{- define "trustmint.policyVolume" -}}
{{- $source := .Values.policy.volume -}}
{{- if not $source -}}
{{- $source = dict "configMap" (dict "name" (.Values.policy.existingConfigMap | default (printf "%s-policy" (include "trustmint.fullname" .)))) -}}
{{- end -}}
{{- toYaml (mergeOverwrite (deepCopy $source) (dict "name" "policy")) -}}
{{- end }}

{{/* A Secret as a volume that the service's group may read and nobody may change. Call it with `name` and `secret`. */}}
{{- define "trustmint.secretVolume" -}}
name: {{ .name }}
secret:
  secretName: {{ .secret | quote }}
  defaultMode: 0440
{{- with .item }}
  items: [{key: {{ . | quote }}, path: {{ . | quote }}}]
{{- end }}
{{- end }}

{{- define "trustmint.volumes" -}}
- name: settings
  configMap: {name: {{ include "trustmint.fullname" . }}-settings}
- {{ include "trustmint.policyVolume" . | nindent 2 | trim }}
{{- if .Values.keys.volume }}
- {{ toYaml (mergeOverwrite (deepCopy .Values.keys.volume) (dict "name" "keys")) | nindent 2 | trim }}
{{- else }}
- {{ include "trustmint.secretVolume" (dict "name" "keys" "secret" .Values.keys.existingSecret) | nindent 2 | trim }}
{{- end }}
{{- with .Values.tls.existingSecret }}
- {{ include "trustmint.secretVolume" (dict "name" "tls" "secret" .) | nindent 2 | trim }}
{{- end }}
{{- with .Values.operations.existingSecret }}
- {{ include "trustmint.secretVolume" (dict "name" "operators" "secret" . "item" $.Values.operations.existingSecretKey) | nindent 2 | trim }}
{{- end }}
{{- if eq .Values.store.type "redis" }}
{{- with .Values.store.redis }}
{{- if .existingSecret }}
- {{ include "trustmint.secretVolume" (dict "name" "redis" "secret" .existingSecret "item" .existingSecretKey) | nindent 2 | trim }}
{{- end }}
{{- if .ca.existingSecret }}
- {{ include "trustmint.secretVolume" (dict "name" "redis-ca" "secret" .ca.existingSecret "item" .ca.key) | nindent 2 | trim }}
{{- else if .ca.existingConfigMap }}
- name: redis-ca
  configMap: {name: {{ .ca.existingConfigMap | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.otlp }}
{{- if .endpoint }}
{{- if .existingSecret }}
- {{ include "trustmint.secretVolume" (dict "name" "otlp" "secret" .existingSecret "item" .existingSecretKey) | nindent 2 | trim }}
{{- end }}
{{- if .ca.existingSecret }}
- {{ include "trustmint.secretVolume" (dict "name" "otlp-ca" "secret" .ca.existingSecret "item" .ca.key) | nindent 2 | trim }}
{{- else if .ca.existingConfigMap }}
- name: otlp-ca
  configMap: {name: {{ .ca.existingConfigMap | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "trustmint.volumeMounts" -}}
- {name: settings, mountPath: /etc/trustmint/settings, readOnly: true}
- {name: policy, mountPath: /etc/trustmint/policy, readOnly: true}
- {name: keys, mountPath: /etc/trustmint/keys, readOnly: true}
{{- if .Values.tls.existingSecret }}
- {name: tls, mountPath: /etc/trustmint/tls, readOnly: true}
{{- end }}
{{- if .Values.operations.existingSecret }}
- {name: operators, mountPath: /etc/trustmint/operators, readOnly: true}
{{- end }}
{{- if eq .Values.store.type "redis" }}
{{- if .Values.store.redis.existingSecret }}
- {name: redis, mountPath: /etc/trustmint/redis, readOnly: true}
{{- end }}
{{- if or .Values.store.redis.ca.existingSecret .Values.store.redis.ca.existingConfigMap }}
- {name: redis-ca, mountPath: /etc/trustmint/redis-ca, readOnly: true}
{{- end }}
{{- end }}
{{- if .Values.otlp.endpoint }}
{{- if .Values.otlp.existingSecret }}
- {name: otlp, mountPath: /etc/trustmint/otlp, readOnly: true}
{{- end }}
{{- if or .Values.otlp.ca.existingSecret .Values.otlp.ca.existingConfigMap }}
- {name: otlp-ca, mountPath: /etc/trustmint/otlp-ca, readOnly: true}
{{- end }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What every pod of the chart may: nothing. No value changes that. */}}
{{- define "trustmint.podSecurity" -}}
{{- $security := .Values.security -}}
{{- $context := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- $openshift := or (eq (toString $security.openshift) "true") (and (eq (toString $security.openshift) "auto") (.Capabilities.APIVersions.Has "security.openshift.io/v1")) -}}
{{- if not $openshift -}}
{{- $_ := set $context "runAsUser" $security.runAsUser -}}
{{- $_ := set $context "runAsGroup" $security.runAsGroup -}}
{{- $_ := set $context "fsGroup" $security.fsGroup -}}
{{- $_ := set $context "fsGroupChangePolicy" "OnRootMismatch" -}}
{{- end -}}
{{- with $security.seLinuxOptions }}{{ $_ := set $context "seLinuxOptions" . }}{{ end -}}
{{- with $security.appArmorProfile }}{{ $_ := set $context "appArmorProfile" . }}{{ end -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml $context | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "trustmint.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
privileged: false
readOnlyRootFilesystem: true
{{- end }}
