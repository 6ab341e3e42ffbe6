package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Options say what kind of cluster is started. The zero value is a good one for tests.
type Options struct {
	Dir            string        // where its files go; "" is a new temporary folder that Stop removes
	Nodes          int           // 0 means 3
	NativeSidecars bool          // nodes with a kubelet version for which istiod injects native sidecars
	PodStart       time.Duration // how long a pod takes to become ready
	AuditLog       bool          // needed for AuditEvents; costs some speed
	Detached       bool          // the parts live on when this program ends; stop them with Attach and Stop
	Log            io.Writer     `json:"-"` // progress; nil is silence
}

// Cluster is one running lab. Its methods may be called from several goroutines.
type Cluster struct {
	Parts Parts

	dir       string
	temporary bool
	opts      Options
	log       io.Writer

	mu        sync.Mutex
	processes []*process
	apiPort   int
	token     string

	spawn     func(func())
	stopSpawn func()
	config    *rest.Config
	client    *kubernetes.Clientset
	dynamic   *dynamic.DynamicClient
	closers   []func() error
}

// Start builds what is missing, starts a cluster on free ports and returns when its nodes are ready and the default
// service account is there: 10 seconds or so when everything is built. When it fails, or ctx ends, nothing of it
// is left running; a part that died is named with the last lines of its log.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	if opts.Log == nil {
		opts.Log = io.Discard
	}
	if opts.Nodes == 0 {
		opts.Nodes = 3
	}
	parts, err := Build(ctx, opts.Log)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Parts: parts, dir: opts.Dir, opts: opts, log: opts.Log}
	if c.dir == "" {
		if c.dir, err = os.MkdirTemp("", "istio-upgrade-lab-"); err != nil {
			return nil, fmt.Errorf("making the lab's folder: %w", err)
		}
		c.temporary = true
	}
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return nil, fmt.Errorf("finding the lab's folder: %w", err)
	}
	if err := clearUnlessUp(c.dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.file("logs"), 0o755); err != nil {
		return nil, fmt.Errorf("making the lab's folder: %w", err)
	}
	c.spawn, c.stopSpawn = spawner()
	if err := c.bringUp(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the lab: %w", err), c.Stop())
	}
	return c, nil
}

// Attach returns the cluster that another program started, detached, in dir. The error wraps os.ErrNotExist when
// there is none.
func Attach(dir string, log io.Writer) (*Cluster, error) {
	if log == nil {
		log = io.Discard
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("finding the lab's folder: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "lab.json"))
	if err != nil {
		return nil, fmt.Errorf("no lab is up in %s: %w", dir, err)
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(dir, "lab.json"), err)
	}
	c := &Cluster{Parts: s.Parts, dir: dir, opts: s.Options, log: log, apiPort: s.APIPort, token: s.Token}
	for _, p := range s.Processes {
		c.processes = append(c.processes, &process{started: p})
	}
	c.spawn, c.stopSpawn = spawner()
	return c, c.connect()
}

// clearUnlessUp removes what a cluster left that ended with its machine. One of which a part still runs is an error.
func clearUnlessUp(dir string) error {
	old, err := Attach(dir, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, p := range old.processes {
		if p.PID != 0 && runs(p.PID, p.Path) {
			old.stopSpawn()
			return fmt.Errorf("a lab is already up in %s: take it down first", dir)
		}
	}
	return old.Stop()
}

// state is what Attach needs to know, kept in lab.json.
type state struct {
	Parts     Parts     `json:"parts"`
	Options   Options   `json:"options"`
	APIPort   int       `json:"apiPort"`
	Token     string    `json:"token"`
	Processes []started `json:"processes"`
}

// save writes the state, so that every process that was started can be stopped by its id, by whomever. The caller
// holds no lock.
func (c *Cluster) save() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := state{c.Parts, c.opts, c.apiPort, c.token, make([]started, 0, len(c.processes))}
	for _, p := range c.processes {
		s.Processes = append(s.Processes, p.snapshot())
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the lab's state: %w", err)
	}
	unfinished := c.file(".lab.json")
	if err := os.WriteFile(unfinished, b, 0o600); err != nil {
		return fmt.Errorf("writing the lab's state: %w", err)
	}
	if err := os.Rename(unfinished, c.file("lab.json")); err != nil {
		return fmt.Errorf("writing the lab's state: %w", err)
	}
	return nil
}

func (c *Cluster) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return fmt.Errorf("reading the lab's kubeconfig: %w", err)
	}
	config.QPS, config.UserAgent = -1, userAgent
	if c.client, err = kubernetes.NewForConfig(config); err != nil {
		return fmt.Errorf("making a client of the lab: %w", err)
	}
	if c.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return fmt.Errorf("making a client of the lab: %w", err)
	}
	c.config = config
	return nil
}

// userAgent of the lab's own requests, to tell them from those of what is tested.
const userAgent = "istio-upgrade-lab"

func (c *Cluster) file(name string) string { return filepath.Join(c.dir, name) }

// Dir is the cluster's folder: its logs, state and kubeconfig.
func (c *Cluster) Dir() string { return c.dir }

// Kubeconfig is the path of a kubeconfig whose only context, lab, is the cluster's administrator.
func (c *Cluster) Kubeconfig() string { return c.file("kubeconfig") }

// Config returns a copy of the lab's own client configuration, without client-side rate limits.
func (c *Cluster) Config() *rest.Config { return rest.CopyConfig(c.config) }

// Client is a client of the cluster's administrator.
func (c *Cluster) Client() kubernetes.Interface { return c.client }

// Stop ends every part by its process id, waits for it to be gone, and removes the folder if it was temporary.
// It may be called twice. It takes no context, because it has to work after every context has ended.
func (c *Cluster) Stop() error {
	c.mu.Lock()
	closers, processes := c.closers, slices.Clone(c.processes)
	c.closers = nil
	c.mu.Unlock()

	var errs []error
	for _, f := range closers {
		errs = append(errs, f())
	}
	// The API server waits for its clients to go, so they are told first; all of them end at the same time.
	slices.Reverse(processes)
	ends := make([]error, len(processes))
	var wg sync.WaitGroup
	for i, p := range processes {
		wg.Go(func() { ends[i] = p.stop(graceOf(p.Name)) })
	}
	wg.Wait()
	errs = append(errs, ends...)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stopping the lab in %s: %w", c.dir, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopSpawn != nil {
		c.stopSpawn()
		c.stopSpawn = nil
	}
	c.processes = nil
	if c.temporary {
		return os.RemoveAll(c.dir)
	}
	return errors.Join(ignoreMissing(os.Remove(c.file("lab.json"))), os.RemoveAll(c.file("etcd")))
}

// graceOf is how long a part may take to end before it is killed. Nothing in etcd or the API server of a lab that
// goes away is worth waiting for.
func graceOf(name string) time.Duration {
	if name == APIServer || name == Etcd {
		return time.Second
	}
	return 3 * time.Second
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Err says which part ended by itself, with the last lines of its log, or nil.
func (c *Cluster) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, p := range c.processes {
		errs = append(errs, p.failure())
	}
	return errors.Join(errs...)
}

// await asks every 50 ms until done says yes, ctx ends, the limit is over or a part dies.
func (c *Cluster) await(ctx context.Context, what string, limit time.Duration, done func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		last := done(ctx)
		if last == nil {
			return nil
		}
		if err := c.Err(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w (last: %w)", what, ctx.Err(), last)
		case <-tick.C:
		}
	}
}
