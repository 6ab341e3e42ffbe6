// Package inject takes an Istio sidecar out of a pod template and has
// `istioctl kube-inject` put a new one in.
//
// Uninject is the inverse of injection: a pure function on unstructured
// objects that works for every injector from Istio 1.0 on. It follows what the
// injector itself writes down: the status annotation (what was added), the
// overrides annotation (containers that were there before) and the proxy's
// environment (probes, Prometheus annotations, and up to 1.10 all annotations
// as they were). The rules are those of istio/istio:pkg/kube/inject, its
// inject.go, webhook.go and app_probe.go, and of the templates in
// manifests/charts/istio-control/istio-discovery/files.
//
// What cannot be known is said in Notes, never guessed in silence.
package inject
