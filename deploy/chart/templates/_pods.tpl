{{/* What every container of ours may do: nothing but run. */}}
{{- define "keepword.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "keepword.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "keepword.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "keepword.secretVariable" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef: {name: {{ .secret | quote }}, key: {{ .key | quote }}}
{{- end -}}

{{/* Where staff find each service that is on: links among their pages. */}}
{{- define "keepword.staffServices" -}}
{{- $found := dict -}}
{{- range $name := include "keepword.services" . | fromJsonArray -}}
{{- $_ := set $found $name (index $.Values $name).publicUrl -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* A service's environment: addresses in the open, secrets by name, files by their path. */}}
{{- define "keepword.environment" -}}
{{- $root := .root -}}
{{- $name := .name -}}
{{- $own := .own -}}
- {name: KEEPWORD_PUBLIC_URL, value: {{ $own.publicUrl | quote }}}
- {name: KEEPWORD_LOG_LEVEL, value: {{ $own.logLevel | quote }}}
- {name: KEEPWORD_KAFKA_BOOTSTRAP_SERVERS, value: {{ $root.Values.kafka.bootstrapServers | quote }}}
{{- if $root.Values.kafka.secured }}
- {name: KEEPWORD_KAFKA_SECURITY_PROTOCOL, value: SASL_SSL}
- {name: KEEPWORD_KAFKA_USERNAME, value: {{ $own.kafkaUser.name | quote }}}
- {name: KEEPWORD_KAFKA_CA_FILE, value: /etc/keepword/kafka/ca.crt}
{{ include "keepword.secretVariable" (dict "variable" "KEEPWORD_KAFKA_PASSWORD" "secret" $own.kafkaUser.existingSecret "key" $own.kafkaUser.key) }}
{{- end }}
{{- range $variable, $key := dict "KEEPWORD_DATABASE_URL" "database-url" "KEEPWORD_WORKER_DATABASE_URL" "worker-database-url" "KEEPWORD_ERASER_DATABASE_URL" "eraser-database-url" }}
{{ include "keepword.secretVariable" (dict "variable" $variable "secret" $own.database.existingSecret "key" $key) }}
{{- end }}
- {name: KEEPWORD_STAFF_SERVICES, value: {{ include "keepword.staffServices" $root | quote }}}
{{- with $root.Values.traces.otlpEndpoint }}
- {name: KEEPWORD_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- if eq $name "installer" }}
{{- with $root.Values.config.publicUrl }}
- {name: KEEPWORD_CONFIG_PUBLIC_URL, value: {{ . | quote }}}
{{- end }}
{{- with $root.Values.notifier.publicUrl }}
- {name: KEEPWORD_NOTIFIER_PUBLIC_URL, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- $calls := (index ($root.Files.Get "files/doors.yaml" | fromYaml).doors $name).calls }}
{{- if has $name (list "config" "notifier") }}
{{- with $root.Values.installer.publicUrl }}
- {name: KEEPWORD_INSTALLER_PUBLIC_URL, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- if has "installer" $calls }}
- {name: KEEPWORD_SESSION_JWKS_URL, value: "http://{{ include "keepword.fullname" $root }}-installer:8080/.well-known/jwks.json"}
{{- end }}
{{- if include "keepword.exportLinks" $root }}
{{- if eq $name "config" }}
- {name: KEEPWORD_EXPORT_JWKS_URL, value: "http://{{ include "keepword.fullname" $root }}-notifier:8080/.well-known/jwks.json"}
{{- end }}
{{- if eq $name "notifier" }}
- {name: KEEPWORD_CONFIG_PUBLIC_URL, value: {{ $root.Values.config.publicUrl | quote }}}
{{- end }}
{{- end }}
{{- if eq $name "purger" }}
- {name: KEEPWORD_RESIDUE_DAYS, value: {{ $root.Values.retention.residueDays | quote }}}
- {name: KEEPWORD_BACKUP_RETENTION_DAYS, value: {{ $root.Values.retention.backupDays | quote }}}
{{- if $own.checkpoints.existingClaim }}
- {name: KEEPWORD_CHECKPOINT_FILE, value: /var/lib/keepword/ledger-checkpoints}
{{- end }}
{{- end }}
{{- if eq $name "notifier" }}
- {name: KEEPWORD_PURGER_PUBLIC_URL, value: {{ $root.Values.purger.publicUrl | quote }}}
{{- if $own.bounces.domain }}
- {name: KEEPWORD_BOUNCE_DOMAIN, value: {{ $own.bounces.domain | quote }}}
- {name: KEEPWORD_BOUNCE_PORT, value: {{ $own.bounces.port | quote }}}
{{- end }}
{{- end }}
{{- if $own.files.existingSecret }}
{{- range $own.files.keys }}
- {name: KEEPWORD_{{ . | upper | replace "-" "_" }}_FILE, value: /etc/keepword/files/{{ . }}}
{{- end }}
{{- end }}
{{- range $variable, $value := $own.settings }}
- {name: KEEPWORD_{{ $variable }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{- define "keepword.mounts" -}}
{{- if .root.Values.kafka.secured }}
- {name: kafka, mountPath: /etc/keepword/kafka, readOnly: true}
{{- end }}
{{- if .own.files.existingSecret }}
- {name: files, mountPath: /etc/keepword/files, readOnly: true}
{{- end }}
{{- if and (eq .name "purger") (.own.checkpoints).existingClaim }}
- {name: checkpoints, mountPath: /var/lib/keepword}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- end -}}

{{- define "keepword.volumes" -}}
{{- if .root.Values.kafka.secured }}
- name: kafka
  secret:
    secretName: {{ .root.Values.kafka.caSecret.name | quote }}
    items: [{key: {{ .root.Values.kafka.caSecret.key | quote }}, path: ca.crt}]
{{- end }}
{{- if .own.files.existingSecret }}
- name: files
  secret:
    secretName: {{ .own.files.existingSecret | quote }}
    defaultMode: 0440
    items:
      {{- range .own.files.keys }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}
{{- if and (eq .name "purger") (.own.checkpoints).existingClaim }}
- name: checkpoints
  persistentVolumeClaim: {claimName: {{ .own.checkpoints.existingClaim | quote }}}
{{- end }}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 32Mi}
{{- end -}}
