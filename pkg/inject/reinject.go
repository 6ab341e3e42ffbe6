package inject

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strconv"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	k8sjson "k8s.io/apimachinery/pkg/util/json"
)

// Reinjected is one object with a new sidecar.
type Reinjected struct {
	Before  *unstructured.Unstructured // as it was given
	After   *unstructured.Unstructured // with the new sidecar; nil where Err is set
	Removed []Injection                // what Uninject took out; empty for an object that had none
	Added   []Injection                // what istioctl put in
	Notes   []Note
	Err     error // this object could not be done; it names the object. Others go on

	applied *unstructured.Unstructured // the manifest last applied, where it changes
}

// Reinject takes the old sidecar out of every object and has istioctl put a new
// one in: one process for all of them. Only pod templates change, and the
// manifest in last-applied-configuration where that one carries a sidecar too, so
// that the user's next `kubectl apply` finds what it expects. Fields that
// istioctl does not know survive.
//
// An object that istioctl refuses has its error in its own entry; the returned
// error is about all of them (istioctl absent, its settings broken, a timeout).
// The order is that of the objects.
func Reinject(ctx context.Context, istioctl *Istioctl, settings Settings, objects []*unstructured.Unstructured) ([]Reinjected, error) {
	out := make([]Reinjected, len(objects))
	prepared := make([][]*job, len(objects))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, obj := range objects {
		out[i] = Reinjected{Before: obj, Removed: []Injection{}, Added: []Injection{}, Notes: []Note{}}
		group.Go(func() error {
			prepared[i], out[i].Err = out[i].prepare()
			return nil
		})
	}
	_ = group.Wait() // each bears its own error
	var jobs, alike []*job
	for i, own := range prepared {
		for _, j := range own {
			j.of = i
			if j.like != nil {
				alike = append(alike, j)
			} else {
				jobs = append(jobs, j)
			}
		}
	}
	for n, j := range jobs {
		j.key = "istio-upgrade-" + strconv.Itoa(n)
	}
	in := &injector{istioctl: istioctl, settings: settings}
	if !settings.Webhook {
		in.config = parseConfig(settings.InjectConfig)
	}
	if err := in.run(ctx, jobs); err != nil {
		return nil, err
	}
	for _, j := range alike {
		if j.err = j.like.err; j.err == nil {
			j.write(j.like.plain, j.like.injected, in.config)
		}
	}
	for _, j := range append(jobs, alike...) {
		if j.err != nil && out[j.of].Err == nil {
			out[j.of].Err = fmt.Errorf("%s: %w", objectName(out[j.of].Before.Object), j.err)
		}
	}
	for i := range out {
		out[i].finish()
	}
	return out, nil
}

// job is one pod template to be injected.
type job struct {
	of       int               // index of its object
	old      map[string]string // environment of the proxy that was taken out; nil where there was none
	key      string
	template podTemplate // in a copy, without a sidecar; the result is written into it
	// like is the job of another template that says the same, whose injection is
	// this one's too; nil where istioctl is to be asked.
	like            *job
	plain, injected podTemplate // istioctl's renderings, without and with a sidecar
	err             error
}

// prepare makes After an uninjected copy and lists the templates in it.
func (r *Reinjected) prepare() ([]*job, error) {
	clean, result, err := Uninject(r.Before)
	if err != nil {
		return nil, err
	}
	if isList(clean.Object) {
		return nil, fmt.Errorf("%s: give the items of a List one by one", objectName(clean.Object))
	}
	if status, has := r.Before.Object["status"]; has {
		clean.Object["status"] = status // not ours to tidy here
	}
	r.After, r.Removed, r.Notes = clean, result.Removed, result.Notes
	templates := podTemplates(clean.Object)
	if len(templates) == 0 {
		return nil, fmt.Errorf("%s has no pod template to inject", objectName(clean.Object))
	}
	for _, t := range templates {
		if len(r.Removed) > 0 && (t.annotations()[injectKey] == "false" || t.labels()[injectKey] == "false") {
			r.Notes = append(r.Notes, Note{objectName(clean.Object), t.field(injectKey), "is false, which keeps the webhook away and stays; the sidecar injected by hand is renewed"})
		}
	}
	live := len(templates)
	if applied, ok := r.lastApplied(); ok {
		templates = append(templates, podTemplates(applied.Object)...)
		r.applied = applied
	}
	jobs := make([]*job, 0, len(templates))
	for _, t := range templates {
		j := &job{template: t}
		if len(r.Removed) > 0 {
			j.old = oldEnv(r.Before, t.path)
		}
		if at := len(jobs) - live; at >= 0 && at < live && saysTheSame(t, jobs[at].template) {
			j.like = jobs[at]
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// oldEnv is the environment of the proxy that stood in the template at path.
func oldEnv(before *unstructured.Unstructured, path string) map[string]string {
	for _, t := range podTemplates(before.Object) {
		if t.path == path {
			return proxyEnv(t)
		}
	}
	return map[string]string{}
}

// lastApplied reads the manifest that kubectl applied last, uninjected, where it
// carries a sidecar. One without stays as it is: it is what the user applies.
func (r *Reinjected) lastApplied() (*unstructured.Unstructured, bool) {
	value := r.Before.GetAnnotations()[lastApplied]
	var obj map[string]any
	if value == "" || k8sjson.Unmarshal([]byte(value), &obj) != nil {
		return nil, false
	}
	clean, result, err := Uninject(&unstructured.Unstructured{Object: obj})
	if err != nil || !result.Changed {
		return nil, false
	}
	if status, has := obj["status"]; has { // kube-inject writes an empty one, and will again
		clean.Object["status"] = status
	}
	return clean, true
}

// finish writes last-applied and says what was added.
func (r *Reinjected) finish() {
	if r.Err != nil {
		r.After = nil
		return
	}
	if r.applied != nil {
		raw, err := json.Marshal(r.applied.Object)
		if err != nil {
			r.Err = fmt.Errorf("%s: cannot write %s: %w", objectName(r.Before.Object), lastApplied, err)
			r.After = nil
			return
		}
		annotations := r.After.GetAnnotations()
		annotations[lastApplied] = string(raw) + "\n"
		r.After.SetAnnotations(annotations)
	}
	for _, t := range podTemplates(r.After.Object) {
		if n := len(proxiesOf(t)); n > 1 {
			r.Err = fmt.Errorf("%s would have %d containers %s in %s: an older injection is left in it; take it out by hand", objectName(r.Before.Object), n, proxyContainer, t.field("spec"))
			r.After, r.Added = nil, []Injection{}
			return
		}
		if injection, _, found, err := detect(t); err == nil && found {
			r.Added = append(r.Added, injection)
		}
	}
}

// injector runs jobs through istioctl.
type injector struct {
	istioctl *Istioctl
	settings Settings
	config   injectConfig
}

// run injects all jobs in one process. Where istioctl refuses, a workload that
// cannot be at fault is tried: if that fails too, the settings are broken and the
// error is everyone's; otherwise halves are tried until the refused one is found.
func (in *injector) run(ctx context.Context, jobs []*job) error {
	err := in.attempt(ctx, jobs)
	if !refusal(err) {
		return err
	}
	if in.attempt(ctx, []*job{controlJob()}) != nil {
		return err
	}
	return in.bisect(ctx, jobs, err)
}

func (in *injector) bisect(ctx context.Context, jobs []*job, err error) error {
	if len(jobs) == 1 {
		jobs[0].err = err
		return nil
	}
	for _, half := range [][]*job{jobs[:len(jobs)/2], jobs[len(jobs)/2:]} {
		err := in.attempt(ctx, half)
		if refusal(err) {
			err = in.bisect(ctx, half, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refusal: istioctl itself said no, or gave back something else than it was asked
// for; a timeout or a cancelled run is none.
func refusal(err error) bool {
	var timeout *TimeoutError
	return err != nil && !errors.As(err, &timeout) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

func controlJob() *job {
	template := map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "control", "image": "control"}}}}
	owner := wrap("apps/v1", "Deployment", map[string]any{"name": "control"}, "template", template)
	return &job{key: "istio-upgrade-control", template: podTemplates(owner.Object)[0]}
}

func (in *injector) attempt(ctx context.Context, jobs []*job) error {
	objects := make([]*unstructured.Unstructured, 0, 2*len(jobs))
	carriers := make([]carrier, len(jobs))
	for i, j := range jobs {
		carriers[i] = newCarrier(j.template, j.key, in.config, j.old)
		objects = append(objects, carriers[i].object, carriers[i].untouched(j.key+"-untouched"))
	}
	results, err := in.istioctl.KubeInject(ctx, in.settings, objects)
	if err != nil {
		return err
	}
	for i, j := range jobs {
		j.err = j.apply(carriers[i], results[2*i], results[2*i+1], in)
	}
	return nil
}

// apply writes istioctl's change into the job's template: result is what it made
// of the carrier, untouched what it gave back of one that it was not to inject.
func (j *job) apply(c carrier, result, untouched *unstructured.Unstructured, in *injector) error {
	if _, found := Injected(result); !found {
		return errors.New("istioctl kube-inject gave it back without a sidecar" + skipReason(j.template))
	}
	changed := podTemplates(result.Object)
	if len(changed) != 1 {
		return errors.New("istioctl kube-inject gave it back without its pod template")
	}
	plain, err := rendering(untouched)
	if err != nil {
		return err
	}
	c.complete(changed[0], j.template, in.settings)
	j.plain, j.injected = plain, changed[0]
	j.write(plain, changed[0], in.config)
	return nil
}

// write takes over what istioctl made of plain.
func (j *job) write(plain, injected podTemplate, config injectConfig) {
	own := j.template
	spec, _ := graft(own.spec, plain.spec, injected.spec).(map[string]any)
	clear(own.spec)
	maps.Copy(own.spec, spec)
	annotations, labels := injected.annotations(), injected.labels()
	restoreMeta(annotations, labels, own, config)
	own.setMeta("annotations", annotations)
	own.setMeta("labels", labels)
}

// rendering is istioctl's own rendering of the template without a sidecar. To 1.7
// kube-inject injects whatever the pod asks; then its sidecar is taken out again.
func rendering(untouched *unstructured.Unstructured) (podTemplate, error) {
	base, _, err := Uninject(untouched)
	if err != nil {
		return podTemplate{}, err
	}
	templates := podTemplates(base.Object)
	if len(templates) != 1 {
		return podTemplate{}, errors.New("istioctl kube-inject gave it back without its pod template")
	}
	return templates[0], nil
}

// skipReason says why kube-inject passes a pod over (injectRequired in
// istio/istio:pkg/kube/inject/inject.go).
func skipReason(t podTemplate) string {
	if host, _ := t.spec["hostNetwork"].(bool); host {
		return ": its pods use the host's network"
	}
	for _, values := range []map[string]string{t.labels(), t.annotations()} {
		if values[injectKey] == "false" {
			return ": " + injectKey + " is false"
		}
	}
	namespace := (&unstructured.Unstructured{Object: t.owner}).GetNamespace()
	switch namespace {
	case "kube-system", "kube-public", "kube-node-lease", "local-path-storage":
		return ": no injector serves " + namespace
	}
	return ""
}
