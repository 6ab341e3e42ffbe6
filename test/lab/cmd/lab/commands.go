package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/lab"
)

var errUsage = errors.New(`usage: lab COMMAND [--dir DIR]

  build              build what is missing, and nothing else
  up [--istio V]     start a cluster, install Istio V (none by default), print "export KUBECONFIG=..."
     [--native-sidecars] [--pod-start D] [--audit]
  down               stop the cluster
  demo-shop          apply the demonstration's workloads
  env                print where the programs, charts and the kubeconfig are, for a shell`)

// run does one command: results go to out, progress to log.
func run(ctx context.Context, args []string, out, log io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	dir := flags.String("dir", "", "")
	istio := flags.String("istio", "", "")
	native := flags.Bool("native-sidecars", false, "")
	podStart := flags.Duration("pod-start", 0, "")
	audit := flags.Bool("audit", false, "")
	if err := flags.Parse(args[1:]); err != nil {
		return fmt.Errorf("%w\n\n%w", err, errUsage)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q\n\n%w", flags.Arg(0), errUsage)
	}
	if *dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("finding the user's cache folder: %w", err)
		}
		*dir = filepath.Join(cache, "kubectl-istio-upgrade", "cluster")
	}

	switch args[0] {
	case "build":
		_, err := lab.Build(ctx, log)
		return err
	case "up":
		return up(ctx, lab.Options{
			Dir: *dir, Detached: true, Log: log, NativeSidecars: *native, PodStart: *podStart, AuditLog: *audit,
		}, *istio, out, log)
	case "down":
		return down(*dir, log)
	case "demo-shop":
		c, err := lab.Attach(*dir, log)
		if err != nil {
			return err
		}
		return c.ApplyShop(ctx)
	case "env":
		return env(ctx, *dir, out, log)
	}
	return fmt.Errorf("unknown command %q\n\n%w", args[0], errUsage)
}

func up(ctx context.Context, opts lab.Options, istio string, out, log io.Writer) error {
	if _, err := lab.Build(ctx, log); err != nil {
		return err
	}
	began := time.Now()
	c, err := lab.Start(ctx, opts)
	if err != nil {
		return err
	}
	if istio != "" {
		if err := c.InstallIstio(ctx, istio, lab.IstioOptions{}); err != nil {
			return errors.Join(err, c.Stop())
		}
	}
	fmt.Fprintf(log, "lab: up in %s\n", time.Since(began).Round(100*time.Millisecond))
	fmt.Fprintf(out, "export KUBECONFIG=%s\n", c.Kubeconfig())
	return nil
}

func down(dir string, log io.Writer) error {
	c, err := lab.Attach(dir, log)
	if errors.Is(err, os.ErrNotExist) {
		fmt.Fprintln(log, "lab: nothing to stop in", dir)
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.Stop(); err != nil {
		return err
	}
	fmt.Fprintln(log, "lab: down")
	return nil
}

func env(ctx context.Context, dir string, out, log io.Writer) error {
	parts, err := lab.Build(ctx, log)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "export PATH=%s:$PATH\n", filepath.Dir(parts.Bin("kubectl")))
	fmt.Fprintf(out, "export KUBECONFIG=%s\n", filepath.Join(dir, "kubeconfig"))
	for _, name := range []string{"kubectl", "istioctl", "helm"} {
		fmt.Fprintf(out, "export LAB_%s=%s\n", map[string]string{"kubectl": "KUBECTL", "istioctl": "ISTIOCTL", "helm": "HELM"}[name], parts.Bin(name))
	}
	fmt.Fprintf(out, "export LAB_CHARTS_OLDER=%s\n", parts.ChartFolder(lab.OlderIstio))
	fmt.Fprintf(out, "export LAB_CHARTS_NEWER=%s\n", parts.ChartFolder(lab.NewerIstio))
	fmt.Fprintf(out, "export LAB_CHARTS_PACKAGED=%s\n", parts.PackagedCharts())
	return nil
}
