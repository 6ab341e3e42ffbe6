// Command kubectl-istio_upgrade is a kubectl plugin that takes an Istio mesh
// from one version to the next.
package main

import (
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // cloud credentials in kubeconfigs

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/plugin"
)

func main() {
	ctx, stop := plugin.Signals()
	code := plugin.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
