{{/* The name of the hub's objects. It is fixed: spokes and people find the ConfigMap, the Lease and
     the Secrets of the hub by it, and a namespace holds one hub. */}}
{{- define "hub.name" -}}isthmus-hub{{- end }}

{{- define "hub.selector" -}}
app.kubernetes.io/name: isthmus-hub
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "hub.labels" -}}
{{ include "hub.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: isthmus
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Cluster-wide objects carry the namespace in their names, so that two hubs do not fight for them. */}}
{{- define "hub.clusterName" -}}isthmus-hub-{{ .Release.Namespace }}{{- end }}

{{- define "hub.image" -}}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{- end }}

{{- define "hub.advertiseUrl" -}}
{{- .Values.advertiseUrl | default (printf "https://%s.%s.svc:%v" (include "hub.name" .) .Release.Namespace .Values.service.port) -}}
{{- end }}
