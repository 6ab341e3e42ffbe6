package mesh

import (
	"cmp"
	"strings"

	"istio.io/api/label"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Marks that installers leave on what they install.
const (
	HelmManagedByLabel             = "app.kubernetes.io/managed-by"
	HelmManagedByValue             = "Helm"
	HelmReleaseNameAnnotation      = "meta.helm.sh/release-name"
	HelmReleaseNamespaceAnnotation = "meta.helm.sh/release-namespace"

	owningResourceLabel = "install.operator.istio.io/owning-resource"
	fluxHelmPrefix      = "helm.toolkit.fluxcd.io/"
	fluxKustomizePrefix = "kustomize.toolkit.fluxcd.io/"
	argoTracking        = "argocd.argoproj.io/tracking-id"
	argoInstance        = "argocd.argoproj.io/instance"
)

// Ref names a namespaced object, such as a Helm release.
type Ref struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String gives "name in namespace".
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Name
	}
	return r.Name + " in " + r.Namespace
}

// Owners are those who lay claim to an object by the marks on it. More than
// one at a time is possible, and trouble.
type Owners struct {
	// Helm is the release whose annotations the object carries.
	Helm *Ref `json:"helm,omitempty"`
	// Istioctl says that istioctl or Istio's former operator applied it.
	Istioctl bool `json:"istioctl,omitempty"`
	// Operator is the custom resource of an operator: "IstioOperator
	// installed-state", "IstioRevision default".
	Operator string `json:"operator,omitempty"`
	// ArgoCD is the Application.
	ArgoCD string `json:"argoCD,omitempty"`
	// Flux is the object to edit: "HelmRelease istiod in flux-system" or
	// "Kustomization mesh in flux-system".
	Flux string `json:"flux,omitempty"`
}

// OwnersOf reads the marks from an object. Sources: Helm pkg/action/validate.go,
// Istio operator/pkg/manifest/name.go, Flux's and Argo CD's documentation of
// their tracking labels.
func OwnersOf(o metav1.Object) Owners {
	labels, annotations := o.GetLabels(), o.GetAnnotations()
	var owners Owners
	if name := annotations[HelmReleaseNameAnnotation]; name != "" {
		owners.Helm = &Ref{Namespace: annotations[HelmReleaseNamespaceAnnotation], Name: name}
	}
	owners.Istioctl = labels[label.OperatorManaged.Name] != "" || labels[label.OperatorVersion.Name] != ""
	if resource := labels[owningResourceLabel]; resource != "" && resource != "unknown" {
		owners.Operator = "IstioOperator " + resource
	}
	for _, ref := range o.GetOwnerReferences() {
		if strings.HasPrefix(ref.APIVersion, "sailoperator.io/") || strings.HasPrefix(ref.APIVersion, "operator.istio.io/") {
			owners.Operator = ref.Kind + " " + ref.Name
		}
	}
	owners.ArgoCD = labels[argoInstance]
	if id := annotations[argoTracking]; id != "" {
		owners.ArgoCD, _, _ = strings.Cut(id, ":")
	}
	for prefix, kind := range map[string]string{fluxHelmPrefix: "HelmRelease", fluxKustomizePrefix: "Kustomization"} {
		// A HelmRelease that a Kustomization made is what a person edits.
		if name := labels[prefix+"name"]; name != "" && (owners.Flux == "" || kind == "HelmRelease") {
			owners.Flux = kind + " " + Ref{Namespace: labels[prefix+"namespace"], Name: name}.String()
		}
	}
	return owners
}

// GitOps names the object of Flux or Argo CD that a person would edit, or
// nothing.
func (o Owners) GitOps() string {
	switch {
	case o.Flux != "":
		return "Flux " + o.Flux
	case o.ArgoCD != "":
		return "Argo CD Application " + o.ArgoCD
	}
	return ""
}

// Operated names the custom resource of an operator that works in the cluster, and
// would undo what others change, or nothing. Istio's former operator, whose marks
// outlive it, is not meant.
func (o Owners) Operated() string {
	if strings.HasPrefix(o.Operator, "IstioOperator") {
		return ""
	}
	return o.Operator
}

// Keeper names who would undo what others change, in Git or in the cluster, or
// nothing.
func (o Owners) Keeper() string { return cmp.Or(o.GitOps(), o.Operated()) }

// Count says how many installers lay claim; GitOps tools that work through
// Helm count as one with it.
func (o Owners) Count() int {
	n := 0
	for _, claimed := range []bool{o.Helm != nil || o.GitOps() != "", o.Istioctl || o.Operator != ""} {
		if claimed {
			n++
		}
	}
	return n
}

// String names the installer in words; "nobody" where there is no mark.
func (o Owners) String() string {
	var names []string
	if g := o.GitOps(); g != "" {
		names = append(names, g)
	}
	if o.Helm != nil {
		names = append(names, "Helm release "+o.Helm.String())
	}
	switch {
	case o.Operator != "":
		names = append(names, o.Operator)
	case o.Istioctl:
		names = append(names, "istioctl")
	}
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, " and ")
}
