package crds

import (
	"context"
	"fmt"
	"slices"

	"github.com/Masterminds/semver/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/gate"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/helm"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/mesh"
)

// initEnds is the first version whose definitions come with the chart base
// instead of istio-init.
var initEnds = semver.MustParse("1.6.0-0")

// NewPlan reads the cluster and the chart, and says what the step would do. It
// writes nothing. A tag that is no version, a chart that cannot be had, a
// cluster without Istio and missing rights are errors (*gate.BadInput the
// first three); what stands in the way of a plan that can be made is among its
// Refusals.
func NewPlan(ctx context.Context, c *cluster.Cluster, source helm.Source, o Options) (*Plan, error) {
	version, ok := mesh.TagVersion(o.Tag)
	if !ok {
		return nil, gate.BadInputf("the tag %q is no version; give one such as 1.31.0 or 1.31.0-distroless", o.Tag)
	}
	live, err := mesh.ReadCRDs(ctx, c)
	if err != nil {
		return nil, err
	}
	release, broken, err := findRelease(ctx, c, live, o)
	if err != nil {
		return nil, err
	}
	p := &Plan{
		Cluster: c.Identity(), Tag: o.Tag, Source: source.String(),
		CRDs: []Change{}, Objects: []Count{}, Invalid: []InvalidObject{}, LeftoverJobs: []string{},
		Refusals: []gate.Refusal{}, Warnings: broken,
		work: work{release: release},
	}
	if err := p.load(ctx, c, source, version, live, o); err != nil {
		return nil, err
	}
	p.CRDs = compare(p.work.targets, live, p.work.chart.Component == helm.Base && !o.External)
	if o.External {
		p.Action, p.Release, p.Refusals = Verify, nil, []gate.Refusal{}
		for _, reason := range olderThan(live, p.work.targets) {
			p.Refusals = append(p.Refusals, gate.Refusal{
				Reason: fmt.Sprintf("%s, which Istio %s brings", reason, p.Brings()), Cure: "update the definitions by the pipeline that brings them",
			})
		}
		return p, p.examine(ctx, c, live)
	}
	if o.Diff {
		if err := p.addDiffs(live); err != nil {
			return nil, err
		}
	}
	p.judgeDirection(live)
	p.judgeOwners(ctx, c, live, o.AdoptFrom)
	p.judgeStored(live)
	if !p.changes() {
		p.Action = Nothing
		if p.Release != nil {
			p.Release.Action = Nothing
		}
		p.Refusals = []gate.Refusal{}
		return p, p.examine(ctx, c, live)
	}
	if p.Backup, err = o.backupFolder(c); err != nil {
		return nil, err
	}
	if err := p.examine(ctx, c, live); err != nil {
		return nil, err
	}
	p.judgeInvalid()
	return p, p.checkRights(ctx, c)
}

// findRelease gives the release that brings the definitions, nil for none. For
// definitions that come from elsewhere, not being allowed to read releases is
// no error. Broken says which releases could not be read.
func findRelease(ctx context.Context, c *cluster.Cluster, live []mesh.CRD, o Options) (release *helm.Release, broken []string, err error) {
	broken = []string{}
	releases, undecodable, err := helm.ReadReleases(ctx, c, "")
	if apierrors.IsForbidden(err) {
		releases, undecodable, err = helm.ReadReleases(ctx, c, o.IstioNamespace)
		if o.External && apierrors.IsForbidden(err) {
			return nil, broken, nil
		}
	}
	if err != nil {
		return nil, nil, err
	}
	for _, u := range undecodable {
		broken = append(broken, u.String())
	}
	release, err = chooseRelease(releases, live, o.IstioNamespace)
	if err != nil || release != nil || len(live) > 0 {
		return release, broken, err
	}
	planes, err := mesh.ReadControlPlanes(ctx, c, o.IstioNamespace)
	if err != nil {
		return nil, nil, err
	}
	if len(planes) == 0 && len(releases) == 0 {
		return nil, nil, gate.BadInputf("%s has no Istio: no CustomResourceDefinition of it, no control plane and no Helm release; install it first", c.Server)
	}
	return nil, broken, nil
}

// load gets the chart, renders it, and decides what is to be done with it.
func (p *Plan) load(ctx context.Context, c *cluster.Cluster, source helm.Source, version *semver.Version, live []mesh.CRD, o Options) error {
	w := &p.work
	component := helm.Base
	if w.release != nil {
		component = w.release.Component
	} else if version.LessThan(initEnds) {
		component = helm.IstioInit
	}
	if component == helm.IstioInit && !version.LessThan(initEnds) {
		return gate.BadInputf("%s is of the chart istio-init, which ends with Istio 1.5, and Istio %s has the chart base: save the custom resources, see by helm get manifest and helm get hooks that no CustomResourceDefinition is deleted with it, uninstall it, and run this again", w.release, o.Tag)
	}
	var err error
	if w.chart, err = source.Load(ctx, component, o.Tag); err != nil {
		return err
	}
	p.Warnings = append(p.Warnings, w.chart.OtherMinorWarning(version)...)
	caps, err := helm.Capabilities(c)
	if err != nil {
		return err
	}
	as := helm.Release{Name: legacyRelease, Namespace: o.IstioNamespace}
	w.values = map[string]any{}
	if w.release != nil {
		if w.base, err = goesFrom(ctx, c, *w.release); err != nil {
			return err
		}
		as, w.values = *w.release, w.base.Values
	} else if component == helm.IstioInit {
		if w.former, err = formerRelease(ctx, c, o.IstioNamespace); err != nil {
			return err
		}
		if w.former != nil {
			as, w.values = *w.former, w.former.Values
			p.Warnings = append(p.Warnings, fmt.Sprintf("a run deleted %s at %s and was stopped before it had installed the new one; this one goes on from there, with its values",
				w.former, w.former.Updated.Local().Format("2006-01-02 15:04 MST")))
		}
	}
	if component == helm.IstioInit {
		w.values = helm.Reuse(w.values, map[string]any{"global": map[string]any{"tag": mesh.BaseTag(o.Tag)}})
	}
	rendered, err := helm.Render(ctx, c, w.chart, w.values, as, w.release != nil && component == helm.Base, caps)
	if err != nil {
		return err
	}
	w.objects = rendered.Objects
	if w.targets, w.inTemplates, err = chartCRDs(w.chart, rendered, w.release == nil || o.External); err != nil {
		return err
	}
	if err := servedBy(c, w.targets); err != nil {
		return err
	}
	switch {
	case component == helm.Base && w.release == nil:
		p.Action, w.manager = ApplyOnly, o.fieldManager()
		markVersion(w.targets, labelVersion(w.chart, version))
		return nil
	case component == helm.Base:
		p.Action, w.manager = Upgrade, helmManager
	case w.release == nil:
		p.Action = Install
	default:
		p.Action = Replace
	}
	p.Release = &ReleaseChange{Name: as.Name, Namespace: as.Namespace, ChartTo: w.chart.String(), Action: p.Action}
	var stored []*unstructured.Unstructured
	if w.release != nil {
		p.Release.ChartFrom = w.release.ChartName + "-" + w.release.ChartVersion
		if stored, err = helm.ParseManifest(w.base.Manifest); err != nil {
			return fmt.Errorf("read the manifest of revision %d of %s: %w", w.base.Revision, w.release, err)
		}
		w.stored = stored
		p.Refusals = append(p.Refusals, releaseRefusals(w.release)...)
		if stopped(w.release) {
			p.Warnings = append(p.Warnings, fmt.Sprintf("a run on %s was stopped at %s; this one goes on from there", w.release, w.release.Updated.Local().Format("2006-01-02 15:04 MST")))
		}
	}
	if w.same, err = w.sameRelease(ctx, c, stored, rendered, as, caps); err != nil {
		return err
	}
	if component == helm.IstioInit {
		if p.Action == Replace { // one definition that has drifted is enough for it
			p.Refusals = append(p.Refusals, removalRefusals(w.release, stored, live)...)
		}
		w.jobs = jobNames(rendered.Objects)
		p.LeftoverJobs, err = leftoverJobs(ctx, c, as.Namespace, w.jobs, jobNames(stored))
		return err
	}
	for _, name := range mesh.Vanishing(stored, rendered.Objects, live) {
		p.Refusals = append(p.Refusals, gate.Refusal{
			Object: "customresourcedefinition/" + name,
			Reason: fmt.Sprintf("upgrading %s would delete it with all its objects: the new chart does not have it, and it has no keep policy", w.release),
			Cure:   fmt.Sprintf("kubectl annotate --overwrite customresourcedefinition %s %s=%s", name, mesh.KeepAnnotation, mesh.KeepValue),
		})
	}
	return nil
}

// changes says whether there is anything to do.
func (p *Plan) changes() bool {
	if slices.ContainsFunc(p.CRDs, func(c Change) bool { return c.writes() }) {
		return true
	}
	return p.Release != nil && !p.work.same
}

// writes says whether the definition is written.
func (c Change) writes() bool { return c.Action != Unchanged && c.Action != Orphaned }

// judgeStored refuses a target that no longer has a version in which objects
// may still be stored: the API server would refuse it half-way.
func (p *Plan) judgeStored(live []mesh.CRD) {
	for _, t := range p.work.targets {
		at := slices.IndexFunc(live, func(c mesh.CRD) bool { return c.Name == t.Name })
		if at < 0 {
			continue
		}
		for _, version := range without(live[at].StoredVersions, versionNames(t.Versions)) {
			p.Refusals = append(p.Refusals, gate.Refusal{
				Object: "customresourcedefinition/" + t.Name,
				Reason: fmt.Sprintf("its status.storedVersions still lists %s, which Istio %s no longer has", version, p.Brings()),
				Cure:   fmt.Sprintf("write its objects anew (kubectl get %s -A -o yaml | kubectl replace -f -), then take %s out of status.storedVersions", t.Name, version),
			})
		}
	}
}
