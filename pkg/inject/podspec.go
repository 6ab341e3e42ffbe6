package inject

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

const istioGroup = int64(1337)

// removeVolumes takes the listed volumes out. Injectors to 1.8 append theirs, so
// of two with one name the later is Istio's. One that a container of the user's
// mounts is kept where Istio's templates have none of the name: userVolume names
// the user's own.
func (w *work) removeVolumes() {
	volumes := listOf(w.spec, "volumes")
	for _, name := range w.status.Volumes {
		i := lastNamed(volumes, name)
		if i < 0 {
			continue
		}
		if by := w.mountedBy(name); by != "" && lastNamed(volumes[:i], name) < 0 && (!knownVolumes[name] || w.status.unlisted["volumes["+name+"]"]) {
			w.note("volumes", fmt.Sprintf("%q is kept: container %q mounts it", name, by))
			continue
		}
		volumes = slices.Delete(volumes, i, i+1)
		w.taken.Volumes = append(w.taken.Volumes, name)
		if w.double {
			volumes = slices.DeleteFunc(volumes, func(v map[string]any) bool { return v["name"] == name })
		}
		w.noteMounts(name, volumes)
	}
	setList(w.spec, "volumes", volumes)
}

func lastNamed(list []map[string]any, name string) int {
	for i, entry := range slices.Backward(list) {
		if entry["name"] == name {
			return i
		}
	}
	return -1
}

// mountedBy names a container that is left and mounts the volume.
func (w *work) mountedBy(volume string) string {
	for _, key := range []string{"containers", "initContainers"} {
		for _, c := range listOf(w.spec, key) {
			if mounts(c, volume) {
				return nameOf(c)
			}
		}
	}
	return ""
}

// noteMounts: Istio's templates mount into their own containers only (the gRPC
// ones into others too, which are restored whole), so a mount that is left is
// the user's.
func (w *work) noteMounts(volume string, left []map[string]any) {
	if lastNamed(left, volume) >= 0 {
		return
	}
	for _, key := range []string{"containers", "initContainers"} {
		for _, c := range listOf(w.spec, key) {
			if mounts(c, volume) {
				w.note(fmt.Sprintf("%s[%s].volumeMounts", key, nameOf(c)),
					fmt.Sprintf("mounts Istio's volume %q, which is there only with a sidecar; kept", volume))
			}
		}
	}
}

// removePullSecrets: kube-inject to 1.5 lists the template's secrets without
// adding them (inject.go, IntoObject).
func (w *work) removePullSecrets() {
	if w.era.before(6) || len(w.status.ImagePullSecrets) == 0 {
		return
	}
	secrets := listOf(w.spec, "imagePullSecrets")
	for _, name := range w.status.ImagePullSecrets {
		i := lastNamed(secrets, name)
		if i < 0 {
			continue
		}
		secrets = slices.Delete(secrets, i, i+1)
		if lastNamed(secrets, name) < 0 {
			w.note("imagePullSecrets", fmt.Sprintf("%q was injected and is removed; if your own images need it, it was yours too: add it again", name))
		}
	}
	setList(w.spec, "imagePullSecrets", secrets)
}

// restorePodSpec undoes what templates set on the pod itself.
func (w *work) restorePodSpec() {
	w.restoreGroup()
	w.restoreDNS()
	w.restoreSysctls()
}

// restoreGroup: fsGroup 1337 was set by default to 1.14 (the legacy fsGroup
// injection; before 1.5 only with SDS).
func (w *work) restoreGroup() {
	security := mapAt(w.spec, "securityContext")
	group, set := security["fsGroup"].(int64)
	if !set || group != istioGroup || w.role == "" {
		return
	}
	if w.era.since(15) {
		w.note("securityContext.fsGroup", "1337 is kept: this injector sets it only where that was asked for")
		return
	}
	delete(security, "fsGroup")
	if len(security) == 0 {
		delete(w.spec, "securityContext")
	}
	w.note("securityContext.fsGroup", "1337 was set by the injector and is removed; a value of your own before it is not recorded")
}

// restoreDNS: kube-inject 1.1 to 1.7 replaces dnsConfig by the template's, even
// by nothing; the template knows search domains, and ndots 4 with DNS capture.
func (w *work) restoreDNS() {
	config, set := w.spec["dnsConfig"].(map[string]any)
	if !set || !w.era.before(8) && !(w.era == era{6, 8}) || !w.listensForPrometheus() {
		return
	}
	for key, value := range config {
		ndots := []any{map[string]any{"name": "ndots", "value": "4"}}
		if key != "searches" && !(key == "options" && reflect.DeepEqual(value, ndots)) {
			w.note("dnsConfig", "kept: it holds what no injector sets")
			return
		}
	}
	delete(w.spec, "dnsConfig")
	w.note("dnsConfig", "was set by the injector and is removed; one of your own before it is not recorded")
}

// listensForPrometheus tells 1.1 and later from 1.0, which knows no dnsConfig.
func (w *work) listensForPrometheus() bool {
	for _, proxy := range w.proxies {
		for _, port := range listOf(proxy, "ports") {
			if port["containerPort"] == int64(15090) {
				return true
			}
		}
	}
	return false
}

// restoreSysctls: the gateway template (1.22+) lets unprivileged processes bind
// low ports.
func (w *work) restoreSysctls() {
	security := mapAt(w.spec, "securityContext")
	gateway := []any{map[string]any{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}}
	if w.role != "router" || !reflect.DeepEqual(security["sysctls"], gateway) {
		return
	}
	delete(security, "sysctls")
	if len(security) == 0 {
		delete(w.spec, "securityContext")
	}
	w.note("securityContext.sysctls", "the gateway template's setting is removed; the injector sets it again")
}

// removeContainerAnnotations drops annotations of the pod that speak of a
// container which is gone (injectedAnnotations, for pod security policies).
func (w *work) removeContainerAnnotations(annotations map[string]string) {
	for key := range annotations {
		for _, prefix := range []string{appArmorPrefix, seccompPrefix} {
			name, ours := strings.CutPrefix(key, prefix)
			if !ours {
				continue
			}
			taken := slices.Contains(w.taken.Containers, name) || slices.Contains(w.taken.InitContainers, name)
			if taken && findContainer(listOf(w.spec, "containers"), name) == nil && findContainer(listOf(w.spec, "initContainers"), name) == nil {
				delete(annotations, key)
			}
		}
	}
}
