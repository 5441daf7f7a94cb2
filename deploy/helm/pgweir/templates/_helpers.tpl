{{- define "pgweir.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "pgweir.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "pgweir.labels" -}}
{{ include "pgweir.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "pgweir.secret" -}}
{{ .Values.existingSecret | default (include "pgweir.name" .) }}
{{- end }}

{{- /* The configuration with what the chart decides. */}}
{{- define "pgweir.config" -}}
{{- $own := dict "listen" (dict "host" "0.0.0.0" "port" 6432) "http" (dict "host" "0.0.0.0" "port" 9127) "limits" (dict "shutdown_timeout" (printf "%ds" (int .Values.shutdownTimeoutSeconds))) }}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $own) }}
{{- end }}
