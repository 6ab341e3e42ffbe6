package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/cluster"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/controlplane"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/crds"
	runreport "github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/report"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

// reportPage gathers what --report shows, and writes it in the end.
type reportPage struct {
	*runreport.Recorder
	run  *runreport.Run
	file *os.File
}

// openReport opens the file for writing and leaves what it holds until the new
// page is there. Like a file of events it is for the user's eyes.
func openReport(path string, id cluster.Identity) (*reportPage, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--report: %w", err)
	}
	run := &runreport.Run{
		APIVersion: documentVersion, Version: Version(), Context: id.Context, Server: id.Server, Began: time.Now().UTC(),
	}
	return &reportPage{runreport.NewRecorder(run), run, f}, nil
}

// expect notes what a step's plan says.
func (f *listenFlags) expect(a action) {
	page := f.page
	if page == nil {
		return
	}
	for _, text := range a.warnings {
		page.Note(text)
	}
	switch plan := a.plan.(type) {
	case *sidecars.Plan:
		page.Expect(plannedWorkloads(plan)...)
		page.Left(leftWorkloads(plan)...)
	case *sidecars.FilesPlan:
		page.Expect(plannedFiles(plan)...)
	case *controlplane.Plan:
		page.Change(releaseChanges(a.step, plan.Releases)...)
	case *controlplane.RollbackPlan:
		page.Change(releaseChanges(a.step, plan.Releases)...)
		if plan.Workloads != nil {
			page.Expect(plannedWorkloads(plan.Workloads)...)
			page.Left(leftWorkloads(plan.Workloads)...)
		}
	case *crds.Plan:
		page.Change(definitionChanges(plan)...)
	}
}

func plannedWorkloads(p *sidecars.Plan) []runreport.Workload {
	list := []runreport.Workload{}
	for _, item := range p.Moving() {
		w := runreport.Workload{
			Step: "sidecars", Kind: item.Kind, Namespace: item.Namespace, Name: item.Name, How: string(item.How),
			Impact: string(item.Impact), ImpactReason: item.ImpactReason, Services: item.Services(),
		}
		if len(item.Proxies) > 0 {
			w.From = proxyName(item.Proxies[0].ProxyForm)
		}
		if item.To != nil {
			w.To = proxyName(*item.To)
		}
		list = append(list, w)
	}
	return list
}

func leftWorkloads(p *sidecars.Plan) []runreport.Left {
	list := []runreport.Left{}
	for _, item := range p.Staying() {
		left := runreport.Left{Kind: item.Kind, Namespace: item.Namespace, Name: item.Name, Verdict: string(item.Verdict), Reason: why(&item)}
		if len(item.Proxies) > 0 {
			left.Proxy = proxyName(item.Proxies[0].ProxyForm)
		}
		list = append(list, left)
	}
	return list
}

func plannedFiles(p *sidecars.FilesPlan) []runreport.Workload {
	list := []runreport.Workload{}
	for i := range p.Objects {
		object := &p.Objects[i]
		if object.Injected && object.Held == "" && object.Action != sidecars.Unchanged {
			list = append(list, runreport.Workload{
				Step: "sidecars", Kind: object.Kind, Namespace: object.Namespace, Name: object.Name, How: string(object.Action),
				From: formName(object.From), To: formName(object.To), Impact: string(object.Impact),
			})
		}
	}
	return list
}

func releaseChanges(step string, releases []controlplane.ReleasePlan) []runreport.Change {
	list := []runreport.Change{}
	for _, r := range releases {
		list = append(list, runreport.Change{
			Step: step, What: fmt.Sprintf("release %s in %s (%s)", r.Name, r.Namespace, r.Component),
			From: strings.TrimSpace(r.TagFrom + " " + inBrackets(r.ChartFrom)), To: strings.TrimSpace(cmp.Or(r.TagTo, r.TagFrom) + " " + inBrackets(r.ChartTo)),
			Action: string(r.Action),
		})
	}
	return list
}

func inBrackets(text string) string {
	if text == "" {
		return ""
	}
	return "(" + text + ")"
}

func definitionChanges(p *crds.Plan) []runreport.Change {
	list := []runreport.Change{}
	if r := p.Release; r != nil {
		list = append(list, runreport.Change{Step: crds.Step, What: "release " + r.Name + " in " + r.Namespace, From: r.ChartFrom, To: r.ChartTo, Action: string(r.Action)})
	}
	for _, c := range p.CRDs {
		if c.Action != crds.Unchanged {
			list = append(list, runreport.Change{Step: crds.Step, What: c.Name, From: c.StorageFrom, To: c.StorageTo, Action: strings.TrimSpace(changeText(c) + " " + versionsText(c))})
		}
	}
	return list
}

// watch watches the endpoints of the namespaces in which a step works, until
// what it gives is called. An upgrade does not depend on it.
func (p *reportPage) watch(ctx context.Context, s *session, a action) (stop func()) {
	namespaces := workNamespaces(a.plan)
	if len(namespaces) == 0 {
		return func() {}
	}
	c, err := s.connect()
	var endpoints *runreport.Endpoints
	var denied []string
	if err == nil {
		endpoints, denied, err = runreport.WatchEndpoints(ctx, c, namespaces, time.Now)
	}
	if err != nil {
		p.tell(s, "endpoints are not watched: "+err.Error())
		return func() {}
	}
	if len(denied) > 0 {
		p.tell(s, "endpoints are not watched without the right to list and watch endpointslices.discovery.k8s.io in "+joined(denied))
	}
	return func() { p.Endpoints(endpoints.Stop()...) }
}

func (p *reportPage) tell(s *session, text string) {
	p.Note(text)
	fmt.Fprintln(s.ErrOut, "warning: --report: "+escape(text))
}

// workNamespaces gives the namespaces in which the pods are that a plan moves.
func workNamespaces(plan any) []string {
	var list []string
	switch plan := plan.(type) {
	case *sidecars.Plan:
		for _, item := range plan.Moving() {
			list = append(list, item.Namespace)
		}
	case *sidecars.FilesPlan:
		for i := range plan.Objects {
			list = append(list, plan.Objects[i].Namespace)
		}
	case *controlplane.Plan:
		for i := range plan.Releases {
			list = append(list, plan.Releases[i].Namespace)
		}
	case *controlplane.RollbackPlan:
		for i := range plan.Releases {
			list = append(list, plan.Releases[i].Namespace)
		}
		if plan.Workloads != nil {
			for _, item := range plan.Workloads.Moving() {
				list = append(list, item.Namespace)
			}
		}
	}
	list = slices.DeleteFunc(list, func(namespace string) bool { return namespace == "" })
	slices.Sort(list)
	return slices.Compact(list)
}

// close writes the page.
func (p *reportPage) close(step string, err error) error {
	p.run.Command, p.run.Ended = step, time.Now().UTC()
	if err != nil {
		p.run.Error = plainWords(err)
	}
	p.run.Judge()
	written := p.file.Truncate(0)
	if written == nil {
		written = runreport.WriteHTML(p.file, p.run, escape)
	}
	if written = errors.Join(written, p.file.Close()); written != nil {
		return fmt.Errorf("--report: %w", written)
	}
	return nil
}
