package plugin

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/controlplane"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// Without a cluster, and with one that does not answer, version tells of the
// plugin, soon, and is content.
func TestVersionWithoutACluster(t *testing.T) {
	for name, tc := range map[string]struct {
		server, note string
		args         []string
	}{
		"no kubeconfig":     {},
		"closed":            {server: "http://127.0.0.1:1", note: "note: context prod is left out"},
		"silent":            {server: silentServer(t), note: "note: context prod is left out"},
		"left out":          {server: silentServer(t), args: []string{"--client"}},
		"a word for script": {server: silentServer(t), args: []string{"-o", "name"}},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.server == "" {
				t.Setenv("KUBECONFIG", "/nowhere/kubeconfig")
			} else {
				useKubeconfig(t, tc.server)
			}
			began := time.Now()
			code, out, errOut := runMain(t, append([]string{"version"}, tc.args...)...)
			if took := time.Since(began); took > answerPatience+5*time.Second {
				t.Errorf("took %s", took)
			}
			if code != 0 || !strings.Contains(out, Version()) {
				t.Errorf("exit code %d, stdout %q", code, out)
			}
			if tc.note == "" && errOut != "" || !strings.HasPrefix(errOut, tc.note) || strings.Count(errOut, "\n") > 1 {
				t.Errorf("stderr %q, want %q", errOut, tc.note)
			}
		})
	}
}

func TestVersionAsJSON(t *testing.T) {
	code, out, errOut := runMain(t, "version", "--client", "-o", "json")
	var got struct {
		APIVersion, Kind string
		Plugin           struct{ Version, Helm, Kubernetes, Go, Platform string }
		Cluster, Target  any
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || errOut != "" {
		t.Fatalf("%v, exit code %d, stderr %q: %s", err, code, errOut, out)
	}
	if got.APIVersion != documentVersion || got.Kind != "Version" || got.Plugin.Go != runtime.Version() || got.Cluster != nil || got.Target != nil {
		t.Errorf("got %+v", got)
	}
}

func TestVersionsAreSummedUp(t *testing.T) {
	var v clusterVersions
	v.add(&mesh.Mesh{
		ControlPlanes: []mesh.ControlPlane{{Namespace: "istio-system", Revision: "default", Tag: "1.30.2"}},
		CRDs:          []mesh.CRD{{Version: "1.30.2"}, {Version: "1.30.2"}, {}},
	}, []controlplane.ProxyVersion{{Version: "1.30.2", Revision: "default", Count: 3}, {Version: "1.30.2", Revision: "canary", Count: 1}, {Version: "1.29.0", Count: 2}})
	want := clusterVersions{
		ControlPlanes: []planeVersion{{"istio-system", "default", "1.30.2"}},
		CRDs:          []countedVersion{{"1.30.2", 2}, {"unknown", 1}},
		Proxies:       []countedVersion{{"1.29.0", 2}, {"1.30.2", 4}},
	}
	if d := cmp.Diff(want, v); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	v = clusterVersions{}
	v.add(nil, nil) // what could not be read
	if v.Proxies == nil || len(v.ControlPlanes) != 0 {
		t.Errorf("got %+v", v)
	}
}
