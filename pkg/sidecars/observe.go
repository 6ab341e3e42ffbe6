package sidecars

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// observation is all that is read of the cluster for a plan.
type observation struct {
	inventory *workload.Inventory
	injectors []mesh.Injector
	services  map[string][]service // by namespace
	quotas    map[string][]corev1.ResourceQuota
	budgets   map[string][]policyv1.PodDisruptionBudget
	// injections are the injectors' ConfigMaps by revision.
	injections map[string]mesh.Injection
	// selectorKeys are the label keys that injection can depend on; allLabels
	// is true where they could not all be read.
	selectorKeys []string
	allLabels    bool
	proxyConfigs []proxyConfig
	unread       []string
	// unreadInjectors is what of the injectors may not be read; hidden is true
	// where their webhooks are among it.
	unreadInjectors []string
	hidden          bool
	mu              sync.Mutex
}

type service struct {
	name     string
	selector labels.Selector
}

// observe reads the cluster. Only that the pods cannot be read is an error.
func observe(ctx context.Context, c *cluster.Cluster, o *Options) (*observation, error) {
	seen := &observation{
		services: map[string][]service{}, quotas: map[string][]corev1.ResourceQuota{},
		budgets: map[string][]policyv1.PodDisruptionBudget{}, injections: map[string]mesh.Injection{},
	}
	outer := ctx
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		seen.inventory, err = workload.Read(ctx, c, o.Namespace)
		return err
	})
	group.Go(func() error { return seen.readInjectors(ctx, c, o) })
	group.Go(func() error { return seen.readServices(ctx, c, o.Namespace) })
	group.Go(func() error { return seen.readQuotas(ctx, c, o.Namespace) })
	group.Go(func() error { return seen.readProxyConfigs(ctx, c) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if seen.evicts(o) {
		if err := seen.readBudgets(outer, c, o.Namespace); err != nil {
			return nil, err
		}
	}
	seen.unread = append(seen.unread, seen.inventory.Unread...)
	slices.Sort(seen.selectorKeys)
	seen.selectorKeys = slices.Compact(seen.selectorKeys)
	return seen, nil
}

// readInjectors reads the webhooks, and the ConfigMap of each revision's
// injector. Users who may see neither still have the dry run.
func (s *observation) readInjectors(ctx context.Context, c *cluster.Cluster, o *Options) error {
	injectors, err := o.Injectors, error(nil)
	if injectors == nil {
		injectors, err = cluster.Reading(ctx, c, func(ctx context.Context) ([]mesh.Injector, error) {
			return mesh.ReadInjectors(ctx, c.Kube)
		})
	}
	if err := s.forgive(err, mesh.WebhookConfigurations); err != nil {
		return err
	}
	if err != nil {
		s.anyLabel()
		s.hidden, s.unreadInjectors = true, append(s.unreadInjectors, mesh.WebhookConfigurations)
	}
	s.injectors = injectors
	revisions := map[string]bool{mesh.DefaultRevision: true}
	for _, i := range injectors {
		revisions[i.Revision] = true
	}
	keys := mesh.SelectorKeys(injectors)
	for revision := range revisions {
		in, err := cluster.Reading(ctx, c, func(ctx context.Context) (mesh.Injection, error) {
			return mesh.ReadInjection(ctx, c.Kube, o.IstioNamespace, revision)
		})
		if apierrors.IsNotFound(err) {
			continue
		}
		if forgiven := s.forgive(err, "configmaps in "+o.IstioNamespace); forgiven != nil {
			return fmt.Errorf("read the injector's configuration of revision %s: %w", revision, forgiven)
		}
		if err != nil {
			s.anyLabel()
			if what := "configmaps in " + o.IstioNamespace; !slices.Contains(s.unreadInjectors, what) {
				s.unreadInjectors = append(s.unreadInjectors, what)
			}
			continue
		}
		s.injections[revision] = in
		keys = append(keys, in.LabelKeys...)
	}
	s.addKeys(keys)
	return nil
}

// anyLabel notes that the labels which injection depends on could not all be
// read, so that every label may matter.
func (s *observation) anyLabel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allLabels = true
}

func (s *observation) addKeys(keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.selectorKeys = append(s.selectorKeys, keys...)
}

// forgive notes what the user may not read; every other error is given back.
func (s *observation) forgive(err error, what string) error {
	if !apierrors.IsForbidden(err) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unread = append(s.unread, what)
	return nil
}

func (s *observation) readServices(ctx context.Context, c *cluster.Cluster, namespace string) error {
	list, err := cluster.Reading(ctx, c, func(ctx context.Context) (*corev1.ServiceList, error) {
		return c.Kube.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	})
	if err != nil {
		return s.forgive(err, "services")
	}
	for i := range list.Items {
		if svc := &list.Items[i]; len(svc.Spec.Selector) > 0 {
			s.services[svc.Namespace] = append(s.services[svc.Namespace],
				service{svc.Name, labels.SelectorFromSet(svc.Spec.Selector)})
		}
	}
	return nil
}

func (s *observation) readQuotas(ctx context.Context, c *cluster.Cluster, namespace string) error {
	list, err := cluster.Reading(ctx, c, func(ctx context.Context) (*corev1.ResourceQuotaList, error) {
		return c.Kube.CoreV1().ResourceQuotas(namespace).List(ctx, metav1.ListOptions{})
	})
	if err != nil {
		return s.forgive(err, "resourcequotas")
	}
	for i := range list.Items {
		s.quotas[list.Items[i].Namespace] = append(s.quotas[list.Items[i].Namespace], list.Items[i])
	}
	return nil
}

// proxyConfig is which pods a ProxyConfig is for.
type proxyConfig struct {
	namespace string
	selector  map[string]string
}

// configures says whether it is for pods with these labels in a namespace; one
// in Istio's own namespace is for all (istio pilot/pkg/model/proxy_config.go).
func (p proxyConfig) configures(namespace, istioNamespace string, pod map[string]string) bool {
	return (p.namespace == namespace || p.namespace == istioNamespace) && labels.SelectorFromSet(p.selector).Matches(labels.Set(pod))
}

var proxyConfigs = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1beta1", Resource: "proxyconfigs"}

// readProxyConfigs reads which labels ProxyConfigs select pods by: they may
// choose another image for them.
func (s *observation) readProxyConfigs(ctx context.Context, c *cluster.Cluster) error {
	list, err := cluster.Reading(ctx, c, func(ctx context.Context) (*unstructured.UnstructuredList, error) {
		return c.Dynamic.Resource(proxyConfigs).List(ctx, metav1.ListOptions{})
	})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case apierrors.IsForbidden(err):
		s.anyLabel()
		return nil
	case err != nil:
		return fmt.Errorf("list proxyconfigs: %w", err)
	}
	for i := range list.Items {
		raw, err := json.Marshal(list.Items[i].Object["spec"])
		if err != nil {
			continue
		}
		var spec struct {
			Selector struct {
				MatchLabels map[string]string `json:"matchLabels"`
			} `json:"selector"`
		}
		if json.Unmarshal(raw, &spec) == nil {
			s.addKeys(slices.Collect(maps.Keys(spec.Selector.MatchLabels)))
			s.proxyConfigs = append(s.proxyConfigs, proxyConfig{list.Items[i].GetNamespace(), spec.Selector.MatchLabels})
		}
	}
	return nil
}

// servicesOf names the Services that send traffic to pods of a template.
func (s *observation) servicesOf(w *workload.Workload) []string {
	var names []string
	for _, svc := range s.services[w.Namespace] {
		if svc.selector.Matches(labels.Set(w.Template.Labels)) {
			names = append(names, svc.name)
		}
	}
	return names
}
