{{/* What a pod that probes the service is: for `helm test` and for `prober`. */}}
{{- define "trustmint.probeSpec" -}}
{{- $exchange := .Values.tests.exchange -}}
{{- $scheme := .Values.tls.existingSecret | empty | ternary "http" "https" -}}
restartPolicy: Never
serviceAccountName: {{ include "trustmint.serviceAccountName" . | quote }}
{{- include "trustmint.podSecurity" . | nindent 0 }}
containers:
  # What must succeed and what must be refused, at each registry's host.
  - name: probe
    {{- include "trustmint.testContainer" . | nindent 4 }}
      {{- if .Values.tests.ca.existingConfigMap }}
      - {name: ca, mountPath: /etc/trustmint/ca, readOnly: true}
      {{- end }}
      {{- if $exchange.registry }}
      - {name: id-token, mountPath: /etc/trustmint/id-token, readOnly: true}
      {{- end }}
    args:
      - probe
      - --url
      - {{ $scheme }}://{{ include "trustmint.fullname" . }}.{{ .Release.Namespace }}.svc:{{ include "trustmint.servicePort" . }}
      - --policy
      - {{ include "trustmint.policyDirectory" . }}
      {{- if .Values.tests.ca.existingConfigMap }}
      - --ca-file
      - /etc/trustmint/ca/{{ .Values.tests.ca.key }}
      {{- end }}
      {{- if $exchange.registry }}
      - --registry
      - {{ $exchange.registry | quote }}
      - --token-file
      - /etc/trustmint/id-token/token
      {{- end }}
volumes:
  - {{ include "trustmint.policyVolume" . | nindent 4 | trim }}
  {{- with .Values.tests.ca.existingConfigMap }}
  - name: ca
    configMap: {name: {{ . | quote }}}
  {{- end }}
  {{- if $exchange.registry }}
  # The only token of the cluster that the chart asks for: for this audience alone, and for ten minutes.
  - name: id-token
    projected:
      defaultMode: 0440
      sources:
        - serviceAccountToken: {path: token, audience: {{ $exchange.audience | quote }}, expirationSeconds: 600}
  {{- end }}
{{- end }}

{{/* A pod that lints and tests the policy in its volume `policy`, by the binary that will decide by it. */}}
{{- define "trustmint.policyTestSpec" -}}
restartPolicy: Never
{{ include "trustmint.podSecurity" . }}
initContainers:
  - name: lint
    {{- include "trustmint.testContainer" . | nindent 4 }}
    args:
      - policy
      - lint
      - --policy
      - {{ include "trustmint.policyDirectory" . }}
      {{- if .Values.tests.denyWarnings }}
      - --deny-warnings
      {{- end }}
containers:
  - name: test
    {{- include "trustmint.testContainer" . | nindent 4 }}
    args:
      - policy
      - test
      - --policy
      - {{ include "trustmint.policyDirectory" . }}
{{- end }}

{{- define "trustmint.policyDirectory" -}}
{{- trimSuffix "/" (printf "/etc/trustmint/policy/%s" (.Values.policy.subdirectory | default "")) -}}
{{- end }}

{{- define "trustmint.testMetadata" -}}
{{- $annotations := dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation" -}}
{{- include "trustmint.metadata" (dict "root" .root "name" (printf "%s-test-%s" (include "trustmint.fullname" .root) .name) "component" "test" "annotations" $annotations) -}}
{{- end }}

{{- define "trustmint.testContainer" -}}
image: {{ include "trustmint.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "trustmint.containerSecurity" . | nindent 2 }}
resources:
  {{- toYaml .Values.tests.resources | nindent 2 }}
volumeMounts:
  - {name: policy, mountPath: /etc/trustmint/policy, readOnly: true}
{{- end }}
