package lab

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
)

// Names of the parts, for StopPart and StartPart. An istiod is called Istiod(revision).
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kwok              = "kwok"
)

// bringUp starts the parts in the order in which they need each other.
func (c *Cluster) bringUp(ctx context.Context) error {
	ports, err := freePorts(ctx, 3)
	if err != nil {
		return err
	}
	c.apiPort = ports[0]
	if err := c.writeCredentials(); err != nil {
		return err
	}
	if err := c.connect(); err != nil {
		return err
	}
	etcdClient, etcdPeer := "http://"+loopback(ports[1]), "http://"+loopback(ports[2])
	if err := c.add(ctx, started{Name: Etcd, Args: []string{
		"--data-dir", c.file("etcd"), "--unsafe-no-fsync", "--log-level", "warn",
		"--listen-client-urls", etcdClient, "--advertise-client-urls", etcdClient,
		"--listen-peer-urls", etcdPeer, "--initial-advertise-peer-urls", etcdPeer, "--initial-cluster", "default=" + etcdPeer,
		"--quota-backend-bytes", strconv.Itoa(8 << 30), "--auto-compaction-mode", "revision", "--auto-compaction-retention", "20000",
	}}); err != nil {
		return err
	}
	args, err := c.apiServerArgs(etcdClient)
	if err != nil {
		return err
	}
	if err := c.add(ctx, started{Name: APIServer, Args: args}); err != nil {
		return err
	}
	if err := c.awaitAPI(ctx); err != nil {
		return err
	}
	if err := c.add(ctx, started{Name: ControllerManager, Args: []string{
		"--kubeconfig", c.Kubeconfig(), "--service-account-private-key-file", c.file("service-account.key"),
		"--root-ca-file", c.file("apiserver.crt"), "--leader-elect=false", "--secure-port=0",
		"--kube-api-qps=2000", "--kube-api-burst=4000", "--node-monitor-grace-period=24h",
		"--concurrent-deployment-syncs=50", "--concurrent-replicaset-syncs=50", "--concurrent-statefulset-syncs=50",
		"--concurrent-daemonset-syncs=20", "--concurrent-endpoint-syncs=20", "--concurrent-service-endpoint-syncs=20",
	}}); err != nil {
		return err
	}
	if err := c.add(ctx, started{Name: Scheduler, Args: []string{
		"--kubeconfig", c.Kubeconfig(), "--leader-elect=false", "--secure-port=0", "--kube-api-qps=2000", "--kube-api-burst=4000",
	}}); err != nil {
		return err
	}
	if err := c.makeNodes(ctx); err != nil {
		return err
	}
	if err := c.makeStages(ctx); err != nil {
		return err
	}
	if err := c.add(ctx, started{Name: Kwok, Args: []string{
		"--kubeconfig", c.Kubeconfig(), "--manage-all-nodes=true", "--enable-crds=Stage", "--cidr=10.64.0.0/10",
		"--config", c.file("kwok.yaml"),
	}}); err != nil {
		return err
	}
	if err := c.awaitNodes(ctx); err != nil {
		return err
	}
	return c.await(ctx, "the default service account", time.Minute, func(ctx context.Context) error {
		_, err := c.client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

func (c *Cluster) apiServerArgs(etcd string) ([]string, error) {
	args := []string{
		"--etcd-servers", etcd, "--bind-address=127.0.0.1", "--secure-port", strconv.Itoa(c.apiPort),
		// What the Service "kubernetes" points to: an address that leads nowhere (RFC 5737).
		"--advertise-address=192.0.2.1",
		"--cert-dir", c.dir, "--tls-cert-file", c.file("apiserver.crt"), "--tls-private-key-file", c.file("apiserver.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file", c.file("service-account.key"), "--service-account-signing-key-file", c.file("service-account.key"),
		"--token-auth-file", c.file("tokens.csv"), "--authorization-mode=RBAC", "--allow-privileged",
		"--service-cluster-ip-range=10.96.0.0/16", "--shutdown-delay-duration=0s",
	}
	if c.opts.AuditLog {
		if err := os.WriteFile(c.file("audit-policy.yaml"), []byte(auditPolicy), 0o600); err != nil {
			return nil, fmt.Errorf("writing the audit policy: %w", err)
		}
		args = append(args, "--audit-policy-file", c.file("audit-policy.yaml"), "--audit-log-path", c.auditLog(), "--audit-log-mode=blocking")
	}
	return args, nil
}

// writeCredentials makes the API server's certificate, the key that signs service account tokens, the
// administrator's token and the kubeconfig.
func (c *Cluster) writeCredentials() error {
	crt, key, err := cert.GenerateSelfSignedCertKey("localhost", []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"})
	if err != nil {
		return fmt.Errorf("making the API server's certificate: %w", err)
	}
	signer, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("making the service accounts' key: %w", err)
	}
	c.token = rand.Text()
	config, err := clientcmd.Write(c.kubeconfig(crt, clientcmdapi.AuthInfo{Token: c.token}))
	if err != nil {
		return fmt.Errorf("making the kubeconfig: %w", err)
	}
	for name, content := range map[string][]byte{
		"apiserver.crt":       crt,
		"apiserver.key":       key,
		"service-account.key": pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(signer)}),
		"tokens.csv":          []byte(c.token + ",admin,admin,system:masters\n"),
		"kubeconfig":          config,
		"kwok.yaml":           []byte(kwokConfig),
	} {
		if err := os.WriteFile(c.file(name), content, 0o600); err != nil {
			return fmt.Errorf("writing the lab's credentials: %w", err)
		}
	}
	return nil
}

func (c *Cluster) kubeconfig(ca []byte, user clientcmdapi.AuthInfo) clientcmdapi.Config {
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = &clientcmdapi.Cluster{Server: "https://" + loopback(c.apiPort), CertificateAuthorityData: ca}
	config.AuthInfos["lab"] = &user
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "lab"}
	config.CurrentContext = "lab"
	return *config
}

// KubeconfigAs writes a kubeconfig whose user is another one, by impersonation, and returns its path. The user has
// the rights that RBAC gives to its name and groups: none at first.
func (c *Cluster) KubeconfigAs(user string, groups ...string) (string, error) {
	ca, err := os.ReadFile(c.file("apiserver.crt"))
	if err != nil {
		return "", fmt.Errorf("reading the API server's certificate: %w", err)
	}
	config := c.kubeconfig(ca, clientcmdapi.AuthInfo{Token: c.token, Impersonate: user, ImpersonateGroups: groups})
	path := c.file("kubeconfig-" + user)
	if err := clientcmd.WriteToFile(config, path); err != nil {
		return "", fmt.Errorf("writing the kubeconfig of %s: %w", user, err)
	}
	return path, nil
}

func (c *Cluster) awaitAPI(ctx context.Context) error {
	return c.await(ctx, "the API server", 2*time.Minute, func(ctx context.Context) error {
		return c.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
}

// add starts a part and remembers it.
func (c *Cluster) add(ctx context.Context, with started) error {
	p := &process{started: with}
	if p.Path == "" {
		p.Path = c.Parts.Bin(p.Name)
	}
	p.Log = c.file("logs/" + p.Name + ".log")
	c.mu.Lock()
	c.processes = append(c.processes, p)
	c.mu.Unlock()
	if err := p.start(ctx, c.opts.Detached, c.spawn); err != nil {
		return err
	}
	return c.save()
}

func (c *Cluster) part(name string) (*process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.processes, func(p *process) bool { return p.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("the lab has no part %s", name)
	}
	return c.processes[i], nil
}

// PIDs gives the process ids of the parts that run, by name.
func (c *Cluster) PIDs() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int{}
	for _, p := range c.processes {
		if s := p.snapshot(); s.PID != 0 {
			out[s.Name] = s.PID
		}
	}
	return out
}

// StopPart ends one part and returns when it is gone.
func (c *Cluster) StopPart(name string) error {
	p, err := c.part(name)
	if err != nil {
		return err
	}
	if err := p.stop(graceOf(name)); err != nil {
		return err
	}
	return c.save()
}

// StartPart starts a part that StopPart ended, as it was and on the ports it had. For the API server it waits
// until that answers again.
func (c *Cluster) StartPart(ctx context.Context, name string) error {
	p, err := c.part(name)
	if err != nil {
		return err
	}
	if p.snapshot().PID != 0 {
		return fmt.Errorf("%s runs already", name)
	}
	if err := p.start(ctx, c.opts.Detached, c.spawn); err != nil {
		return err
	}
	if err := c.save(); err != nil {
		return err
	}
	if name == APIServer {
		return c.awaitAPI(ctx)
	}
	return nil
}

// RestartAPIServer stops the API server and starts it on the same port.
func (c *Cluster) RestartAPIServer(ctx context.Context) error {
	if err := c.StopPart(APIServer); err != nil {
		return err
	}
	return c.StartPart(ctx, APIServer)
}
