package lab

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

//go:embed stages
var stageFiles embed.FS

var (
	crdResource   = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	stageResource = schema.GroupVersionResource{Group: "kwok.x-k8s.io", Version: "v1alpha1", Resource: "stages"}
)

// makeStages tells kwok, by objects in the cluster, what becomes of nodes and pods.
func (c *Cluster) makeStages(ctx context.Context) error {
	crd, err := embedded("crd.yaml")
	if err != nil {
		return err
	}
	if _, err := c.dynamic.Resource(crdResource).Create(ctx, crd, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating kwok's CRD: %w", err)
	}
	if err := c.await(ctx, "kwok's CRD", time.Minute, func(ctx context.Context) error {
		_, err := c.dynamic.Resource(stageResource).List(ctx, metav1.ListOptions{})
		return err
	}); err != nil {
		return err
	}
	for _, name := range []string{"node-ready.yaml", "pod-ready.yaml", "pod-complete.yaml", "pod-delete.yaml"} {
		stage, err := embedded(name)
		if err != nil {
			return err
		}
		if err := c.createStage(ctx, stage); err != nil {
			return err
		}
	}
	for _, mode := range failModes {
		stage, err := failStage("fail-"+string(mode), mode, annotatedToFail(mode))
		if err != nil {
			return err
		}
		if err := c.createStage(ctx, stage); err != nil {
			return err
		}
	}
	if c.opts.PodStart != 0 {
		return c.SetPodStart(ctx, c.opts.PodStart)
	}
	return nil
}

func embedded(name string) (*unstructured.Unstructured, error) {
	b, err := stageFiles.ReadFile("stages/" + name)
	if err != nil {
		return nil, fmt.Errorf("reading a stage: %w", err)
	}
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(b, &u.Object); err != nil {
		return nil, fmt.Errorf("reading the stage %s: %w", name, err)
	}
	return u, nil
}

func (c *Cluster) createStage(ctx context.Context, stage *unstructured.Unstructured) error {
	if _, err := c.dynamic.Resource(stageResource).Create(ctx, stage, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating the stage %s: %w", stage.GetName(), err)
	}
	return nil
}

// SetPodStart sets how long pods take from being scheduled to being ready, from now on. A pod's annotation
// lab/start-ms says it for that pod alone.
func (c *Cluster) SetPodStart(ctx context.Context, d time.Duration) error {
	return c.setDelay(ctx, "pod-ready", d)
}

// SetPodStop sets how long a pod that is deleted still stands there, terminating. A pod's annotation lab/stop-ms
// says it for that pod alone.
func (c *Cluster) SetPodStop(ctx context.Context, d time.Duration) error {
	return c.setDelay(ctx, "pod-delete", d)
}

func (c *Cluster) setDelay(ctx context.Context, stage string, d time.Duration) error {
	patch := `{"spec":{"delay":{"durationMilliseconds":` + strconv.FormatInt(d.Milliseconds(), 10) + `}}}`
	if _, err := c.dynamic.Resource(stageResource).Patch(ctx, stage, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("setting the delay of the stage %s: %w", stage, err)
	}
	return nil
}

// jq writes one match expression of a stage: the query's answer is "true".
func jq(query string) map[string]any {
	return map[string]any{"jq": map[string]any{"key": query, "operator": "In", "values": []any{"true"}}}
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return `""` // a string always has a JSON form
	}
	return string(b)
}
