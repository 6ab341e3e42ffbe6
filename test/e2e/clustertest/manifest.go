package clustertest

import (
	"fmt"
	"strings"
)

// Manifest is a workload with its Service, for the tests.
type Manifest struct {
	Kind, Name, Namespace string
	Replicas              int    // not for a DaemonSet
	Spec                  string // more of the spec, as YAML in braces without them
	PodSpec               string // more of the pod's spec, likewise
	Labels, Annotations   string // of the workload
	PodLabels, PodNotes   string // of the pod: labels and annotations
	NoProbe               bool
}

func (m Manifest) String() string {
	group := "apps/v1"
	selector := fmt.Sprintf("selector: {matchLabels: {app: %s}}", m.Name)
	switch m.Kind {
	case "ReplicationController":
		group, selector = "v1", fmt.Sprintf("selector: {app: %s}", m.Name)
	case "CronJob", "Job":
		group, selector = "batch/v1", ""
	}
	var fields []string
	for _, f := range []string{selector, m.Spec} {
		if f != "" {
			fields = append(fields, f)
		}
	}
	if m.Kind != "DaemonSet" && m.Kind != "Job" && m.Kind != "CronJob" {
		fields = append(fields, fmt.Sprintf("replicas: %d", m.Replicas))
	}
	probe := ", readinessProbe: {httpGet: {port: 8080, path: /}}"
	if m.NoProbe {
		probe = ""
	}
	pod := fmt.Sprintf("containers: [{name: app, image: example.com/app:1%s}]", probe)
	if m.Kind == "CronJob" || m.Kind == "Job" {
		pod += ", restartPolicy: Never"
	}
	if m.PodSpec != "" {
		pod += ", " + m.PodSpec
	}
	podLabels := "app: " + m.Name
	if m.PodLabels != "" {
		podLabels += ", " + m.PodLabels
	}
	template := fmt.Sprintf("template: {metadata: {labels: {%s}, annotations: {%s}}, spec: {%s}}", podLabels, m.PodNotes, pod)
	if m.Kind == "CronJob" {
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
		group, m.Kind, m.Name, m.Namespace, m.Labels, m.Annotations,
		strings.Join(append(fields, template), ", "), m.Name, m.Namespace, m.Name)
}
