package cluster

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/cli-runtime/pkg/genericclioptions"
)

const twoContexts = `apiVersion: v1
kind: Config
clusters:
- {name: s, cluster: {server: "https://staging.example.com"}}
- {name: p, cluster: {server: "https://prod.example.com"}}
users:
- {name: sam, user: {token: a}}
- {name: pat, user: {token: b}}
contexts:
- {name: staging, context: {cluster: s, user: sam, namespace: apps}}
- {name: prod, context: {cluster: p, user: pat}}
current-context: staging
`

// The names under which a cluster is shown are those of the connection, whatever
// part of it a flag has set.
func TestConnectNamesTheClusterThatItReaches(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(twoContexts), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, context, user             string // flags
		wantContext, wantServer, wantNS string
		wantUser                        string
	}{
		{"the file's own", "", "", "staging", "https://staging.example.com", "apps", "sam"},
		{"--context", "prod", "", "prod", "https://prod.example.com", "default", "pat"},
		{"--user", "", "pat", "staging", "https://staging.example.com", "apps", "pat"},
		{"both", "prod", "sam", "prod", "https://prod.example.com", "default", "sam"},
	} {
		flags := genericclioptions.NewConfigFlags(false)
		*flags.KubeConfig, *flags.Context, *flags.AuthInfoName = file, c.context, c.user
		got, err := Connect(flags)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got.Context != c.wantContext || got.Server != c.wantServer || got.Namespace != c.wantNS || got.User != c.wantUser {
			t.Errorf("%s: context %q, server %q, namespace %q, user %q", c.name, got.Context, got.Server, got.Namespace, got.User)
		}
	}
}
