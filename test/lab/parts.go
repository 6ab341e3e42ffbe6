package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Versions of Istio that the lab has charts for.
const (
	// OlderIstio is the version an upgrade starts from.
	OlderIstio = "1.30.2"
	// NewerIstio is the version an upgrade goes to.
	NewerIstio = "1.31.0"
)

const (
	kubernetesVersion = "v1.36.1"
	// recipe is part of the cache key: raise it when the way of building or packaging changes.
	recipe = "1"
)

// istioSource is one released version of Istio's charts and where its source comes from.
type istioSource struct {
	version string // as the release is called
	module  string // version of the Go module istio.io/istio
	hub     string // the release's default image registry
}

var istioSources = []istioSource{
	{OlderIstio, "v0.0.0-20260423205519-b01690e6db7d", "registry.istio.io/release"},
	{NewerIstio, "v0.0.0-20260827124520-eed52ebb66ad", "docker.io/istio"},
}

// part is one program that is built from a Go module.
type part struct {
	name    string // of the binary
	module  string // folder beside this file that holds the go.mod
	path    string // of the main package
	ldflags string
}

func partsToBuild() []part {
	kube := fmt.Sprintf("-s -w -X k8s.io/component-base/version.gitVersion=%[1]s -X k8s.io/component-base/version.gitMajor=1"+
		" -X k8s.io/component-base/version.gitMinor=36 -X k8s.io/client-go/pkg/version.gitVersion=%[1]s", kubernetesVersion)
	istio := "-s -w -X istio.io/istio/pkg/version.buildVersion=" + NewerIstio
	return []part{
		{"etcd", "parts", "go.etcd.io/etcd/server/v3", "-s -w"},
		{"kube-apiserver", "parts", "k8s.io/kubernetes/cmd/kube-apiserver", kube},
		{"kube-controller-manager", "parts", "k8s.io/kubernetes/cmd/kube-controller-manager", kube},
		{"kube-scheduler", "parts", "k8s.io/kubernetes/cmd/kube-scheduler", kube},
		{"kubectl", "parts", "k8s.io/kubernetes/cmd/kubectl", kube},
		{"kwok", "parts", "sigs.k8s.io/kwok/cmd/kwok", "-s -w"},
		{"pilot-discovery", "parts", "istio.io/istio/pilot/cmd/pilot-discovery", istio},
		{"istioctl", "parts", "istio.io/istio/istioctl/cmd/istioctl", istio},
		{"helm", "parts-helm", "helm.sh/helm/v4/cmd/helm", "-s -w"},
	}
}

// Parts is a finished build: the programs and the charts that a lab is made of.
type Parts struct {
	Dir string `json:"dir"` // of one build in the user's cache
}

// Bin returns the path of a program: etcd, kube-apiserver, kube-controller-manager, kube-scheduler,
// kubectl, kwok, pilot-discovery, istioctl or helm.
func (p Parts) Bin(name string) string { return filepath.Join(p.Dir, "bin", name) }

// ChartFolder returns the folder of all charts of one Istio version, laid out as manifests/charts of a
// release archive: base, istio-control/istio-discovery, istio-cni, ztunnel, gateway.
func (p Parts) ChartFolder(version string) string { return filepath.Join(p.Dir, "charts", version) }

// PackagedCharts returns the folder of the .tgz files of both versions (base-1.30.2.tgz, …).
func (p Parts) PackagedCharts() string { return filepath.Join(p.Dir, "packaged") }

// Chart returns the .tgz of one chart: base, istiod, cni, ztunnel or gateway.
func (p Parts) Chart(name, version string) string {
	return filepath.Join(p.PackagedCharts(), name+"-"+version+".tgz")
}

// sourceDir is the folder of this file, where the modules of the parts lie.
func sourceDir() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", fmt.Errorf("the lab's source folder is unknown: the binary carries no paths (was it built with -trimpath?)")
	}
	dir := filepath.Dir(file)
	if _, err := os.Stat(filepath.Join(dir, "parts", "go.mod")); err != nil {
		return "", fmt.Errorf("the lab builds its parts from its own source folder: %w", err)
	}
	return dir, nil
}

// cacheDir names the build's folder after everything that decides what is in it.
func cacheDir(source string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, recipe, runtime.Version(), runtime.GOOS, runtime.GOARCH, istioSources, partsToBuild())
	for _, f := range []string{"parts/go.mod", "parts/go.sum", "parts-helm/go.mod", "parts-helm/go.sum"} {
		b, err := os.ReadFile(filepath.Join(source, filepath.FromSlash(f)))
		if err != nil {
			return "", fmt.Errorf("reading a module of the lab's parts: %w", err)
		}
		h.Write(b)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the user's cache folder: %w", err)
	}
	key := strings.ToLower(hex.EncodeToString(h.Sum(nil)))[:12]
	return filepath.Join(base, "kubectl-istio-upgrade", "lab", key), nil
}
