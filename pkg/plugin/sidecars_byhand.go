package plugin

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/inject"
	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/pkg/sidecars"
)

// byHandFlags are the flags for workloads that were injected by hand.
type byHandFlags struct {
	istioctl        string
	istioctlTimeout time.Duration
	injectConfig    string
	meshConfig      string
	injectionValues string
	backupDir       string
	toWebhook       bool
	diff            bool

	given inject.Settings // what validate has read
}

func (f *byHandFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.istioctl, "istioctl", "", "The istioctl that injects workloads injected by hand (default the one on PATH)")
	flags.DurationVar(&f.istioctlTimeout, "istioctl-timeout", inject.DefaultIstioctlTimeout, "How long one run of istioctl may take")
	flags.StringVar(&f.injectConfig, "inject-config", "", "File with the injection configuration, as for istioctl kube-inject --injectConfigFile (default the control plane's)")
	flags.StringVar(&f.meshConfig, "mesh-config", "", "File with the mesh configuration, as for istioctl kube-inject --meshConfigFile (default the control plane's)")
	flags.StringVar(&f.injectionValues, "injection-values", "", "File with the injection's values, as for istioctl kube-inject --valuesFile (default the control plane's)")
	flags.BoolVar(&f.toWebhook, "to-webhook", false, "Take sidecars injected by hand out and let the webhook inject from now on")
	if flags.Lookup("diff") == nil { // all has it from control-plane
		flags.BoolVar(&f.diff, "diff", false, "Show what changes in workloads injected by hand, or in the objects of -f, as a unified diff")
	}
	if flags.Lookup("backup-dir") == nil { // all has it from crds
		flags.StringVar(&f.backupDir, "backup-dir", "", "Folder for the workloads injected by hand as they were (default a new one below the state folder)")
	}
}

// validate checks the flags and reads the files that they name.
func (f *byHandFlags) validate() (err error) {
	if f.istioctlTimeout < 0 {
		return usagef("--istioctl-timeout must not be negative")
	}
	if f.given, err = inject.SettingsFromFiles(f.injectConfig, f.meshConfig, f.injectionValues); err != nil {
		return err
	}
	return nil
}

func (f *byHandFlags) options(s *session) *sidecars.Reinjection {
	r := &sidecars.Reinjection{
		Istioctl: f.istioctl, Timeout: f.istioctlTimeout, Given: f.given,
		BackupDir: f.backupDir, ToWebhook: f.toWebhook, Diff: f.diff,
		KubeFlags: []string{"--istioNamespace", s.istioNamespace},
	}
	if connectionFlags(s.config) {
		r.Kubeconfig = func() ([]byte, error) { return resolvedKubeconfig(s.config) }
		return r
	}
	for _, flag := range []struct {
		name  string
		value *string
	}{{"--kubeconfig", s.config.KubeConfig}, {"--context", s.config.Context}} {
		if flag.value != nil && *flag.value != "" {
			r.KubeFlags = append(r.KubeFlags, flag.name, *flag.value)
		}
	}
	return r
}

// byHandLines tells of the istioctl that a plan uses, where objects are kept,
// and, where wide, what taking the old sidecars out could not know.
func byHandLines(w io.Writer, p *sidecars.Plan, wide bool) {
	notes := 0
	for _, item := range p.Moving() {
		for _, note := range item.Notes {
			notes++
			if wide {
				fmt.Fprintln(w, "note: "+escape(note))
			}
		}
	}
	if notes > 0 && !wide {
		fmt.Fprintf(w, "%s on what could not be known of the sidecars taken out: see -o wide\n", plural(notes, "note"))
	}
	for _, item := range p.Moving() {
		printDiff(w, item.Diff)
	}
	if p.Istioctl != nil {
		fmt.Fprintln(w, escape(fmt.Sprintf("istioctl: %s (%s)", p.Istioctl.Path, p.Istioctl.Version)))
	}
	if p.BackupDir != "" {
		fmt.Fprintln(w, escape("Objects injected by hand are kept as they are now in "+p.BackupDir))
	}
}
