package sidecars

import (
	"errors"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
)

func TestServerSideManager(t *testing.T) {
	for _, tc := range []struct {
		serverSide  bool
		given, want string
	}{
		{false, DefaultFieldManager, DefaultFieldManager},
		{true, DefaultFieldManager, "kubectl"},
		{true, "team-shop", "team-shop"},
	} {
		if got := newApplier(&Options{FieldManager: tc.given}, Files{ServerSide: tc.serverSide}); got.manager != tc.want {
			t.Errorf("%+v: %s", tc, got.manager)
		}
	}
}

func TestTakenOver(t *testing.T) {
	o := object(t, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, managedFields: [
{manager: kubectl-client-side-apply, operation: Update, fieldsV1: {"f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/last-applied-configuration": {}}}}},
{manager: helm, operation: Update, fieldsV1: {"f:metadata": {"f:labels": {}}}},
{manager: other, operation: Apply, fieldsV1: {"f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/last-applied-configuration": {}}}}}]}}`)
	got := sets.List(takenOver(o))
	if want := []string{DefaultFieldManager, "kubectl-client-side-apply"}; !slices.Equal(got, want) {
		t.Errorf("takes over %v, want %v", got, want)
	}
}

func TestOnlyWith(t *testing.T) {
	conflict := func(managers ...string) error {
		err := apierrors.NewApplyConflict(nil, "Apply failed")
		for _, m := range managers {
			err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
				Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "` + m + `" using apps/v1`,
			})
		}
		return err
	}
	ours := sets.New("istio-upgrade", "kubectl-client-side-apply")
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("no"), false},
		{conflict(), false},
		{conflict("istio-upgrade"), true},
		{conflict("istio-upgrade", "kubectl-client-side-apply"), true},
		{conflict("istio-upgrade", "argocd-controller"), false},
	} {
		if got := onlyWith(tc.err, ours); got != tc.want {
			t.Errorf("%v: %v", tc.err, got)
		}
	}
}

func TestTemplateDiff(t *testing.T) {
	before := object(t, injectedWeb)
	after := before.DeepCopy()
	containers := after.Object["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["containers"].([]any)
	containers[1].(map[string]any)["image"] = "docker.io/istio/proxyv2:1.31.0"
	text, err := templateDiff(before, after)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"shop/deployment/web", "\n-    image: docker.io/istio/proxyv2:1.30.2\n", "\n+    image: docker.io/istio/proxyv2:1.31.0\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the diff lacks %q:\n%s", want, text)
		}
	}
	if text, err = templateDiff(before, before); err != nil || text != "" {
		t.Errorf("without a change: %q, %v", text, err)
	}
}
