package e2e

import (
	"fmt"
	"strings"
)

// manifest is a workload with its Service, for the tests.
type manifest struct {
	kind, name, namespace string
	replicas              int    // not for a DaemonSet
	spec                  string // more of the spec, as YAML in braces without them
	podSpec               string // more of the pod's spec, likewise
	labels, annotations   string // of the workload
	podLabels, podNotes   string // of the pod: labels and annotations
	noProbe               bool
}

func (m manifest) String() string {
	group := "apps/v1"
	selector := fmt.Sprintf("selector: {matchLabels: {app: %s}}", m.name)
	switch m.kind {
	case "ReplicationController":
		group, selector = "v1", fmt.Sprintf("selector: {app: %s}", m.name)
	case "CronJob", "Job":
		group, selector = "batch/v1", ""
	}
	var fields []string
	for _, f := range []string{selector, m.spec} {
		if f != "" {
			fields = append(fields, f)
		}
	}
	if m.kind != "DaemonSet" && m.kind != "Job" && m.kind != "CronJob" {
		fields = append(fields, fmt.Sprintf("replicas: %d", m.replicas))
	}
	probe := ", readinessProbe: {httpGet: {port: 8080, path: /}}"
	if m.noProbe {
		probe = ""
	}
	pod := fmt.Sprintf("containers: [{name: app, image: example.com/app:1%s}]", probe)
	if m.kind == "CronJob" || m.kind == "Job" {
		pod += ", restartPolicy: Never"
	}
	if m.podSpec != "" {
		pod += ", " + m.podSpec
	}
	podLabels := "app: " + m.name
	if m.podLabels != "" {
		podLabels += ", " + m.podLabels
	}
	template := fmt.Sprintf("template: {metadata: {labels: {%s}, annotations: {%s}}, spec: {%s}}", podLabels, m.podNotes, pod)
	if m.kind == "CronJob" {
		template = fmt.Sprintf("schedule: '0 0 1 1 *', jobTemplate: {spec: {%s}}", template)
	}
	return fmt.Sprintf(`apiVersion: %s
kind: %s
metadata: {name: %s, namespace: %s, labels: {%s}, annotations: {%s}}
spec: {%s}
---
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: %s}
spec: {selector: {app: %s}, ports: [{port: 80}]}`,
		group, m.kind, m.name, m.namespace, m.labels, m.annotations,
		strings.Join(append(fields, template), ", "), m.name, m.namespace, m.name)
}
