// Command probe runs parts of the plugin in its own process, where profiles and
// goroutines can be seen, and the bare paged list that its inventory is measured
// against.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/plugin"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/workload"
)

const usage = `usage: probe [-profile PREFIX] [-goroutines FILE] COMMAND

  list             lists all pods, 500 a page, in protobuf
  inventory        takes the plugin's inventory of all namespaces
  run [ARG...]     runs the plugin's command line`

func main() {
	profile := flag.String("profile", "", "")
	goroutines := flag.String("goroutines", "", "")
	flag.Usage = func() { fmt.Fprintln(os.Stderr, usage) }
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, *profile, *goroutines, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
	}
	os.Exit(code)
}

func run(ctx context.Context, profile, goroutines string, args []string) (code int, err error) {
	if profile != "" {
		finish, err := profiles(profile)
		if err != nil {
			return 1, err
		}
		defer finish()
	}
	if goroutines != "" {
		count := watchGoroutines(ctx)
		defer func() {
			if writeErr := os.WriteFile(goroutines, fmt.Append(nil, count()), 0o600); err == nil && writeErr != nil {
				code, err = 1, writeErr
			}
		}()
	}
	if len(args) == 0 {
		flag.Usage()
		return 2, nil
	}
	switch args[0] {
	case "list":
		err = list(ctx)
	case "inventory":
		err = inventory(ctx)
	case "run":
		return plugin.Main(ctx, args[1:], os.Stdin, os.Stdout, os.Stderr), nil
	default:
		flag.Usage()
		return 2, nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

// profiles starts a CPU profile; its end also writes what is and was on the heap.
func profiles(prefix string) (finish func(), err error) {
	f, err := os.Create(prefix + ".cpu.pprof")
	if err != nil {
		return nil, err
	}
	runtime.MemProfileRate = 64 << 10
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
		for _, name := range []string{"allocs", "goroutine"} {
			if f, err := os.Create(prefix + "." + name + ".pprof"); err == nil {
				_ = pprof.Lookup(name).WriteTo(f, 0)
				_ = f.Close()
			}
		}
	}, nil
}

// watchGoroutines looks at their number; the result gives the most there were.
func watchGoroutines(ctx context.Context) func() int {
	ctx, cancel := context.WithCancel(ctx)
	most := make(chan int)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		n := 0
		for {
			n = max(n, runtime.NumGoroutine())
			select {
			case <-ctx.Done():
				most <- n
				return
			case <-tick.C:
			}
		}
	}()
	return func() int { cancel(); return <-most }
}

// list is the limit for whatever has to see every pod.
func list(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	config.QPS, config.ContentType = -1, apiruntime.ContentTypeProtobuf
	config.AcceptContentTypes = apiruntime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	options := metav1.ListOptions{Limit: 500}
	count := 0
	for {
		page, err := client.CoreV1().Pods(corev1.NamespaceAll).List(ctx, options)
		if err != nil {
			return err
		}
		count += len(page.Items)
		if options.Continue = page.Continue; options.Continue == "" {
			fmt.Fprintln(os.Stdout, count)
			return nil
		}
	}
}

func inventory(ctx context.Context) error {
	flags := genericclioptions.NewConfigFlags(true).WithWrapConfigFn(func(c *rest.Config) *rest.Config {
		c.QPS = -1
		return c
	})
	c, err := cluster.Connect(flags)
	if err != nil {
		return err
	}
	seen, err := workload.Read(ctx, c, "")
	if err != nil {
		return err
	}
	total := int32(0)
	for _, pods := range seen.Pods {
		total += pods.Total
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"workloads": len(seen.Workloads), "pods": total})
}
