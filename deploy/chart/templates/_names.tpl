{{/* Room is left for the longest ending, "-installer-migrate-" and eight letters, within 63. */}}
{{- define "keepword.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 36 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 36 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | trunc (sub 35 (len $name) | int)) $name | trunc 36 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What never changes: a Deployment's selector is fixed for its life, so no version and no chart. */}}
{{- define "keepword.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "keepword.labels" -}}
{{ include "keepword.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: keepword
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "keepword.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The services that are to run, in one order, as JSON. */}}
{{- define "keepword.services" -}}
{{- $wanted := list -}}
{{- range $name := list "installer" "config" "purger" "notifier" -}}
{{- if (include "keepword.own" (dict "root" $ "name" $name) | fromJson).enabled -}}
{{- $wanted = append $wanted $name -}}
{{- end -}}
{{- end -}}
{{- $wanted | toJson -}}
{{- end -}}

{{/* A service's values: the defaults, and over them its own. */}}
{{- define "keepword.own" -}}
{{- mergeOverwrite (deepCopy .root.Values.defaults) (deepCopy (index .root.Values .name)) | toJson -}}
{{- end -}}

{{- define "keepword.host" -}}
{{- $url := urlParse .publicUrl -}}
{{- if $url.path -}}
{{- fail (printf "%s.publicUrl: give an address without a path, as an Ingress leads whole hosts to a service" .name) -}}
{{- end -}}
{{- $url.host -}}
{{- end -}}

{{/* Whether reminders bring a link to the export: notifier then has a key to sign it with. */}}
{{- define "keepword.exportLinks" -}}
{{- if and .Values.notifier.files.existingSecret (has "export-key" .Values.notifier.files.keys) -}}yes{{- end -}}
{{- end -}}
