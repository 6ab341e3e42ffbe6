package helm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
)

// record is the metadata of one stored revision.
type record struct {
	namespace, name, release, status, storedBy string
	revision                                   int
	helm2                                      bool
	labels                                     map[string]string
}

// Releases gives the newest revision of every release of one of Istio's
// charts, whatever its status, by namespace and name. An empty namespace means
// all. Releases that Tiller (Helm 2) stored under Istio's usual names are among
// them. Uninstalled releases whose history was kept are not, nor those whose
// record cannot be decoded: ReadReleases names these.
func Releases(ctx context.Context, c *cluster.Cluster, namespace string) ([]Release, error) {
	found, _, err := ReadReleases(ctx, c, namespace)
	return found, err
}

// ReadReleases gives what Releases does, and the records that cannot be decoded.
func ReadReleases(ctx context.Context, c *cluster.Cluster, namespace string) ([]Release, []Undecodable, error) {
	wanted, err := newest(ctx, c, namespace, func(r record) bool { return r.status != uninstalled })
	if err != nil {
		return nil, nil, err
	}
	found, broken, err := readAll(ctx, c, wanted)
	if err != nil {
		return nil, nil, err
	}
	tillers, err := tillerReleases(ctx, c, namespace)
	if err != nil {
		return nil, nil, err
	}
	found = append(found, tillers...)
	slices.SortFunc(found, func(a, b Release) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return found, broken, nil
}

// uninstalled is the status of a release whose objects are gone and whose records
// were kept.
const uninstalled = "uninstalled"

// newest gives the newest record of each release, where it is wanted.
func newest(ctx context.Context, c *cluster.Cluster, namespace string, wanted func(record) bool) ([]record, error) {
	all, err := records(ctx, c, namespace, "owner=helm")
	if err != nil {
		return nil, err
	}
	last := map[string]record{}
	for _, r := range all {
		key := r.namespace + "/" + r.release
		if have, ok := last[key]; !ok || r.revision > have.revision {
			last[key] = r
		}
	}
	var found []record
	for _, r := range last {
		if wanted(r) {
			found = append(found, r)
		}
	}
	return found, nil
}

// Uninstalled gives the newest revision of every release of one of Istio's charts
// that was uninstalled and whose records were kept. An empty namespace means all.
func Uninstalled(ctx context.Context, c *cluster.Cluster, namespace string) ([]Release, error) {
	wanted, err := newest(ctx, c, namespace, func(r record) bool { return r.status == uninstalled })
	if err != nil {
		return nil, err
	}
	found, _, err := readAll(ctx, c, wanted)
	return found, err
}

// History gives all stored revisions of a release that can be decoded, the
// newest first.
func History(ctx context.Context, c *cluster.Cluster, namespace, name string) ([]Release, error) {
	records, err := records(ctx, c, namespace, "owner=helm,name="+name)
	if err != nil {
		return nil, err
	}
	found, _, err := readAll(ctx, c, records)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b Release) int { return b.Revision - a.Revision })
	return found, nil
}

// Last gives the newest revision of a release, whatever its status.
// The error is a NotFound of the API's kind where there is none.
func Last(ctx context.Context, c *cluster.Cluster, namespace, name string) (Release, error) {
	history, err := records(ctx, c, namespace, "owner=helm,name="+name)
	if err != nil {
		return Release{}, err
	}
	if len(history) > 0 {
		newest := slices.MaxFunc(history, func(a, b record) int { return a.revision - b.revision })
		found, broken, err := readAll(ctx, c, []record{newest})
		if err != nil {
			return Release{}, err
		}
		if len(broken) > 0 {
			return Release{}, errors.New(broken[0].String())
		}
		if len(found) == 1 {
			return found[0], nil
		}
	}
	return Release{}, apierrors.NewNotFound(schema.GroupResource{Resource: "releases"}, namespace+"/"+name)
}

// records lists the stored revisions, metadata only: the records themselves
// hold whole charts.
func records(ctx context.Context, c *cluster.Cluster, namespace, selector string) ([]record, error) {
	resource, err := storageResource()
	if err != nil {
		return nil, err
	}
	return list(ctx, c, resource, namespace, selector)
}

func list(ctx context.Context, c *cluster.Cluster, resource schema.GroupVersionResource, namespace, selector string) ([]record, error) {
	var records []record
	options := metav1.ListOptions{LabelSelector: selector, Limit: 500}
	for {
		page, err := c.Metadata.Resource(resource).Namespace(namespace).List(ctx, options)
		if err != nil {
			return nil, fmt.Errorf("list Helm's records (%s): %w", resource.Resource, err)
		}
		for i := range page.Items {
			records = append(records, recordOf(&page.Items[i]))
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return records, nil
		}
	}
}

// recordOf reads the labels that Helm 3 and 4 write in small letters and Tiller
// wrote in capitals.
func recordOf(o *metav1.PartialObjectMetadata) record {
	get := func(key string) string {
		return cmp.Or(o.Labels[key], o.Labels[strings.ToUpper(key)])
	}
	r := record{
		namespace: o.Namespace, name: o.Name, release: get("name"), labels: o.Labels,
		status: strings.ToLower(get("status")), helm2: o.Labels["OWNER"] == "TILLER",
	}
	r.revision, _ = strconv.Atoi(get("version"))
	if n := len(o.ManagedFields); n > 0 {
		r.storedBy = slices.MaxFunc(o.ManagedFields, func(a, b metav1.ManagedFieldsEntry) int {
			if a.Time == nil || b.Time == nil {
				return 0
			}
			return a.Time.Compare(b.Time.Time)
		}).Manager
	}
	return r
}

// helm2Names are the release names that the charts of Tiller's time were
// installed under; its records do not say their chart without being decoded.
var helm2Names = map[string]Component{"istio": Istio, "istio-init": IstioInit}

// tillerReleases names what Tiller stored, in ConfigMaps or Secrets of any
// namespace. No right to read those is no error: it cannot be told then.
func tillerReleases(ctx context.Context, c *cluster.Cluster, namespace string) ([]Release, error) {
	newest := map[string]Release{}
	for _, resource := range []string{"configmaps", "secrets"} {
		records, err := list(ctx, c, corev1.SchemeGroupVersion.WithResource(resource), namespace, "OWNER=TILLER")
		if apierrors.IsForbidden(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			component, ok := helm2Names[r.release]
			if !ok || r.status == "deleted" || r.revision < newest[r.release].Revision {
				continue
			}
			newest[r.release] = Release{
				Name: r.release, Namespace: r.namespace, Revision: r.revision, Status: r.status,
				Component: component, Helm2: true, IstioRevision: "default", Values: map[string]any{},
			}
		}
	}
	out := make([]Release, 0, len(newest))
	for _, r := range newest {
		out = append(out, r)
	}
	return out, nil
}
