package inject

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// standIn makes this test binary play istioctl; its value is the way in which it
// misbehaves.
const standIn = "ISTIOCTL_STAND_IN"

func TestMain(m *testing.M) {
	if way := os.Getenv(standIn); way != "" {
		log.SetFlags(0)
		playIstioctl(os.Stdout, way, os.Args[1:])
		return
	}
	m.Run()
}

// fakeIstioctl is the stand-in as an Istioctl.
func fakeIstioctl(t *testing.T, way string) *Istioctl {
	t.Helper()
	t.Setenv(standIn, way)
	return &Istioctl{Path: os.Args[0], Timeout: 20 * time.Second}
}

func playIstioctl(out io.Writer, way string, args []string) {
	switch {
	case slices.Contains(args, "version"):
		fmt.Fprintln(out, "client version: 1.31.0")
		return
	case slices.Contains(args, "--help"):
		help := "Flags:\n  -f, --filename string\n      --injectConfigFile string\n      --meshConfigFile string\n      --valuesFile string\n      --revision string\n"
		if way == "no revision flag" {
			help = strings.ReplaceAll(help, "      --revision string\n", "")
		}
		if way == "webhook" {
			help += "      --webhookConfig string\n"
		}
		if way == "no istioctl" {
			help = "usage: something else\n"
		}
		fmt.Fprint(out, help)
		return
	case way == "hang":
		<-time.After(time.Hour)
	case way == "fail":
		log.Fatal("Error: template: inject:1: unexpected }")
	}
	data, err := os.ReadFile(args[slices.Index(args, "--filename")+1])
	if err != nil {
		log.Fatal(err)
	}
	var list struct {
		Items []map[string]any `json:"items"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		log.Fatal(err)
	}
	printInjected(out, way, args, list.Items)
}

func printInjected(to io.Writer, way string, args []string, items []map[string]any) {
	for i, item := range items {
		name, _ := mapAt(item, "metadata")["name"].(string)
		if way == "refuse bad" && name == "bad" {
			log.Fatal("Error: invalid annotation of bad")
		}
		for _, t := range podTemplates(item) {
			forget(t.spec)
			if t.annotations()[injectKey] == "false" || way == "uninjected" && name == "bad" {
				continue
			}
			fakeInjection(t, args)
		}
		items[i] = item
	}
	switch way {
	case "leave out":
		items = items[2:]
	case "extra":
		items = append(items, map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "surprise"}})
	case "twice":
		items = append(items, items[0])
	case "reversed":
		slices.Reverse(items)
	}
	out, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		log.Fatal(err)
	}
	if way == "warnings" {
		fmt.Fprint(to, "WARNING: this is old\n! and: tells you so\n\n")
	}
	if way == "garbage" {
		out = []byte("apiVersion: [\n")
	}
	fmt.Fprint(to, string(out), "---\n")
	if way == "warnings" {
		fmt.Fprint(to, "done, or so\n")
	}
}

// forget drops fields that this istioctl does not know.
func forget(node any) {
	switch node := node.(type) {
	case map[string]any:
		delete(node, "future")
		for _, v := range node {
			forget(v)
		}
	case []any:
		for _, v := range node {
			forget(v)
		}
	}
}

func fakeInjection(t podTemplate, args []string) {
	annotations := t.annotations()
	annotations[statusAnnotation] = status128
	t.setMeta("annotations", annotations)
	proxy := map[string]any{
		"name": proxyContainer, "image": "istio/proxyv2:1.31.0", "args": []any{"proxy", "sidecar"},
		"env": []any{
			map[string]any{"name": "ISTIO_META_MESH_ID", "value": strings.Join(args, " ")},
			map[string]any{"name": "LAST", "value": ""},
		},
	}
	setList(t.spec, "containers", append(listOf(t.spec, "containers"), proxy))
	setList(t.spec, "volumes", append([]map[string]any{{"name": "istio-envoy"}}, listOf(t.spec, "volumes")...))
}
