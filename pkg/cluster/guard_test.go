package cluster

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/kubernetes"
)

// What a run that may not write sends: reads and leases, by our clients and by
// those that the Helm SDK makes of the getter.
func TestGuard(t *testing.T) {
	sent := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent[r.Method]++
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"ConfigMap"}`))
	}))
	defer server.Close()
	t.Setenv("KUBECONFIG", "")
	flags := genericclioptions.NewConfigFlags(false)
	flags.APIServer = &server.URL
	c, err := Connect(flags)
	if err != nil {
		t.Fatal(err)
	}
	own, err := c.Getter.ToRESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	helms, err := kubernetes.NewForConfig(own)
	if err != nil {
		t.Fatal(err)
	}
	unheld := errors.New("not renewed")
	var answer error
	c.Guard(func(context.Context) error { return answer })
	for _, held := range []bool{true, false} {
		clear(sent)
		if answer = unheld; held {
			answer = nil
		}
		for name, client := range map[string]kubernetes.Interface{"ours": c.Kube, "Helm's": helms} {
			_, err := client.CoreV1().ConfigMaps("shop").Create(t.Context(), &corev1.ConfigMap{}, metav1.CreateOptions{})
			if held == errors.Is(err, unheld) {
				t.Errorf("%s, held %v: %v", name, held, err)
			}
			_, _ = client.CoreV1().ConfigMaps("shop").Get(t.Context(), "a", metav1.GetOptions{})
			_ = client.CoordinationV1().Leases("shop").Delete(t.Context(), "a", metav1.DeleteOptions{})
		}
		want := 0
		if held {
			want = 2
		}
		if sent[http.MethodPost] != want || sent[http.MethodGet] != 2 || sent[http.MethodDelete] != 2 {
			t.Errorf("held %v: sent %v", held, sent)
		}
	}
}
