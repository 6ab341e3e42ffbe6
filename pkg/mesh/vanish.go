package mesh

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// KeepAnnotation keeps Helm from deleting an object, where its value is keep
// (helm/helm:pkg/kube/resource_policy.go).
const (
	KeepAnnotation = "helm.sh/resource-policy"
	KeepValue      = "keep"
)

// Vanishing gives the names of the CRDs that Helm would delete, and with them
// every object of theirs, when a release goes from one manifest to the next:
// in stored, not in next, there in the cluster, and without a keep policy
// there. Helm reads the policy from the live object on an upgrade, and knows no
// other spelling of it (helm/helm:pkg/kube/client.go).
func Vanishing(stored, next []*unstructured.Unstructured, live []CRD) []string {
	names := []string{}
	for _, object := range stored {
		if object.GetKind() != "CustomResourceDefinition" {
			continue
		}
		name := object.GetName()
		at := slices.IndexFunc(live, func(c CRD) bool { return c.Name == name })
		stays := slices.ContainsFunc(next, func(o *unstructured.Unstructured) bool {
			return o.GetKind() == "CustomResourceDefinition" && o.GetName() == name
		})
		if at >= 0 && !stays && live[at].Object.Annotations[KeepAnnotation] != KeepValue {
			names = append(names, name)
		}
	}
	return names
}

// Kept says whether annotations in a stored manifest keep Helm from deleting their
// object when it uninstalls, which allows capitals and spaces
// (helm/helm:pkg/action/resource_policy.go).
func Kept(annotations map[string]string) bool {
	return strings.ToLower(strings.TrimSpace(annotations[KeepAnnotation])) == KeepValue
}
