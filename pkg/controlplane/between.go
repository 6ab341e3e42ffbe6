package controlplane

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

// sidecarTag marks the template of the legacy injector's pods, which read their
// ConfigMap from a file: without new pods they see a change a minute late.
const sidecarTag = "istio-upgrade/sidecar-tag"

// legacyInjector is the Deployment that injects in Istio 1.1 to 1.5.
const legacyInjector = "istio-sidecar-injector"

// legacyBetween gives what a release of the chart istio (1.1 to 1.5) writes
// while its proxies go back before its components do: the injector's ConfigMap
// and the gateways name the former image, everything else is as it is. It works
// on what the release wrote, since Helm does not store the charts within the
// chart. It is a pure function; its arguments stay as they are.
func legacyBetween(now []*unstructured.Unstructured, from, to mesh.Injection) ([]*unstructured.Unstructured, error) {
	swap := imageSwap(from, to)
	var out []*unstructured.Unstructured
	for _, object := range now {
		o := object.DeepCopy()
		out = append(out, o)
		switch {
		case o.GetKind() == "ConfigMap" && o.GetName() == mesh.InjectorConfigMap:
			if err := giveOut(o, to, swap); err != nil {
				return nil, err
			}
		case o.GetKind() == workload.Deployment && o.GetName() == legacyInjector:
			if err := unstructured.SetNestedField(o.Object, to.Tag, "spec", "template", "metadata", "annotations", sidecarTag); err != nil {
				return nil, fmt.Errorf("mark deployment %s: %w", o.GetName(), err)
			}
		case isGateway(o):
			swapImages(o, swap)
		}
	}
	return out, nil
}

// imageSwap turns the names of proxies' images into the former ones.
func imageSwap(from, to mesh.Injection) *strings.Replacer {
	var pairs []string
	for _, name := range []string{"proxyv2", "proxy_init", "proxy_debug", "proxy"} {
		pairs = append(pairs, from.Hub+"/"+name+":"+from.Tag, to.Hub+"/"+name+":"+to.Tag)
	}
	return strings.NewReplacer(pairs...)
}

// giveOut makes the injector's ConfigMap give out the former image: by its
// values where it has them, and by its template, where Helm rendered the image.
func giveOut(cm *unstructured.Unstructured, to mesh.Injection, swap *strings.Replacer) error {
	data, _, err := unstructured.NestedStringMap(cm.Object, "data")
	if err != nil {
		return fmt.Errorf("read the injector's ConfigMap: %w", err)
	}
	data["config"] = swap.Replace(data["config"])
	if text, has := data["values"]; has {
		var values map[string]any
		if err := json.Unmarshal([]byte(text), &values); err != nil {
			return fmt.Errorf("read the values in the injector's ConfigMap: %w", err)
		}
		set(values, to.Hub, "global", "hub")
		set(values, to.Tag, "global", "tag")
		if to.Image != "" {
			set(values, to.Image, "global", "proxy", "image") // may be pinned
		}
		raw, err := json.Marshal(values)
		if err != nil {
			return fmt.Errorf("write the values of the injector's ConfigMap: %w", err)
		}
		data["values"] = string(raw)
	}
	return unstructured.SetNestedStringMap(cm.Object, data, "data")
}

// isGateway tells a workload that is a proxy from a component that has one at
// its side.
func isGateway(o *unstructured.Unstructured) bool {
	if o.GetKind() != workload.Deployment && o.GetKind() != workload.DaemonSet {
		return false
	}
	images := imagesOf(o)
	return slices.Contains(images, "proxyv2") && !slices.ContainsFunc(images, func(name string) bool {
		return name != "proxyv2" && slices.Contains(istioImages, name)
	})
}

// imagesOf gives the last parts of the names of a workload's images.
func imagesOf(o *unstructured.Unstructured) []string {
	var names []string
	containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
	for _, item := range containers {
		container, _ := item.(map[string]any)
		image, _ := container["image"].(string)
		repository, _, _ := mesh.SplitImage(image)
		names = append(names, repository[strings.LastIndex(repository, "/")+1:])
	}
	return names
}

func swapImages(o *unstructured.Unstructured, swap *strings.Replacer) {
	for _, list := range []string{"containers", "initContainers"} {
		containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", list)
		for _, item := range containers {
			if container, ok := item.(map[string]any); ok {
				if image, ok := container["image"].(string); ok {
					container["image"] = swap.Replace(image)
				}
			}
		}
		if len(containers) > 0 {
			_ = unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", list) // it was read from there
		}
	}
}

// injectionIn gives what a revision's injector gives out by its manifest.
func injectionIn(objects []*unstructured.Unstructured) (mesh.Injection, bool) {
	for _, o := range objects {
		if o.GetKind() == "ConfigMap" && strings.HasPrefix(o.GetName(), mesh.InjectorConfigMap) {
			data, _, _ := unstructured.NestedStringMap(o.Object, "data")
			in, err := mesh.ParseInjection(data)
			return in, err == nil && in.Tag != ""
		}
	}
	return mesh.Injection{}, false
}

// proxyImages is what stands for an injector where the release has none: hub
// and tag of its own images.
func proxyImages(objects []*unstructured.Unstructured) mesh.Injection {
	if in, ok := injectionIn(objects); ok {
		return in
	}
	repository, tag, _ := mesh.SplitImage(imageOf(objects))
	return mesh.Injection{Hub: repository[:max(0, strings.LastIndex(repository, "/"))], Tag: tag}
}

// gatewaysIn gives the gateways among a release's workloads: all of a gateway's
// release, and those of the chart istio that are no component.
func gatewaysIn(r ReleasePlan) []workload.Ref {
	switch r.Component {
	case helm.Gateway:
		return r.Workloads
	case helm.Istio:
		var refs []workload.Ref
		for _, o := range r.rendered.Objects {
			if isGateway(o) {
				refs = append(refs, workload.Ref{Group: "apps", Kind: o.GetKind(), Namespace: keyOf(o, r.Namespace).namespace, Name: o.GetName()})
			}
		}
		return refs
	}
	return nil
}

// componentsIn gives the workloads of a release that are no gateways; a proxy
// at the side of one goes back with it.
func componentsIn(r ReleasePlan) []workload.Ref {
	gateways := map[workload.Ref]bool{}
	for _, ref := range gatewaysIn(r) {
		gateways[ref] = true
	}
	return slices.DeleteFunc(slices.Clone(r.Workloads), func(ref workload.Ref) bool { return gateways[ref] })
}
