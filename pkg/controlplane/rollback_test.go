package controlplane

import (
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
)

// revision makes a stored revision whose image has the tag.
func revision(n int, status, tag string) helm.Release {
	manifest := ""
	if tag != "" {
		manifest = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: istiod}\nspec: {template: {spec: {containers: [{name: discovery, image: 'i/pilot:" + tag + "'}]}}}\n"
	}
	return helm.Release{Name: "istiod", Namespace: "istio-system", Revision: n, Status: status, Manifest: manifest}
}

func TestChooseRevision(t *testing.T) {
	t.Parallel()
	history := []helm.Release{
		revision(9, "deployed", "1.31.0"),
		revision(8, "failed", "1.30.9"),
		revision(7, "superseded", "1.31.0-distroless"),
		revision(6, "superseded", "latest"),
		revision(5, "superseded", "1.30.2"),
		revision(4, "superseded", "1.29.0"),
	}
	afterFailure := []helm.Release{revision(3, "failed", "1.31.0"), revision(2, "deployed", "1.30.2"), revision(1, "superseded", "1.30.1")}
	for name, c := range map[string]struct {
		history []helm.Release
		to      int
		want    int
		wantErr string
	}{
		"newest good one of another version": {history: history, want: 5},
		"the one in force, after a failure":  {history: afterFailure, want: 2},
		"a named one":                        {history: history, to: 4, want: 4},
		"a named one of the same version":    {history: history, to: 7, want: 7},
		"a failed one":                       {history: history, to: 8, wantErr: "is failed: it never was in force"},
		"the newest itself":                  {history: history, to: 9, wantErr: "no earlier revision 9"},
		"an absent one":                      {history: history, to: 3, wantErr: "no earlier revision 3"},
		"nothing before":                     {history: history[:1], want: 0},
	} {
		got, err := chooseRevision(c.history, c.to, imageVersion(c.history[0]), imageVersion)
		if c.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("%s: want an error with %q, got %v", name, c.wantErr, err)
			}
			continue
		}
		if err != nil || got.Revision != c.want {
			t.Errorf("%s: got revision %d, %v; want %d", name, got.Revision, err, c.want)
		}
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	target := semver.MustParse("1.30.2")
	gateway := func(n int, status, chart string) helm.Release {
		r := revision(n, status, "")
		r.ChartVersion = chart
		return r
	}
	for name, c := range map[string]struct {
		history []helm.Release
		want    int
	}{
		"by image":              {[]helm.Release{revision(3, "deployed", "1.31.0"), revision(2, "failed", "1.30.2"), revision(1, "superseded", "1.30.2")}, 1},
		"a gateway, by chart":   {[]helm.Release{gateway(2, "deployed", "1.31.0"), gateway(1, "superseded", "1.30.2")}, 1},
		"there already":         {[]helm.Release{revision(3, "deployed", "1.30.2"), revision(1, "superseded", "1.30.2")}, 0},
		"on its way there":      {[]helm.Release{revision(3, "pending-rollback", "1.30.2"), revision(2, "deployed", "1.31.0"), revision(1, "superseded", "1.30.2")}, 1},
		"never had the version": {[]helm.Release{revision(3, "deployed", "1.31.0"), revision(1, "superseded", "1.29.0")}, 0},
		"a placeholder's":       {[]helm.Release{gateway(2, "deployed", "1.0.0"), gateway(1, "superseded", "1.0.0")}, 0},
	} {
		if got := follow(c.history, target); got.Revision != c.want {
			t.Errorf("%s: got %d, want %d", name, got.Revision, c.want)
		}
	}
}

func TestNewerProxies(t *testing.T) {
	t.Parallel()
	proxies := []ProxyVersion{
		{Version: "1.30.2", Count: 3, Pods: []string{"a/a"}},
		{Version: "1.30.3", Count: 2, Pods: []string{"a/b"}},
		{Version: "1.31.0", Count: 1, Pods: []string{"a/c"}, Revision: "canary"},
	}
	pods, count, newest := newerProxies(proxies, "default", semver.MustParse("1.30.2"))
	if count != 2 || newest.String() != "1.30.3" || strings.Join(pods, " ") != "a/b" {
		t.Errorf("got %v, %d, %v", pods, count, newest)
	}
	if _, count, _ := newerProxies(proxies, "canary", semver.MustParse("1.31.0")); count != 0 {
		t.Errorf("proxies of the same version count as newer: %d", count)
	}
}
