package sidecars

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
)

// likeness names the settings of one istioctl process.
type likeness struct {
	revision        string
	native, webhook bool
}

// reinjectAll runs istioctl over all that lag.
func (seen *observation) reinjectAll(ctx context.Context, a *asker, o *Options, subjects, lagging []*subject, plan *Plan) error {
	if len(lagging) == 0 {
		return nil
	}
	istioctl, version, err := findIstioctl(ctx, o.ByHand)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		hold(lagging, err.Error())
		plan.Warnings = append(plan.Warnings, stay(len(lagging), err))
		return nil
	}
	plan.Istioctl = &Istioctl{Path: istioctl.Path, Version: version}
	forms := &forms{a: a, subjects: subjects, injectors: seen, known: map[string]bool{}, native: map[string]bool{}}
	groups := map[likeness][]*subject{}
	passedOver := 0
	for _, s := range lagging {
		key := likeness{revision: s.revision()}
		key.native = forms.of(ctx, s)
		key.webhook = len(o.ByHand.Given.Missing()) == 3 && seen.configured(s, o)
		passedOver += btoi(!key.webhook && seen.configured(s, o))
		groups[key] = append(groups[key], s)
	}
	plan.Warnings = append(plan.Warnings, configsPassedOver(passedOver)...)
	keys := slices.SortedFunc(maps.Keys(groups), func(a, b likeness) int {
		return cmp.Or(cmp.Compare(a.revision, b.revision), cmp.Compare(btoi(a.native), btoi(b.native)), cmp.Compare(btoi(a.webhook), btoi(b.webhook)))
	})
	for _, key := range keys {
		members := groups[key]
		settings, err := seen.settings(ctx, a, o, key)
		if err == nil && !o.Force {
			err = sameMinor(version, settings, seen.injections[key.revision].Tag, o.preview(key.revision))
		}
		if err == nil {
			err = reinjectGroup(ctx, istioctl, settings, members)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			hold(members, err.Error())
			plan.Warnings = append(plan.Warnings, stay(len(members), err))
		}
	}
	return nil
}

// configsPassedOver warns that ProxyConfig objects, which only the webhook knows, are
// not obeyed where the user gave files of settings.
func configsPassedOver(n int) []string {
	if n == 0 {
		return nil
	}
	return []string{fmt.Sprintf("ProxyConfig objects apply to %d of the workloads and are not obeyed, since files of settings are given: without --inject-config, --mesh-config and --injection-values the webhook is asked, which obeys them", n)}
}

// stay says that workloads are left as they are, and why.
func stay(n int, err error) string {
	if n == 1 {
		return "1 workload injected by hand stays as it is: " + oneLine(err.Error())
	}
	return fmt.Sprintf("%d workloads injected by hand stay as they are: %s", n, oneLine(err.Error()))
}

// findIstioctl finds the binary and asks for its version.
func findIstioctl(ctx context.Context, r *Reinjection) (*inject.Istioctl, string, error) {
	istioctl, err := inject.FindIstioctl(r.Istioctl)
	if err != nil {
		return nil, "", err
	}
	istioctl.Timeout, istioctl.KubeFlags = r.Timeout, r.KubeFlags
	if r.Kubeconfig != nil {
		if istioctl.Kubeconfig, err = r.Kubeconfig(); err != nil {
			return nil, "", err
		}
	}
	version, err := istioctl.Version(ctx)
	return istioctl, version, err
}

// reinjectGroup runs one istioctl over workloads with the same settings. The
// error is about all of them; what concerns one holds that one.
func reinjectGroup(ctx context.Context, istioctl *inject.Istioctl, settings inject.Settings, members []*subject) error {
	objects := make([]*unstructured.Unstructured, len(members))
	for i, s := range members {
		objects[i] = s.item.remake.before
	}
	results, err := inject.Reinject(ctx, istioctl, settings, objects)
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, s := range members {
		if results[i].Err != nil {
			hold([]*subject{s}, results[i].Err.Error())
			continue
		}
		for _, n := range results[i].Notes {
			s.item.Notes = append(s.item.Notes, n.String())
		}
		s.item.remake.again = func(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
			return reinjectOne(ctx, istioctl, settings, object)
		}
		group.Go(func() error { s.remade(results[i].After); return nil })
	}
	return group.Wait()
}

// reinjectOne injects one object anew, which has moved since the plan was made.
func reinjectOne(ctx context.Context, istioctl *inject.Istioctl, settings inject.Settings, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	results, err := inject.Reinject(ctx, istioctl, settings, []*unstructured.Unstructured{object})
	switch {
	case err != nil:
		return nil, err
	case results[0].Err != nil:
		return nil, results[0].Err
	case len(results[0].Removed) == 0:
		return nil, fmt.Errorf("%s %s in %s has no sidecar in its template any more: someone took it out meanwhile", object.GetKind(), object.GetName(), object.GetNamespace())
	}
	return results[0].After, nil
}
