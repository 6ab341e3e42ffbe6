{{/* The status of a pod that fails as $mode says: the fields a kubelet sets. Every time in it is fixed, so that
     playing the stage again changes nothing. */}}
{{ $at := .metadata.creationTimestamp }}
{{ $inits := or .spec.initContainers list }}
{{ $bad := "" }}
{{ range concat $inits .spec.containers }}
{{ if and (not $bad) (or (eq .name "istio-proxy") (and (eq $mode "image-pull") (contains "proxyv2" .image))) }}{{ $bad = .name }}{{ end }}
{{ end }}
{{ if not $bad }}{{ $bad = (index .spec.containers 0).name }}{{ end }}
{{ $inInit := false }}
{{ range $inits }}{{ if eq .name $bad }}{{ $inInit = true }}{{ end }}{{ end }}
{{ $creating := eq $mode "creating" }}
{{ $blocked := or $creating $inInit }}
phase: {{ if or $blocked (eq $mode "image-pull") }}Pending{{ else }}Running{{ end }}
startTime: {{ $at | Quote }}
conditions:
- {type: PodReadyToStartContainers, status: {{ if $creating }}"False"{{ else }}"True"{{ end }}, lastTransitionTime: {{ $at | Quote }}}
- {type: Initialized, status: {{ if and $blocked $inits }}"False"{{ else }}"True"{{ end }}, lastTransitionTime: {{ $at | Quote }}}
{{ $message := printf "containers with unready status: [%s]" $bad }}
- {type: Ready, status: "False", reason: ContainersNotReady, message: {{ $message | Quote }}, lastTransitionTime: {{ $at | Quote }}}
- {type: ContainersReady, status: "False", reason: ContainersNotReady, message: {{ $message | Quote }}, lastTransitionTime: {{ $at | Quote }}}
{{ $passed := not $creating }}
{{ with $inits }}
initContainerStatuses:
{{ range . }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  {{ if eq .name $bad }}{{ $passed = false }}{{ end }}
  {{ if and (eq .name $bad) (not $creating) }}
  ready: false
  {{ if eq $mode "image-pull" }}
  restartCount: 0
  state: {waiting: {reason: ImagePullBackOff, message: {{ printf "Back-off pulling image \"%s\": ErrImagePull: manifest unknown" .image | Quote }}}}
  {{ else if eq $mode "crash" }}
  restartCount: 4
  started: false
  state: {waiting: {reason: CrashLoopBackOff, message: {{ printf "back-off 1m20s restarting failed container=%s" .name | Quote }}}}
  lastState: {terminated: {exitCode: 255, reason: Error, startedAt: {{ $at | Quote }}, finishedAt: {{ $at | Quote }}}}
  {{ else }}
  restartCount: 0
  started: false
  state: {running: {startedAt: {{ $at | Quote }}}}
  {{ end }}
  {{ else if $passed }}
  ready: true
  restartCount: 0
  {{ if eq (or .restartPolicy "") "Always" }}
  started: true
  state: {running: {startedAt: {{ $at | Quote }}}}
  {{ else }}
  state: {terminated: {exitCode: 0, reason: Completed, startedAt: {{ $at | Quote }}, finishedAt: {{ $at | Quote }}}}
  {{ end }}
  {{ else }}
  ready: false
  restartCount: 0
  state: {waiting: {reason: PodInitializing}}
  {{ end }}
{{ end }}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  {{ if $blocked }}
  ready: false
  started: false
  restartCount: 0
  state: {waiting: {reason: {{ if $inits }}PodInitializing{{ else }}ContainerCreating{{ end }}}}
  {{ else if ne .name $bad }}
  ready: true
  started: true
  restartCount: 0
  state: {running: {startedAt: {{ $at | Quote }}}}
  {{ else if eq $mode "image-pull" }}
  ready: false
  started: false
  restartCount: 0
  state: {waiting: {reason: ImagePullBackOff, message: {{ printf "Back-off pulling image \"%s\": ErrImagePull: manifest unknown" .image | Quote }}}}
  {{ else if eq $mode "crash" }}
  ready: false
  started: false
  restartCount: 4
  state: {waiting: {reason: CrashLoopBackOff, message: {{ printf "back-off 1m20s restarting failed container=%s" .name | Quote }}}}
  lastState: {terminated: {exitCode: 255, reason: Error, startedAt: {{ $at | Quote }}, finishedAt: {{ $at | Quote }}}}
  {{ else }}
  ready: false
  started: true
  restartCount: 0
  state: {running: {startedAt: {{ $at | Quote }}}}
  {{ end }}
{{ end }}
