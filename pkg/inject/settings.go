package inject

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Settings are what kube-inject injects by. With all three texts istioctl asks
// no cluster; with Webhook set it asks the revision's injector instead.
type Settings struct {
	Revision     string // of the control plane; empty or "default" is the default one. Never a tag
	InjectConfig string // policy and template, templates, or a bare template
	MeshConfig   string
	Values       string
	// Native makes the proxy a native sidecar. The files do not say it: istiod
	// finds it out from the nodes, istioctl with files from its environment.
	Native bool
	// Webhook asks the injector in the cluster, where ProxyConfig objects apply.
	// It knows pods only; what that loses is put back.
	Webhook bool
}

// ConfigMapName is the name of a revision's ConfigMap: istio-sidecar-injector or
// istio, with -<revision> for other revisions than the default.
func ConfigMapName(base, revision string) string {
	if revision == "" || revision == "default" {
		return base
	}
	return base + "-" + revision
}

const (
	injectorConfigMap = "istio-sidecar-injector"
	meshConfigMap     = "istio"
)

// SettingsFromCluster reads the settings of a revision from its ConfigMaps in
// Istio's namespace. Errors name the ConfigMap and the key that is missing.
func SettingsFromCluster(ctx context.Context, client kubernetes.Interface, istioNamespace, revision string) (Settings, error) {
	data := map[string]map[string]string{}
	for _, base := range []string{injectorConfigMap, meshConfigMap} {
		name := ConfigMapName(base, revision)
		cm, err := client.CoreV1().ConfigMaps(istioNamespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return Settings{}, fmt.Errorf("no ConfigMap %s in %s: is %q the revision of a control plane there (tags are no revisions)?", name, istioNamespace, revision)
		}
		if err != nil {
			return Settings{}, fmt.Errorf("cannot read ConfigMap %s in %s: %w", name, istioNamespace, err)
		}
		data[base] = cm.Data
	}
	return SettingsFromData(revision, data[injectorConfigMap], data[meshConfigMap])
}

// SettingsFromData takes the settings from the data of both ConfigMaps: config
// and values of the injector's, mesh of the mesh's.
func SettingsFromData(revision string, injector, mesh map[string]string) (Settings, error) {
	s := Settings{Revision: revision, InjectConfig: injector["config"], Values: injector["values"], MeshConfig: mesh["mesh"]}
	for _, missing := range []struct{ value, key, base string }{
		{s.InjectConfig, "config", injectorConfigMap},
		{s.MeshConfig, "mesh", meshConfigMap},
		{s.Values, "values", injectorConfigMap},
	} {
		if missing.value == "" {
			return Settings{}, fmt.Errorf("ConfigMap %s has no key %q", ConfigMapName(missing.base, revision), missing.key)
		}
	}
	return s, nil
}

// SettingsFromFiles reads those of the files that are given: --inject-config,
// --mesh-config and --injection-values. What is not given stays empty.
func SettingsFromFiles(injectConfig, meshConfig, values string) (Settings, error) {
	var s Settings
	for _, f := range []struct {
		path, flag string
		into       *string
	}{
		{injectConfig, "--inject-config", &s.InjectConfig},
		{meshConfig, "--mesh-config", &s.MeshConfig},
		{values, "--injection-values", &s.Values},
	} {
		if f.path == "" {
			continue
		}
		data, err := os.ReadFile(f.path)
		if err != nil {
			return Settings{}, fmt.Errorf("cannot read %s: %w", f.flag, err)
		}
		if strings.TrimSpace(string(data)) == "" {
			return Settings{}, fmt.Errorf("%s %s is empty", f.flag, f.path)
		}
		*f.into = string(data)
	}
	return s, nil
}

// Or fills what is missing from other settings, such as the cluster's.
func (s Settings) Or(other Settings) Settings {
	s.Revision = firstSet(s.Revision, other.Revision)
	s.InjectConfig = firstSet(s.InjectConfig, other.InjectConfig)
	s.MeshConfig = firstSet(s.MeshConfig, other.MeshConfig)
	s.Values = firstSet(s.Values, other.Values)
	return s
}

// Missing lists the flags whose files are missing for working without a cluster.
func (s Settings) Missing() []string {
	missing := []string{}
	for _, f := range []struct{ flag, value string }{
		{"--inject-config", s.InjectConfig}, {"--mesh-config", s.MeshConfig}, {"--injection-values", s.Values},
	} {
		if f.value == "" {
			missing = append(missing, f.flag)
		}
	}
	return missing
}

// arguments writes the texts to files in dir and gives kube-inject's flags.
func (s Settings) arguments(dir string, flags map[string]bool) ([]string, error) {
	var args []string
	if !s.Webhook {
		if missing := s.Missing(); len(missing) > 0 {
			return nil, fmt.Errorf("without a cluster istioctl needs all of its settings; missing: %s", strings.Join(missing, ", "))
		}
		config := s.InjectConfig
		if flags["webhookConfig"] { // 1.10 and later
			config = modernConfig(config)
		}
		for _, f := range []struct{ flag, value string }{
			{"injectConfigFile", config}, {"meshConfigFile", s.MeshConfig}, {"valuesFile", s.Values},
		} {
			if !flags[f.flag] {
				if f.flag == "valuesFile" { // before 1.2 values were rendered into the template
					continue
				}
				return nil, fmt.Errorf("this istioctl's kube-inject has no flag --%s", f.flag)
			}
			path := filepath.Join(dir, f.flag)
			if err := os.WriteFile(path, []byte(f.value), 0o600); err != nil {
				return nil, fmt.Errorf("cannot write istioctl's settings: %w", err)
			}
			args = append(args, "--"+f.flag, path)
		}
	} else if !flags["webhookConfig"] {
		return nil, errors.New("this istioctl's kube-inject cannot ask the webhook (it can since 1.10)")
	}
	if flags["revision"] {
		args = append(args, "--revision", firstSet(s.Revision, "default"))
	}
	return args, nil
}
