package plugin

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const twoClusters = `apiVersion: v1
kind: Config
current-context: a
clusters:
- {name: a, cluster: {server: "https://a:1", certificate-authority-data: Y2E=}}
- {name: b, cluster: {server: "https://b:2", tls-server-name: b.test, proxy-url: "http://proxy:3"}}
users:
- {name: u, user: {token: secret}}
- {name: v, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: login, args: [x], interactiveMode: Never}}}
contexts:
- {name: a, context: {cluster: a, user: u}}
`

// TestKubeconfigForIstioctl: what the flags and the kubeconfig make together is what
// istioctl gets, where it has no such flags itself.
func TestKubeconfigForIstioctl(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(twoClusters), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, set := range map[string]func(*genericclioptions.ConfigFlags){
		"cluster and user": func(f *genericclioptions.ConfigFlags) { *f.ClusterName, *f.AuthInfoName = "b", "v" },
		"server":           func(f *genericclioptions.ConfigFlags) { *f.APIServer = "https://c:4" },
		"token":            func(f *genericclioptions.ConfigFlags) { *f.BearerToken = "other" },
		"impersonation": func(f *genericclioptions.ConfigFlags) {
			*f.Impersonate, *f.ImpersonateGroup, *f.ImpersonateUID = "jane", []string{"ops"}, "7"
		},
		"proxy":    func(f *genericclioptions.ConfigFlags) { *f.ProxyURL = "http://127.0.0.1:3128" },
		"insecure": func(f *genericclioptions.ConfigFlags) { *f.APIServer, *f.Insecure = "https://c:4", true },
	} {
		flags := func() *genericclioptions.ConfigFlags {
			f := genericclioptions.NewConfigFlags(false)
			*f.KubeConfig = path
			return f
		}
		given := flags()
		if connectionFlags(given) {
			t.Fatal("--kubeconfig alone is handed on as it is")
		}
		set(given)
		if !connectionFlags(given) {
			t.Errorf("%s: is not taken for a flag that istioctl lacks", name)
		}
		text, err := resolvedKubeconfig(given)
		if err != nil {
			t.Fatal(err)
		}
		got, err := clientcmd.RESTConfigFromKubeConfig(text)
		if err != nil {
			t.Fatalf("%s: %v in\n%s", name, err, text)
		}
		want, err := given.ToRESTConfig()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(connection(want), connection(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// connection is what of a rest.Config says where to go and as whom.
func connection(c *rest.Config) map[string]any {
	out := map[string]any{
		"host": c.Host, "token": c.BearerToken, "as": c.Impersonate.UserName, "groups": c.Impersonate.Groups, "uid": c.Impersonate.UID,
		"insecure": c.Insecure, "name": c.ServerName, "ca": string(c.CAData), "proxied": c.Proxy != nil,
	}
	if c.ExecProvider != nil {
		out["exec"] = append([]string{c.ExecProvider.Command}, c.ExecProvider.Args...)
	}
	return out
}
