package inject

import (
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

// injectConfig is what kube-inject with files passes over of an injector's
// configuration and the webhook obeys (IntoObject in
// istio/istio:pkg/kube/inject/inject.go always takes the template `sidecar`).
type injectConfig struct {
	Template            string              `json:"template"` // to 1.8
	Templates           map[string]string   `json:"templates"`
	DefaultTemplates    []string            `json:"defaultTemplates"`
	Aliases             map[string][]string `json:"aliases"`
	InjectedAnnotations map[string]string   `json:"injectedAnnotations"`
}

// parseConfig reads an injector's configuration; a bare template, which need not
// be YAML, gives an empty one.
func parseConfig(text string) injectConfig {
	var c injectConfig
	if yaml.Unmarshal([]byte(text), &c) != nil || len(c.Templates) == 0 {
		return injectConfig{Template: c.Template}
	}
	return c
}

// templatesFor is the value that inject.istio.io/templates must have for istioctl
// to use the templates that the webhook would; empty where it need not be set.
func (c injectConfig) templatesFor(annotation string) string {
	names := c.DefaultTemplates
	if annotation != "" {
		names = strings.Split(annotation, ",")
	}
	var resolved []string
	for _, name := range names {
		name = strings.TrimSpace(name)
		if alias, ok := c.Aliases[name]; ok {
			resolved = append(resolved, alias...)
			continue
		}
		resolved = append(resolved, name)
	}
	value := strings.Join(resolved, ",")
	if value == annotation || annotation == "" && value == "sidecar" {
		return ""
	}
	return value
}

var (
	oldSpec = regexp.MustCompile(`(?m)^(containers|initContainers):`)
	newSpec = regexp.MustCompile(`(?m)^spec:`)
	lines   = regexp.MustCompile(`(?m)^(.)`)
)

// modernConfig turns the configurations of Istio to 1.8 into what a kube-inject
// of 1.10 or later takes: there a template is a pod, before it was the list of
// what to add (SidecarInjectionSpec), and stood under `template` beside a policy.
// Newer ones come back as they are.
func modernConfig(text string) string {
	c := parseConfig(text)
	if len(c.Templates) > 0 {
		return text
	}
	template := firstSet(c.Template, text)
	if oldSpec.MatchString(template) && !newSpec.MatchString(template) {
		template = "spec:\n" + lines.ReplaceAllString(template, "  $1")
	}
	return template
}
