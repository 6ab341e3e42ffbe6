package inject

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// KubeInject runs one `istioctl kube-inject` over objects, in one List, and
// gives the results in the order of the objects, found by kind, namespace, name
// and uid. A result that is missing, or one that nobody asked for, is an error that
// names the object; whether a result carries a sidecar is the caller's to ask
// (Injected). Lines that istioctl prints on stdout before or after its manifests
// are passed over.
func (i *Istioctl) KubeInject(ctx context.Context, settings Settings, objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	if len(objects) == 0 {
		return []*unstructured.Unstructured{}, nil
	}
	flags, err := i.Flags(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "istio-upgrade-")
	if err != nil {
		return nil, fmt.Errorf("cannot write the manifests for istioctl: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	args, err := settings.arguments(dir, flags)
	if err != nil {
		return nil, err
	}
	manifests := filepath.Join(dir, "manifests.json")
	if err := writeList(manifests, objects); err != nil {
		return nil, fmt.Errorf("cannot write the manifests for istioctl: %w", err)
	}
	args = append([]string{"kube-inject", "--filename", manifests}, append(args, i.KubeFlags...)...)
	if i.Kubeconfig != nil && settings.Webhook {
		path := filepath.Join(dir, "kubeconfig")
		if err := os.WriteFile(path, i.Kubeconfig, 0o600); err != nil {
			return nil, fmt.Errorf("cannot write the kubeconfig for istioctl: %w", err)
		}
		args = append(args, "--kubeconfig", path)
	}
	native := "ENABLE_NATIVE_SIDECARS=false"
	if settings.Native {
		native = "ENABLE_NATIVE_SIDECARS=true"
	}
	out, err := i.run(ctx, []string{native}, args...)
	if err != nil {
		return nil, err
	}
	results, err := readResults(out)
	if err != nil {
		return nil, err
	}
	return match(objects, results)
}

func writeList(path string, objects []*unstructured.Unstructured) error {
	items := make([]any, len(objects))
	for i, obj := range objects {
		items[i] = obj.Object
	}
	data, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// readResults reads the manifests that istioctl printed. Its own begin with
// apiVersion (they are sorted by key); anything else is a warning.
func readResults(out []byte) ([]*unstructured.Unstructured, error) {
	var results []*unstructured.Unstructured
	documents := NewDocuments("istioctl", bytes.NewReader(manifestLines(out)))
	for {
		doc, err := documents.Next()
		if errors.Is(err, io.EOF) {
			return results, nil
		}
		if err != nil {
			return nil, fmt.Errorf("istioctl kube-inject printed what is no manifest: %w", err)
		}
		if doc.Object == nil {
			continue
		}
		items, isList := doc.Object.Object["items"].([]any)
		if !isList {
			results = append(results, doc.Object)
			continue
		}
		for _, item := range items {
			if m, ok := item.(map[string]any); ok {
				results = append(results, &unstructured.Unstructured{Object: m})
			}
		}
	}
}

// manifestLines drops, in each document, the lines before apiVersion, and
// documents without it.
func manifestLines(out []byte) []byte {
	var kept bytes.Buffer
	inside := false
	for line := range bytes.Lines(out) {
		switch {
		case isMark(line, "---"):
			inside = false
			kept.WriteString("---\n")
		case bytes.HasPrefix(line, []byte("apiVersion:")), bytes.HasPrefix(line, []byte("{")):
			inside = true
			kept.Write(line)
		case inside:
			kept.Write(line)
		}
	}
	return kept.Bytes()
}

// identity is what results are put back by. istioctl may leave the API version
// as it was or not, so it does not count.
func identity(obj *unstructured.Unstructured) string {
	return strings.Join([]string{obj.GetKind(), obj.GetNamespace(), obj.GetName(), string(obj.GetUID())}, "/")
}

func match(objects, results []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	byIdentity := map[string]*unstructured.Unstructured{}
	for _, r := range results {
		id := identity(r)
		if byIdentity[id] != nil {
			return nil, fmt.Errorf("istioctl kube-inject gave %s twice", objectName(r.Object))
		}
		byIdentity[id] = r
	}
	matched := make([]*unstructured.Unstructured, len(objects))
	for i, obj := range objects {
		r := byIdentity[identity(obj)]
		if r == nil {
			return nil, fmt.Errorf("istioctl kube-inject left out %s", objectName(obj.Object))
		}
		matched[i] = r
		delete(byIdentity, identity(obj))
	}
	for _, id := range sortedKeys(byIdentity) {
		return nil, fmt.Errorf("istioctl kube-inject gave %s, which it was not asked for", objectName(byIdentity[id].Object))
	}
	return matched, nil
}
