package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/progress/live"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

// fileFlags are the flags for original manifests instead of live workloads.
type fileFlags struct {
	files      []string
	recursive  bool
	serverSide bool
}

func (f *fileFlags) add(flags *pflag.FlagSet) {
	flags.StringArrayVarP(&f.files, "filename", "f", nil, "File, directory or URL with manifests to inject and apply, or - for stdin (can be repeated)")
	flags.BoolVarP(&f.recursive, "recursive", "R", false, "Also read the directories below those given with -f")
	flags.BoolVar(&f.serverSide, "server-side", false, "Apply the manifests of -f as kubectl apply --server-side does")
}

func (o *sidecarsOptions) completeFiles(args []string) error {
	switch {
	case len(o.files) == 0 && (o.recursive || o.serverSide):
		return usagef("-R and --server-side go with -f")
	case len(o.files) == 0:
		return nil
	case o.all:
		return usagef("-f and -A exclude each other")
	case o.selector != "":
		return usagef("-f and -l exclude each other")
	case len(args) > 0:
		return usagef("-f and TYPE/NAME exclude each other")
	case o.byHand.toWebhook:
		return usagef("-f and --to-webhook exclude each other: apply the output of uninject instead")
	}
	return nil
}

// rendering says whether the injected manifests themselves are asked for.
func (o *sidecarsOptions) rendering() bool {
	return o.dryRun == dryRunClient && (o.output.value == "yaml" || o.output.value == "json")
}

func (o *sidecarsOptions) runFiles(ctx context.Context) error {
	sources, err := inject.Sources(o.files, o.recursive, o.In, &http.Client{Timeout: downloadTimeout})
	if err != nil {
		return err
	}
	if o.rendering() && len(o.byHand.given.Missing()) == 0 {
		manifests, err := sidecars.RenderManifests(ctx, o.byHand.options(o.session), o.force, sources)
		if err != nil {
			return err
		}
		return o.printManifests(manifests)
	}
	c, err := o.connect()
	if err != nil {
		return o.offline(err)
	}
	options := o.workloadFlags.options(o.session, c, &o.changeFlags, nil)
	files := sidecars.Files{Sources: sources, ServerSide: o.serverSide, Namespace: *o.config.Namespace}
	if o.rendering() {
		manifests, err := sidecars.InjectFiles(ctx, c, options, files)
		if err = o.mark(err); errors.As(err, new(*cluster.Unreachable)) {
			return o.offline(err)
		}
		if err != nil {
			return err
		}
		return o.printManifests(manifests)
	}
	read := o.reading()
	plan, err := sidecars.NewFilesPlan(ctx, c, options, files)
	read()
	if err != nil {
		return err
	}
	return o.changeFlags.run(ctx, o.session, c.Identity(), filesAction(c, plan, files, options))
}

// offline adds to an error of the connection which files are missing for doing
// without a cluster, where manifests are only printed.
func (o *sidecarsOptions) offline(err error) error {
	if !o.rendering() {
		return err
	}
	return fmt.Errorf("%w; to inject without a cluster give %s as well", err, strings.Join(o.byHand.given.Missing(), ", "))
}

func filesAction(c *cluster.Cluster, plan *sidecars.FilesPlan, files sidecars.Files, options sidecars.Options) action {
	n := plan.Applying()
	a := action{
		locks: fileLocks(plan), cluster: c,
		step: "sidecars", plan: plan, refusals: plan.Refusals,
		empty: n == 0, nothing: "Nothing to apply: everything is as the files say.",
		prompt: fmt.Sprintf("Apply %s?", plural(n, "object")),
		show:   filesTable(plan),
		apply: func(ctx context.Context, emit progress.Emitter) (any, error) {
			result, err := sidecars.ApplyFiles(ctx, c, plan, files, options, emit)
			if result == nil {
				return nil, err
			}
			return result, err
		},
	}
	left := []sidecars.FileObject{}
	for i := range plan.Objects {
		object := &plan.Objects[i]
		switch {
		case object.Held != "":
			left = append(left, *object)
		case object.Action != sidecars.Unchanged:
			a.names = append(a.names, object.String())
		}
	}
	a.left = left
	return a
}

func (o *sidecarsOptions) printManifests(manifests []sidecars.Manifest) error {
	for _, m := range manifests {
		for _, note := range m.Notes {
			fmt.Fprintln(o.ErrOut, "note: "+escape(note.String()))
		}
	}
	if o.output.value == "json" {
		items := make([]any, len(manifests))
		for i := range manifests {
			items[i] = manifests[i].Object.Object
		}
		raw, err := json.MarshalIndent(map[string]any{"apiVersion": "v1", "kind": "List", "items": items}, "", "    ")
		if err == nil {
			_, err = fmt.Fprintln(o.Out, string(raw))
		}
		return err
	}
	for _, m := range manifests {
		text, err := yaml.Marshal(m.Object.Object)
		if err == nil {
			_, err = fmt.Fprintf(o.Out, "---\n%s", text)
		}
		if err != nil {
			return fmt.Errorf("write the manifests: %w", err)
		}
	}
	return nil
}

func filesTable(p *sidecars.FilesPlan) func(io.Writer, bool) error {
	return func(w io.Writer, wide bool) error {
		fmt.Fprintln(w, planHead("sidecars", p.Cluster, p.Scope))
		fmt.Fprintln(w, fileCounts(p))
		objects := newGrouped("NAMESPACE", "OBJECT", "ACTION", "PROXY", "+FROM")
		for i := range p.Objects {
			f := &p.Objects[i]
			heading, style := fileHeading(f)
			objects.row(heading, style, f.Namespace, f.String(), string(f.Action), arrow(formName(f.From), formName(f.To)), f.Source)
		}
		if err := objects.printUnder(w, "Objects of the files:", wide); err != nil {
			return err
		}
		for _, f := range p.Objects {
			printDiff(w, f.Diff)
		}
		if p.Istioctl != nil {
			fmt.Fprintln(w, escape(fmt.Sprintf("istioctl: %s (%s)", p.Istioctl.Path, p.Istioctl.Version)))
		}
		if p.Applying() > 0 {
			fmt.Fprintln(w, escape("Objects that change are kept as they are now in "+p.BackupDir))
		}
		for _, text := range p.Warnings {
			fmt.Fprintln(w, "‼ "+escape(text))
		}
		return nil
	}
}

// fileCounts sums up what becomes of the objects, and what that disturbs.
func fileCounts(p *sidecars.FilesPlan) string {
	var order []string
	counts := map[string]int{}
	add := func(word string) {
		if counts[word] == 0 {
			order = append(order, word)
		}
		counts[word]++
	}
	for i := range p.Objects {
		if f := &p.Objects[i]; f.Held != "" {
			add("held")
		} else {
			add(string(f.Action))
		}
	}
	for i := range p.Objects {
		if f := &p.Objects[i]; f.Held == "" && f.Impact != "" && f.Impact != sidecars.NoImpact {
			add(string(f.Impact))
		}
	}
	for i, word := range order {
		order[i] = fmt.Sprintf("%d %s", counts[word], word)
	}
	return fmt.Sprintf("%s: %s", plural(len(p.Objects), "object"), strings.Join(order, ", "))
}

// fileHeading says in words what becomes of an object, and why.
func fileHeading(f *sidecars.FileObject) (string, live.Style) {
	switch {
	case f.Held != "":
		return "held: " + f.Held, live.Warn
	case f.Impact == "" || f.Action == sidecars.Unchanged:
		return strings.TrimSuffix(string(f.Action)+": "+f.Reason, ": "), live.Plain
	case f.Impact == sidecars.NoImpact && f.Reason == "":
		return "no impact: a pod is ready at every moment", live.Good
	}
	return strings.TrimSuffix(string(f.Impact)+": "+f.Reason, ": "), impactStyle(f.Impact)
}

func formName(f *sidecars.ProxyForm) string {
	if f == nil {
		return ""
	}
	return proxyName(*f)
}
