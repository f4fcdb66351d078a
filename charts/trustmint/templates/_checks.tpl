{{/* What the schema cannot see. Each message says what to do. */}}
{{- define "trustmint.checks" -}}
{{- $values := .Values -}}

{{- if not $values.image.repository -}}
{{- fail "image.repository is empty: name the image to run, as in --set image.repository=registry.acme.example/trustmint" -}}
{{- end -}}
{{- if regexMatch "^[0-9]" (include "trustmint.fullname" .) -}}
{{- fail "a Service's name cannot begin with a digit: set fullnameOverride, or choose another name for the release" -}}
{{- end -}}

{{- if and (not $values.keys.existingSecret) (not $values.keys.volume) -}}
{{- fail "keys.existingSecret is empty: make a key with `trustmint keys new --directory keys`, put it into a Secret with `kubectl create secret generic trustmint-keys --from-file=keys`, and set keys.existingSecret=trustmint-keys" -}}
{{- end -}}
{{- if and $values.keys.existingSecret $values.keys.volume -}}
{{- fail "keys.existingSecret and keys.volume are both set: keep one" -}}
{{- end -}}

{{- range concat (list $values.keys.volume) (dig "projected" "sources" list $values.keys.volume) -}}
{{- if hasKey . "configMap" -}}
{{- fail "keys.volume: a ConfigMap is no place for master keys: whoever reads one can mint for every registry. Use a Secret, or a CSI driver" -}}
{{- end -}}
{{- end -}}
{{- if hasKey $values.keys.volume "hostPath" -}}
{{- fail "keys.volume: a node's folder is no place for master keys: what else runs there may read it, and each node has its own. Use a Secret, or a CSI driver" -}}
{{- end -}}

{{- $sources := 0 -}}
{{- range list $values.policy.files $values.policy.existingConfigMap $values.policy.volume -}}
{{- if . }}{{ $sources = add1 $sources }}{{ end -}}
{{- end -}}
{{- if eq (int $sources) 0 -}}
{{- fail "there is no policy: put its files into policy.files (--set-file 'policy.files.acme\\.yaml=acme.yaml'), or name policy.existingConfigMap or policy.volume" -}}
{{- end -}}
{{- if gt (int $sources) 1 -}}
{{- fail "policy.files, policy.existingConfigMap and policy.volume: keep one" -}}
{{- end -}}
{{- if and $values.policy.checkBeforeUpgrade (not $values.policy.files) -}}
{{- fail "policy.checkBeforeUpgrade looks at policy.files, which is empty: set it to false, and lint and test the policy where it is made" -}}
{{- end -}}
{{- if $values.policy.files -}}
{{- $registries := 0 -}}
{{- $size := 0 -}}
{{- range $name, $file := $values.policy.files -}}
{{- $text := kindIs "string" $file | ternary $file (toYaml $file) -}}
{{- $size = add $size (len $text) -}}
{{- if regexMatch "\\.(yaml|yml)$" $name -}}
{{- $read := kindIs "string" $file | ternary (fromYaml $text) $file -}}
{{- if hasKey $read "Error" -}}
{{- fail (printf "policy.files: %s is not YAML: %s" $name $read.Error) -}}
{{- end -}}
{{- if kindIs "map" $read.registries }}{{ $registries = add $registries (len $read.registries) }}{{ end -}}
{{- else if kindIs "map" $file -}}
{{- fail (printf "policy.files: %s is a map, and not of the policy: give its name the ending .yaml, or write it as text" $name) -}}
{{- end -}}
{{- if contains "PRIVATE KEY" $text -}}
{{- fail (printf "policy.files: %s holds a private key, and a ConfigMap is no place for one" $name) -}}
{{- end -}}
{{- end -}}
{{- if eq (int $registries) 0 -}}
{{- fail "policy.files has no registry: add the section `registries` to one of the .yaml files" -}}
{{- end -}}
{{- if gt (int $size) 900000 -}}
{{- fail (printf "policy.files has %d bytes, and a ConfigMap holds 1 MiB: use policy.volume" (int $size)) -}}
{{- end -}}
{{- end -}}

{{- $replicas := int $values.replicaCount -}}
{{- if $values.autoscaling.enabled }}{{ $replicas = int $values.autoscaling.maxReplicas }}{{ end -}}
{{- if eq $values.store.type "memory" -}}
{{- if $values.autoscaling.enabled -}}
{{- fail "autoscaling.enabled needs the store in Redis: with store.type=memory each replica would have its own first uses. Set store.type=redis, or switch autoscaling off" -}}
{{- end -}}
{{- if gt $replicas 1 -}}
{{- fail (printf "store.type=memory is for one replica, and replicaCount is %d: each would have its own first uses and revocations. Set replicaCount=1, or store.type=redis and store.redis.url" $replicas) -}}
{{- end -}}
{{- $capacity := include "trustmint.mebibytes" $values.store.memory.capacity | int -}}
{{- $limit := include "trustmint.mebibytes" (dig "limits" "memory" "" $values.resources) | int -}}
{{- if and $limit (lt $limit (int (add $capacity 64))) -}}
{{- fail (printf "store.memory.capacity is %s, and resources.limits.memory %s: a full store would end the pod. Set the limit 64Mi above it at least" $values.store.memory.capacity $values.resources.limits.memory) -}}
{{- end -}}
{{- range $key := list "url" "sentinel.name" "sentinel.urls" "cluster" "username" "existingSecret" "ca.existingSecret" "ca.existingConfigMap" -}}
{{- $found := $values.store.redis -}}
{{- range splitList "." $key }}{{ $found = get $found . }}{{ end -}}
{{- if $found -}}
{{- fail (printf "store.redis.%s is set, and store.type is memory: set store.type=redis, or remove it" $key) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- $redis := $values.store.redis -}}
{{- $ways := 0 -}}
{{- range list $redis.url (or $redis.sentinel.name $redis.sentinel.urls) $redis.cluster -}}
{{- if . }}{{ $ways = add1 $ways }}{{ end -}}
{{- end -}}
{{- if eq (int $ways) 0 -}}
{{- fail "store.type=redis names no server: set store.redis.url=rediss://HOST:PORT, or store.redis.sentinel or store.redis.cluster. For a trial without Redis: --set store.type=memory,replicaCount=1" -}}
{{- end -}}
{{- if gt (int $ways) 1 -}}
{{- fail "store.redis.url, store.redis.sentinel and store.redis.cluster: keep one" -}}
{{- end -}}
{{- if and $redis.sentinel.name (not $redis.sentinel.urls) }}{{ fail "store.redis.sentinel.name has no Sentinels: set store.redis.sentinel.urls" }}{{ end -}}
{{- if and $redis.sentinel.urls (not $redis.sentinel.name) }}{{ fail "store.redis.sentinel.urls: set store.redis.sentinel.name, by which they know the master" }}{{ end -}}
{{- range include "trustmint.redisUrls" . | fromJsonArray -}}
{{- if contains "@" . -}}
{{- fail "an address of Redis holds a user or a password, which all could read in the ConfigMap: set store.redis.username and store.redis.existingSecret" -}}
{{- end -}}
{{- if not (regexMatch "^((rediss|valkeys)://([A-Za-z0-9.-]+|\\[[0-9a-fA-F:]+\\])|(redis|valkey)://(127\\.0\\.0\\.1|localhost|\\[::1\\]))(:[0-9]{1,5})?/?$" .) -}}
{{- fail (printf "`%s` is no address of Redis: write rediss://HOST:PORT; redis:// is only for a server in the same pod, at 127.0.0.1" .) -}}
{{- end -}}
{{- end -}}
{{- if and $redis.username (not $redis.existingSecret) -}}
{{- fail "store.redis.username has no password: name the Secret with it in store.redis.existingSecret" -}}
{{- end -}}
{{- if and $redis.ca.existingSecret $redis.ca.existingConfigMap -}}
{{- fail "store.redis.ca.existingSecret and store.redis.ca.existingConfigMap: keep one" -}}
{{- end -}}
{{- end -}}

{{- if and (not $values.tls.existingSecret) (not $values.trustedProxies) -}}
{{- fail "tokens would cross the network unencrypted: set tls.existingSecret, or name the proxies that speak https for the service in trustedProxies (the pod network of the ingress controller, as [10.0.0.0/8])" -}}
{{- end -}}
{{- if and $values.trustedProxies $values.networkPolicy.enabled (not $values.networkPolicy.from) -}}
{{- fail "trustedProxies: networkPolicy.from is empty, so every pod of those networks reaches the port and is believed: name the proxies' pods there, as [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress-nginx}}}]" -}}
{{- end -}}
{{- range $values.trustedProxies -}}
{{- if hasSuffix "/0" . }}{{ fail (printf "trustedProxies: %s is everybody, and each could then claim any address: name the networks of your proxies" .) }}{{ end -}}
{{- end -}}
{{- if and $values.operations.callers $values.operations.existingSecret -}}
{{- fail "operations.callers and operations.existingSecret: keep one, the second would replace the first" -}}
{{- end -}}
{{- $otlp := $values.otlp -}}
{{- if $otlp.endpoint -}}
{{- if not (regexMatch "^(https://([A-Za-z0-9.-]+|\\[[0-9a-fA-F:]+\\])|http://(127\\.0\\.0\\.1|localhost|\\[::1\\]))(:[0-9]{1,5})?(/.*)?$" $otlp.endpoint) -}}
{{- fail (printf "otlp.endpoint: `%s` is no address of a collector: write https://HOST:4318; http:// is only for one in the same pod, at 127.0.0.1" $otlp.endpoint) -}}
{{- end -}}
{{- if and $otlp.ca.existingSecret $otlp.ca.existingConfigMap -}}
{{- fail "otlp.ca.existingSecret and otlp.ca.existingConfigMap: keep one" -}}
{{- end -}}
{{- if and (not $otlp.signals) (ne (dig "audit" "sink" "stdout" $values.settings) "otlp") -}}
{{- fail "otlp.signals leaves nothing to be sent: name some of traces, metrics and logs, or set settings.audit.sink=otlp, or remove otlp.endpoint" -}}
{{- end -}}
{{- else -}}
{{- range list $otlp.existingSecret $otlp.ca.existingSecret $otlp.ca.existingConfigMap -}}
{{- if . }}{{ fail (printf "otlp: %s is not used without a collector: set otlp.endpoint, or remove it" .) }}{{ end -}}
{{- end -}}
{{- if eq (dig "audit" "sink" "stdout" $values.settings) "otlp" -}}
{{- fail "settings.audit.sink=otlp names no collector: set otlp.endpoint" -}}
{{- end -}}
{{- end -}}
{{- if eq (dig "audit" "sink" "stdout" $values.settings) "file" -}}
{{- $file := dig "audit" "file" "" $values.settings | default "" -}}
{{- if not $file -}}
{{- fail "settings.audit.sink=file names no file: set settings.audit.file=/var/log/trustmint/audit.jsonl, and mount a volume for it" -}}
{{- end -}}
{{- if not (include "trustmint.writable" (dict "values" $values "path" $file)) -}}
{{- fail (printf "settings.audit.file: the root file system is read-only, and %s lies on no volume that can be written: mount one for its folder with extraVolumes and extraVolumeMounts" $file) -}}
{{- end -}}
{{- end -}}

{{- /* After the requests: idle operators, the last handlers, audit events and telemetry have 11 seconds of their own. */ -}}
{{- $needed := int (add $values.drainSeconds $values.shutdownSeconds 11) -}}
{{- if lt (int (include "trustmint.grace" .)) $needed -}}
{{- fail (printf "terminationGracePeriodSeconds must be at least drainSeconds + shutdownSeconds + 11, which is %d: else requests are cut off, or the last lines of the audit log" $needed) -}}
{{- end -}}

{{- if $values.autoscaling.enabled -}}
{{- if gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas) -}}
{{- fail "autoscaling.minReplicas is greater than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if not (or $values.autoscaling.targetCPUUtilizationPercentage $values.autoscaling.metrics) -}}
{{- fail "autoscaling has nothing to look at: set autoscaling.targetCPUUtilizationPercentage or autoscaling.metrics" -}}
{{- end -}}
{{- if and $values.autoscaling.targetCPUUtilizationPercentage (not (dig "requests" "cpu" "" $values.resources)) -}}
{{- fail "autoscaling.targetCPUUtilizationPercentage is a share of resources.requests.cpu: set that" -}}
{{- end -}}
{{- end -}}
{{- if and (eq $values.store.type "redis") (has (toString $values.rollingUpdate.maxUnavailable) (list "0" "0%")) (has (toString $values.rollingUpdate.maxSurge) (list "0" "0%")) -}}
{{- fail "rollingUpdate: with maxUnavailable and maxSurge at 0 no pod could ever be exchanged" -}}
{{- end -}}

{{- if and $values.ingress.enabled (not $values.ingress.hosts) -}}
{{- fail "ingress.enabled: list the hosts of the policy's registries in ingress.hosts, as [{host: pypi.acme.example}]" -}}
{{- end -}}
{{- if $values.httpRoute.enabled -}}
{{- if not $values.httpRoute.hosts -}}
{{- fail "httpRoute.enabled: list the hosts of the policy's registries in httpRoute.hosts, as [{host: pypi.acme.example}]" -}}
{{- end -}}
{{- if not $values.httpRoute.parentRefs -}}
{{- fail "httpRoute.enabled: name the Gateway in httpRoute.parentRefs, as [{name: public, namespace: gateways}]" -}}
{{- end -}}
{{- end -}}
{{- if and (include "trustmint.monitored" (dict "root" . "enabled" $values.serviceMonitor.enabled "kind" "ServiceMonitor")) (include "trustmint.monitored" (dict "root" . "enabled" $values.podMonitor.enabled "kind" "PodMonitor")) -}}
{{- fail "serviceMonitor and podMonitor are both enabled, and would count everything twice: keep one" -}}
{{- end -}}
{{- range concat ($values.ingress.hosts | default list) ($values.httpRoute.hosts | default list) -}}
{{- if not (or .dialect .paths) -}}
{{- fail (printf "%s: say which dialect its registry speaks, as {host: %s, dialect: pypi}, or list its paths" .host .host) -}}
{{- end -}}
{{- end -}}
{{- if and $values.networkPolicy.enabled (include "trustmint.scraped" .) (not $values.networkPolicy.operationsFrom) (not $values.networkPolicy.extraIngress) -}}
{{- fail "Prometheus is to read the metrics, and the NetworkPolicy lets nobody in: name its pods in networkPolicy.operationsFrom, as [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]" -}}
{{- end -}}
{{- if and (or $values.tests.enabled $values.prober.enabled) (hasKey $values.policy.volume "emptyDir") -}}
{{- fail "helm test and prober have pods of their own, whose policy.volume would be empty: set tests.enabled=false and prober.enabled=false" -}}
{{- end -}}
{{- if ne (not $values.tests.exchange.registry) (not $values.tests.exchange.audience) -}}
{{- fail "tests.exchange: set both registry and audience" -}}
{{- end -}}

{{- $taken := list "settings" "policy" "keys" "tls" "operators" "redis" "redis-ca" "otlp" "otlp-ca" -}}
{{- range $values.extraVolumes -}}
{{- if has .name $taken }}{{ fail (printf "extraVolumes: the chart has a volume named %s: choose another name" .name) }}{{ end -}}
{{- end -}}
{{- range $values.extraVolumeMounts -}}
{{- if hasPrefix "/etc/trustmint/" (printf "%s/" (clean .mountPath)) }}{{ fail (printf "extraVolumeMounts: %s is the chart's own: choose a path outside /etc/trustmint" .mountPath) }}{{ end -}}
{{- end -}}
{{- range $values.prometheusRule.disabled -}}
{{- if not (contains (printf "alert: %s\n" .) ($.Files.Get "files/alerts.yaml")) }}{{ fail (printf "prometheusRule.disabled: there is no alert %s" .) }}{{ end -}}
{{- end -}}
{{- end }}

{{/* Whether an absolute path lies below a mount of `extraVolumeMounts` that can be written: of the mounts above it the nearest counts. */}}
{{- define "trustmint.writable" -}}
{{- $path := clean .path -}}
{{- $nearest := dict "mountPath" "" -}}
{{- range .values.extraVolumeMounts -}}
{{- if and (hasPrefix (printf "%s/" (clean .mountPath)) $path) (gt (len (clean .mountPath)) (len (clean $nearest.mountPath))) }}{{ $nearest = . }}{{ end -}}
{{- end -}}
{{- range .values.extraVolumes -}}
{{- if and (eq .name (get $nearest "name")) (not $nearest.readOnly) -}}
{{- $readOnly := false -}}
{{- range $kind, $source := . -}}
{{- if or (has $kind (list "configMap" "secret" "projected" "downwardAPI" "image")) (and (kindIs "map" $source) (dig "readOnly" false (default dict $source))) }}{{ $readOnly = true }}{{ end -}}
{{- end -}}
{{- if not $readOnly }}writable{{ end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* A size in MiB, rounded down; 0 for what has another form. */}}
{{- define "trustmint.mebibytes" -}}
{{- $units := dict "bytes" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $size := toString . -}}
{{- $unit := regexFind "[A-Za-z]*$" $size | trimSuffix "B" | default "bytes" -}}
{{- if regexMatch "^[0-9.]+(e[+]?[0-9]+)?[A-Za-z]*$" $size -}}
{{- divf (mulf (regexFind "^[0-9.]+(e[+]?[0-9]+)?" $size | float64) (get $units $unit | default 0)) 1048576 | floor | int -}}
{{- else -}}
0
{{- end -}}
{{- end }}
