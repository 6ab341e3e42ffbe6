package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"istio.io/api/annotation"
	"istio.io/api/label"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IstioNamespace is where the lab installs Istio.
const IstioNamespace = "istio-system"

// IstioOptions say how Istio is installed.
type IstioOptions struct {
	Revision string   // "" is the default one; a name installs a second control plane beside it
	Values   []string // more Helm values of the release istiod, each as --set takes them
	HelmArgs []string // more arguments of both installations, such as --server-side=false
	NoWait   bool     // return when the process is started, before the injector answers
}

// Istiod is the name of the process that answers for a revision, for StopPart and StartPart.
func Istiod(revision string) string {
	if revision == "" {
		return "istiod"
	}
	return "istiod-" + revision
}

// InstallIstio installs Istio with Helm as its users do (the releases istio-base and istiod, or istiod-REVISION, in
// istio-system) and starts the istiod process that answers the webhooks. It returns when a pod's dry-run creation
// comes back injected with the version.
//
// The webhooks are reached by URL. The values for that belong to the releases, so that an upgrade which keeps the
// user's values keeps them.
func (c *Cluster) InstallIstio(ctx context.Context, version string, opts IstioOptions) error {
	if !slices.ContainsFunc(istioSources, func(s istioSource) bool { return s.version == version }) {
		return fmt.Errorf("installing Istio: the lab has no charts of version %q, only %s and %s", version, OlderIstio, NewerIstio)
	}
	ports, err := freePorts(ctx, 5)
	if err != nil {
		return err
	}
	url := fmt.Sprintf("https://localhost:%d", ports[0])
	if opts.Revision == "" {
		if err := c.Helm(ctx, append([]string{
			"install", "istio-base", c.Parts.Chart("base", version), "--namespace", IstioNamespace,
			"--create-namespace", "--set", "base.validationURL=" + url + "/validate",
		}, opts.HelmArgs...)...); err != nil {
			return err
		}
	}
	args := []string{
		"install", Istiod(opts.Revision), c.Parts.Chart("istiod", version), "--namespace", IstioNamespace,
		"--set", "istiodRemote.injectionURL=" + url + "/inject", "--set", "base.validationURL=" + url + "/validate",
	}
	if opts.Revision != "" {
		args = append(args, "--set", "revision="+opts.Revision)
	}
	for _, v := range opts.Values {
		args = append(args, "--set", v)
	}
	if err := c.Helm(ctx, append(args, opts.HelmArgs...)...); err != nil {
		return err
	}
	if err := c.addIstiod(ctx, opts.Revision, ports); err != nil {
		return err
	}
	if opts.NoWait {
		return nil
	}
	return c.AwaitInjection(ctx, opts.Revision, version)
}

// addIstiod starts the process of a revision on ports of its own, the first of which is that of its webhooks. Its ConfigMap has to be there: without one istiod
// serves no injection until it is started again.
func (c *Cluster) addIstiod(ctx context.Context, revision string, ports []int) error {
	name := revision
	if name == "" {
		name = "default"
	}
	return c.add(ctx, started{
		Name: Istiod(revision), Path: c.Parts.Bin("pilot-discovery"),
		Args: []string{
			"discovery", "--kubeconfig", c.Kubeconfig(), "--meshConfig", "/dev/null", "--httpsAddr", loopback(ports[0]),
			"--httpAddr", loopback(ports[1]), "--grpcAddr", loopback(ports[2]), "--secureGRPCAddr", loopback(ports[3]),
			"--monitoringAddr", loopback(ports[4]), "--ctrlz_port", "0",
		},
		// Its certificate has to fit the URL of the webhooks.
		Env: []string{
			"POD_NAME=" + Istiod(revision) + "-lab", "POD_NAMESPACE=" + IstioNamespace, "REVISION=" + name,
			"ISTIOD_CUSTOM_HOST=localhost", "CLUSTER_ID=Kubernetes",
		},
	})
}

// StopIstiod stops the istiod process of a revision: injection and validation fail until StartIstiod.
func (c *Cluster) StopIstiod(revision string) error { return c.StopPart(Istiod(revision)) }

// StartIstiod starts the istiod process of a revision again and returns when it injects.
func (c *Cluster) StartIstiod(ctx context.Context, revision string) error {
	if err := c.StartPart(ctx, Istiod(revision)); err != nil {
		return err
	}
	return c.AwaitInjection(ctx, revision, "")
}

// AwaitInjection returns when the injector of a revision gives a proxy of the version, or any proxy for "".
func (c *Cluster) AwaitInjection(ctx context.Context, revision, version string) error {
	return c.await(ctx, "the injector "+Istiod(revision), 2*time.Minute, func(ctx context.Context) error {
		image, err := c.InjectedImage(ctx, revision)
		if err != nil {
			return err
		}
		if version != "" && !strings.HasSuffix(image, ":"+version) {
			return fmt.Errorf("the injector gives %s", image)
		}
		return nil
	})
}

// InjectedImage is the proxy's image that the injector of a revision gives to a pod of the namespace default now,
// by a dry-run.
func (c *Cluster) InjectedImage(ctx context.Context, revision string) (string, error) {
	labels := map[string]string{label.SidecarInject.Name: "true"}
	if revision != "" {
		labels[label.IoIstioRev.Name] = revision
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "injected-", Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/app:1"}}},
	}
	made, err := c.client.CoreV1().Pods(metav1.NamespaceDefault).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return "", fmt.Errorf("asking the injector: %w", err)
	}
	for _, container := range slices.Concat(made.Spec.Containers, made.Spec.InitContainers) {
		if container.Name == "istio-proxy" {
			return container.Image, nil
		}
	}
	if made.Annotations[annotation.SidecarStatus.Name] != "" {
		return "", errors.New("asking the injector: it answered without a proxy")
	}
	return "", errors.New("asking the injector: no webhook served the pod")
}

// Helm runs Helm's command line against the cluster, with a configuration of its own.
func (c *Cluster) Helm(ctx context.Context, args ...string) error {
	_, err := c.run(ctx, nil, "helm", args...)
	return err
}

// Kubectl runs kubectl against the cluster with stdin, which may be nil, and returns what it printed on stdout.
func (c *Cluster) Kubectl(ctx context.Context, stdin []byte, args ...string) (string, error) {
	return c.run(ctx, stdin, "kubectl", args...)
}

// Istioctl runs istioctl against the cluster and returns what it printed on stdout.
func (c *Cluster) Istioctl(ctx context.Context, args ...string) (string, error) {
	return c.run(ctx, nil, "istioctl", args...)
}

func (c *Cluster) run(ctx context.Context, stdin []byte, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.Parts.Bin(name), args...)
	cmd.Env = append(helmEnv(c.dir), "KUBECONFIG="+c.Kubeconfig())
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

// CreateNamespace makes a namespace with labels, and returns when its default service account is there, because
// pods are refused before that. One that exists is left as it is.
func (c *Cluster) CreateNamespace(ctx context.Context, name string, labels map[string]string) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := c.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating the namespace %s: %w", name, err)
	}
	return c.await(ctx, "the service account of "+name, time.Minute, func(ctx context.Context) error {
		_, err := c.client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}
