package helm

import (
	"context"
	"fmt"
	"os"
	"strings"

	"helm.sh/helm/v4/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	release "helm.sh/helm/v4/pkg/release/v1"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
)

// storageResource says what Helm keeps its records in, by HELM_DRIVER.
func storageResource() (schema.GroupVersionResource, error) {
	switch name := os.Getenv("HELM_DRIVER"); name {
	case "", "secret", "secrets":
		return corev1.SchemeGroupVersion.WithResource("secrets"), nil
	case "configmap", "configmaps":
		return corev1.SchemeGroupVersion.WithResource("configmaps"), nil
	default:
		return schema.GroupVersionResource{}, gate.BadInputf("HELM_DRIVER is %q; releases can be read from secrets and configmaps only", name)
	}
}

// read gets one record and decodes it.
func read(ctx context.Context, c *cluster.Cluster, namespace, record string) (*release.Release, error) {
	resource, err := storageResource()
	if err != nil {
		return nil, err
	}
	var store driver.Driver
	if resource.Resource == "secrets" {
		store = driver.NewSecrets(secrets{c.Kube.CoreV1().Secrets(namespace), ctx})
	} else {
		store = driver.NewConfigMaps(configMaps{c.Kube.CoreV1().ConfigMaps(namespace), ctx})
	}
	stored, err := store.Get(record)
	if err != nil {
		return nil, fmt.Errorf("read Helm's record %s in namespace %s: %w", record, namespace, err)
	}
	r, ok := stored.(*release.Release)
	if !ok {
		return nil, fmt.Errorf("read Helm's record %s in namespace %s: unknown form %T", record, namespace, stored)
	}
	return r, nil
}

// secrets gives Helm's storage our context, which it does not take.
type secrets struct {
	typedcorev1.SecretInterface
	ctx context.Context
}

// Get reads a secret under our context.
func (s secrets) Get(_ context.Context, name string, options metav1.GetOptions) (*corev1.Secret, error) {
	return s.SecretInterface.Get(s.ctx, name, options) //nolint:contextcheck // Helm makes its own
}

type configMaps struct {
	typedcorev1.ConfigMapInterface
	ctx context.Context
}

// Get reads a ConfigMap under our context.
func (m configMaps) Get(_ context.Context, name string, options metav1.GetOptions) (*corev1.ConfigMap, error) {
	return m.ConfigMapInterface.Get(m.ctx, name, options) //nolint:contextcheck // Helm makes its own
}

// StorageResource is the API resource in which Helm keeps its records (HELM_DRIVER).
func StorageResource() string {
	if strings.HasPrefix(os.Getenv("HELM_DRIVER"), "configmap") {
		return "configmaps"
	}
	return "secrets"
}
