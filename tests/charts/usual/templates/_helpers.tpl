{{- define "usual.pod" -}}
metadata:
  labels: {app: {{ .Release.Name }}, part: {{ .part }}}
  annotations: {colour: {{ .Values.colour }}}
spec:
  terminationGracePeriodSeconds: 2
  containers:
    - name: main
      image: warren/hello:latest
      imagePullPolicy: IfNotPresent
      args: [echo]
      env:
        - name: COLOUR
          valueFrom: {configMapKeyRef: {name: {{ .Release.Name }}, key: colour}}
      ports: [{name: http, containerPort: 8080}]
      readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
      resources: {requests: {cpu: 10m, memory: 16Mi}}
{{- end -}}
