package sidecars

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// sameMinor refuses an istioctl of another minor version than what it injects:
// its templates' functions and the proxy's settings differ between minors.
func sameMinor(version string, s inject.Settings, tag, preview string) error {
	if given, err := mesh.ParseInjection(map[string]string{"values": s.Values, "config": s.InjectConfig}); s.Values != "" && err == nil && given.Tag != "" {
		tag = given.Tag
	}
	if preview != "" {
		tag = preview
	}
	if same, known := inject.SameMinor(version, tag); known && !same {
		return fmt.Errorf("istioctl is %s and the injector gives %s: give an istioctl of the same minor version with --istioctl, or --force to use this one", version, tag)
	}
	return nil
}

// settings gives what istioctl injects by: the user's files, and for what is
// missing the control plane's ConfigMaps.
func (seen *observation) settings(ctx context.Context, a *asker, o *Options, key likeness) (inject.Settings, error) {
	s := o.ByHand.Given
	s.Revision, s.Native = key.revision, key.native
	if key.webhook {
		s.Webhook = true
		return s, nil
	}
	if len(s.Missing()) > 0 {
		read, err := inject.SettingsFromCluster(ctx, a.c.Kube, o.IstioNamespace, key.revision)
		if err != nil {
			return s, fmt.Errorf("%w; or give --inject-config, --mesh-config and --injection-values", err)
		}
		if tag := o.preview(key.revision); tag != "" && s.Values == "" {
			read.Values = withTag(read.Values, tag)
		}
		s = s.Or(read)
	}
	return s, nil
}

// withTag puts another tag into the injector's values; values that are no JSON
// object come back as they are.
func withTag(values, tag string) string {
	var fields map[string]any
	if json.Unmarshal([]byte(values), &fields) != nil {
		return values
	}
	global, ok := fields["global"].(map[string]any)
	if !ok {
		return values
	}
	global["tag"] = tag
	raw, err := json.Marshal(fields)
	if err != nil {
		return values
	}
	return string(raw)
}

// configured says whether a ProxyConfig applies to the workload's pods, which
// only the webhook knows.
func (seen *observation) configured(s *subject, o *Options) bool {
	return slices.ContainsFunc(seen.proxyConfigs, func(p proxyConfig) bool {
		return p.configures(s.Ref.Namespace, o.IstioNamespace, s.W.Template.Labels)
	})
}

// injectionsFor gives what the injectors' configurations say of a workload's
// proxy: the user's own values for one injected by hand, where they are given.
func (seen *observation) injectionsFor(s *subject, o *Options) map[string]mesh.Injection {
	if o.ByHand == nil || o.ByHand.Given.Values == "" || !Manual(&s.W.Template) {
		return seen.injections
	}
	given, err := mesh.ParseInjection(map[string]string{"values": o.ByHand.Given.Values, "config": o.ByHand.Given.InjectConfig})
	if err != nil {
		return seen.injections
	}
	return map[string]mesh.Injection{s.revision(): given}
}
