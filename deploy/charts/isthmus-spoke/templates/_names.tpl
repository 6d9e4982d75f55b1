{{/* The name of the spoke's objects. It is fixed: a cluster has one spoke, which marks what it makes. */}}
{{- define "spoke.name" -}}isthmus-spoke{{- end }}

{{- define "spoke.selector" -}}
app.kubernetes.io/name: isthmus-spoke
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "spoke.labels" -}}
{{ include "spoke.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: isthmus
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "spoke.image" -}}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{- end }}

{{- define "spoke.moverEndpoint" -}}
{{- .Values.mover.endpoint | default (printf "https://%s.%s.svc:%v" (include "spoke.name" .) .Release.Namespace .Values.service.port) -}}
{{- end }}

{{- define "spoke.joinSecret" -}}
{{- .Values.joinToken.existingSecret | default (printf "%s-join-token" (include "spoke.name" .)) -}}
{{- end }}
