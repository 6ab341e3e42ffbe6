package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Two users with the same rights, of whom the API server refuses one.
const (
	throttled  = "throttled"
	unhindered = "unhindered"
)

// throttle gives a user so small a part of the API server that it refuses most
// of what comes at once, and sees that a run is slower and nothing more. Another
// user's runs take turns with it.
func (b *bench) throttle(ctx context.Context) error {
	f := fleet{namespace: "throttle", count: b.deployments, replicas: 1}
	b.say("creating %d Deployments", f.count)
	if err := b.launch(ctx, f); err != nil {
		return err
	}
	defer func() { b.kubeconfig = "" }()
	refusals := map[string][]float64{}
	contenders := []*contender{}
	for _, user := range []string{unhindered, throttled} {
		kubeconfig, err := b.asUser(ctx, user, "cluster-admin")
		if err != nil {
			return err
		}
		contenders = append(contenders, &contender{name: user, do: func(ctx context.Context) (sample, error) {
			b.kubeconfig = kubeconfig
			s, refused, err := b.throttledRun(ctx, f)
			refusals[user] = append(refusals[user], float64(refused))
			return s, err
		}})
	}
	if err := b.restrict(ctx); err != nil {
		return err
	}
	if err := b.takeTurns(ctx, b.rounds, contenders, func(ctx context.Context) error {
		if err := b.rest(ctx, f); err != nil {
			return err
		}
		return b.inject(ctx)
	}); err != nil || b.profiles != "" {
		return err
	}
	free, slow := contenders[0].took.of(wall), contenders[1].took.of(wall)
	refused, slower := spreadOf(refusals[throttled]), ratio(slow, free)
	b.say("%s", b.report.add(goal{
		work: fmt.Sprintf("%d workloads through a priority level that refuses what comes at once", f.count), peer: "the same without",
		ours: spreadOf(slow).text("s"), theirs: spreadOf(free).text("s"),
		// A run of which a workload was not sent has ended the line with an error.
		goal:     "429 in every round, slower, and all of it done",
		measured: fmt.Sprintf("%.0f answers or more were 429, %s as long, all %d sent", refused.Least, slower.text("×"), f.count),
		met:      refused.Least > 0 && slower.Median > 1,
	}))
	return nil
}

// throttledRun moves a fleet, fails unless all of it was sent, and gives how many
// answers were 429.
func (b *bench) throttledRun(ctx context.Context, f fleet) (s sample, refused int, err error) {
	began := time.Now()
	s, text, err := b.ours(ctx, "sidecars-throttled", "sidecars", "-n", f.namespace, "--yes", "--max-parallel", fmt.Sprint(f.count), "--wait=false", "-o", "json")
	if err != nil {
		return s, 0, err
	}
	if _, err := parse(text, "sent", f.count); err != nil {
		return s, 0, err
	}
	events, err := b.AuditEvents(ctx, userAgent)
	for i := range events {
		if events[i].Response.Code == http.StatusTooManyRequests && !events[i].Received.Before(began) {
			refused++
		}
	}
	return s, refused, err
}

// restrict puts the throttled user's requests at a level with as few seats as
// there can be, no queue and nothing to borrow: what does not fit is refused.
func (b *bench) restrict(ctx context.Context) error {
	one, none := int32(1), int32(0)
	level := &flowcontrolv1.PriorityLevelConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: throttled},
		Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type: flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
				NominalConcurrencyShares: &one, BorrowingLimitPercent: &none,
				LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject},
			},
		},
	}
	schema := &flowcontrolv1.FlowSchema{
		ObjectMeta: metav1.ObjectMeta{Name: throttled},
		Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: throttled},
			MatchingPrecedence:         100,
			Rules: []flowcontrolv1.PolicyRulesWithSubjects{{
				Subjects: []flowcontrolv1.Subject{{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: throttled}}},
				ResourceRules: []flowcontrolv1.ResourcePolicyRule{{
					Verbs: []string{rbacv1.VerbAll}, APIGroups: []string{rbacv1.APIGroupAll}, Resources: []string{rbacv1.ResourceAll},
					ClusterScope: true, Namespaces: []string{flowcontrolv1.NamespaceEvery},
				}},
			}},
		},
	}
	api := b.Client().FlowcontrolV1()
	if _, err := api.PriorityLevelConfigurations().Create(ctx, level, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := api.FlowSchemas().Create(ctx, schema, metav1.CreateOptions{}); err != nil {
		return err
	}
	// The API server takes it in by itself, and says so in the schema's status.
	deadline := time.Now().Add(time.Minute)
	for {
		got, err := api.FlowSchemas().Get(ctx, throttled, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range got.Status.Conditions {
			if c.Type == flowcontrolv1.FlowSchemaConditionDangling && c.Status == flowcontrolv1.ConditionFalse {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the API server does not take in the flow schema: %+v", got.Status)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
