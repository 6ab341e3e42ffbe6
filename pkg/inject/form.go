package inject

import "slices"

// looksInjected recognises a sidecar by its form: a proxy of Istio's own, or the
// init container and the volume of the proxyless gRPC template.
func looksInjected(spec map[string]any) bool {
	for _, key := range []string{"containers", "initContainers"} {
		if slices.ContainsFunc(listOf(spec, key), sidecarForm) {
			return true
		}
	}
	return findContainer(listOf(spec, "initContainers"), grpcInitContainer) != nil && lastNamed(listOf(spec, "volumes"), grpcVolume) >= 0
}

// sidecarForm: two marks that a user's own istio-proxy (image auto, overrides only)
// does not have both, the arguments of the sidecar role and environment that only
// the template writes. Gateways (`proxy router`) and waypoints are no sidecars.
func sidecarForm(c map[string]any) bool {
	image, _ := c["image"].(string)
	args, env := containerArgs(c), containerEnv(c)
	_, interception := env[envInterception]
	_, generator := env[envGenerator]
	return nameOf(c) == proxyContainer && image != "" && image != autoImage &&
		slices.Contains(args, "proxy") && slices.Contains(args, "sidecar") && (interception || generator)
}

// knownInits are the init containers of Istio's own templates.
var knownInits = []string{initContainer, validationContainer, coreDumpContainer, grpcInitContainer}

// istiosOwn says whether a container that an override holds is an older injection's
// and no user's: kube-inject takes all that it finds for the user's own where the
// status was lost. Init containers of Istio's set up iptables (istio-iptables, or
// its script's flags to 1.3) or the core dump.
func istiosOwn(c map[string]any) bool {
	if sidecarForm(c) || nameOf(c) == grpcInitContainer {
		return true
	}
	if !slices.Contains(knownInits, nameOf(c)) {
		return false
	}
	args := containerArgs(c)
	command, _ := c["command"].([]any)
	return slices.Contains(args, "istio-iptables") || slices.Contains(command, any("istio-iptables")) ||
		slices.Contains(args, "-p") && slices.Contains(args, "1337") || nameOf(c) == coreDumpContainer
}

// addForm adds to a status what it should list of the template: proxies of the
// sidecar's form, Istio's known init containers, containers that the overrides
// say were changed, and known volumes that no other container mounts.
func (s *sidecarStatus) addForm(t podTemplate) {
	s.unlisted = map[string]bool{}
	add := func(to *[]string, key, name string) {
		if !slices.Contains(*to, name) {
			*to = append(slices.Clip(*to), name)
			s.unlisted[key+"["+name+"]"] = true
		}
	}
	own, _ := parseOverrides(t.annotations()[overridesAnnotation]) // a broken one is told of later
	for key, names := range map[string]*[]string{"containers": &s.Containers, "initContainers": &s.InitContainers} {
		changed := own.Containers
		if key == "initContainers" {
			changed = own.InitContainers
		}
		for _, c := range listOf(t.spec, key) {
			name := nameOf(c)
			known := key == "initContainers" && slices.Contains(knownInits, name)
			switch {
			case sidecarForm(c) || known:
				add(names, key, name)
			case name != proxyContainer && findContainer(changed, name) != nil && !slices.Contains(*names, name):
				*names = append(slices.Clip(*names), name)
			}
		}
	}
	for _, v := range listOf(t.spec, "volumes") {
		name, _ := v["name"].(string)
		if knownVolumes[name] && !usedByOthers(t.spec, name, *s) {
			add(&s.Volumes, "volumes", name)
		}
	}
}

// usedByOthers: a volume that a container of the user's mounts stays.
func usedByOthers(spec map[string]any, volume string, status sidecarStatus) bool {
	for key, gone := range map[string][]string{"containers": status.Containers, "initContainers": status.InitContainers} {
		for _, c := range listOf(spec, key) {
			if !slices.Contains(gone, nameOf(c)) && mounts(c, volume) {
				return true
			}
		}
	}
	return false
}

func mounts(container map[string]any, volume string) bool {
	for _, m := range listOf(container, "volumeMounts") {
		if m["name"] == volume {
			return true
		}
	}
	return false
}
