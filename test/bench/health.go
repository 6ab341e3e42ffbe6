package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// The users of the API server's health: neither is the administrator, whom the
// API server's fairness lets pass.
const (
	operator  = "operator"
	bystander = "bystander"
)

// idleFor is how long the API server is looked at while nothing happens.
const idleFor = 15 * time.Second

// What the plugin's run may do to an unrelated client. docs/performance.md has the
// reasons.
const (
	mostRise   = 100.0 // ms, of the 99th percentile over that of an idle API server
	mostSlower = 1.2   // times the 99th percentile while kubectl restarts the same
	givenUp    = 30 * time.Second
)

// asUser gives a user rights and a kubeconfig.
func (b *bench) asUser(ctx context.Context, user, role string) (string, error) {
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}
	if _, err := b.Client().RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		return "", err
	}
	return b.KubeconfigAs(user, "system:authenticated")
}

// bystander gives a client of somebody who has nothing to do with the upgrade.
func (b *bench) bystander(ctx context.Context) (kubernetes.Interface, error) {
	kubeconfig, err := b.asUser(ctx, bystander, "view")
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return kubernetes.NewForConfig(config)
}

// latency is how long a client's requests took, round by round.
type latency struct {
	rounds [][]request
	parted []time.Time // a moment of each round that parts it in two; none where there is none
}

// request is one of them.
type request struct {
	began  time.Time
	took   float64 // ms
	failed bool
}

// of reads one object 40 times a second for as long as something is done. What is
// under way then is waited for, so that the slowest are not left out.
func (l *latency) of(ctx context.Context, client kubernetes.Interface, do func() (sample, error)) (sample, error) {
	var mu sync.Mutex
	var took []request
	var all sync.WaitGroup
	done := make(chan struct{})
	all.Go(func() {
		tick := time.NewTicker(25 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			// One that is slow does not hold up the next.
			all.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, givenUp)
				defer cancel()
				began := time.Now()
				_, err := client.CoreV1().ConfigMaps(metav1.NamespaceDefault).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
				mu.Lock()
				defer mu.Unlock()
				took = append(took, request{began, float64(time.Since(began).Microseconds()) / 1000, err != nil})
			})
		}
	})
	s, err := do()
	close(done)
	all.Wait()
	l.rounds = append(l.rounds, took)
	return s, err
}

// counts gives how many requests there were in all rounds, and how many of them
// failed.
func (l *latency) counts() (all, failed int) {
	for _, round := range l.rounds {
		for _, r := range round {
			all++
			if r.failed {
				failed++
			}
		}
	}
	return all, failed
}

// at gives a percentile of each round.
func (l *latency) at(p int) []float64 {
	out := make([]float64, 0, len(l.rounds))
	for _, round := range l.rounds {
		took := make([]float64, 0, len(round))
		for _, r := range round {
			took = append(took, r.took)
		}
		slices.Sort(took)
		out = append(out, percentile(took, p))
	}
	return out
}

// parts gives what was asked before and after the moment that parts each round.
func (l *latency) parts() (before, after *latency) {
	before, after = &latency{}, &latency{}
	for i, parted := range l.parted {
		var b, a []request
		for _, r := range l.rounds[i] {
			if r.began.Before(parted) {
				b = append(b, r)
			} else {
				a = append(a, r)
			}
		}
		before.rounds, after.rounds = append(before.rounds, b), append(after.rounds, a)
	}
	return before, after
}

func percentile(sorted []float64, p int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

func (b *bench) health(workloads int, idle, meanwhile, restarted *latency) {
	slowest := fmt.Sprintf("an unrelated client's slowest requests (99th percentile) while %d workloads are moved", workloads)
	rise := spreadOf(meanwhile.at(99)).Median - spreadOf(idle.at(99)).Median
	_, failed := meanwhile.counts()
	for _, g := range []goal{
		{
			work: slowest, peer: "an idle API server", ours: spreadOf(meanwhile.at(99)).text("ms"), theirs: spreadOf(idle.at(99)).text("ms"),
			goal: fmt.Sprintf("rise by ≤ %.0f ms", mostRise), measured: fmt.Sprintf("%+.0f ms", rise), met: rise <= mostRise,
		},
		{
			work: "its requests that failed", ours: fmt.Sprint(failed), goal: "none",
			measured: fmt.Sprint(failed), met: failed == 0,
		},
	} {
		b.say("%s", b.report.add(g))
	}
	b.say("%s", b.report.atMost(slowest, "the same while `kubectl rollout restart` moves them", "ms", meanwhile.at(99), restarted.at(99), mostSlower))
	t := table{
		title: "The API server's health: an unrelated client reads a ConfigMap 40 times a second",
		text:  "On this machine the controllers that replace the pods compete with the API server for the cores; what the plugin adds is the difference to kubectl's restart.",
		head:  []string{"while", "requests", "failed", "median", "99th percentile", "slowest"},
	}
	planned, moved := meanwhile.parts()
	for _, row := range []struct {
		name string
		*latency
	}{
		{"nothing else happens", idle},
		{fmt.Sprintf("`sidecars` moves %d workloads, %d at a time", workloads, growParallel), meanwhile},
		{"of that, until it begins to write", planned},
		{"and from then on", moved},
		{"`kubectl rollout restart deployment` moves them", restarted},
	} {
		requests, failed := row.counts()
		t.rows = append(t.rows, []string{
			row.name, fmt.Sprint(requests), fmt.Sprint(failed), spreadOf(row.at(50)).text("ms"),
			spreadOf(row.at(99)).text("ms"), spreadOf(row.at(100)).text("ms"),
		})
	}
	b.report.tables = append(b.report.tables, t)
}
