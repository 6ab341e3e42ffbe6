package inject

import (
	"istio.io/api/annotation"
	"istio.io/api/label"
)

// Containers and volumes that Istio's own templates add.
const (
	proxyContainer      = "istio-proxy"
	initContainer       = "istio-init"
	validationContainer = "istio-validation"
	coreDumpContainer   = "enable-core-dump"
	grpcInitContainer   = "grpc-bootstrap-init"
	grpcVolume          = "grpc-io-proxyless-bootstrap"

	credentialSocketVolume = "credential-socket"
	workloadSocketVolume   = "workload-socket"
)

// Environment of the proxy in which the injector keeps what it replaced.
const (
	envProbers     = "ISTIO_KUBE_APP_PROBERS"
	envPrometheus  = "ISTIO_PROMETHEUS_ANNOTATIONS"
	envAnnotations = "ISTIO_METAJSON_ANNOTATIONS"
	envLabels      = "ISTIO_METAJSON_LABELS"

	envAppContainers = "ISTIO_META_APP_CONTAINERS"
	envWorkloadName  = "ISTIO_META_WORKLOAD_NAME"
	envOwner         = "ISTIO_META_OWNER"
	envNetwork       = "ISTIO_META_NETWORK"
	envHBONE         = "ISTIO_META_ENABLE_HBONE"
	envGenerator     = "ISTIO_META_GENERATOR"
	envPodPorts      = "ISTIO_META_POD_PORTS"
	envInterception  = "ISTIO_META_INTERCEPTION_MODE"
	envProxyConfig   = "PROXY_CONFIG"
	envSecureMetrics = "ENVOY_SECURE_MERGED_METRICS_PORT"
)

// Annotations that Istio writes and its API package has no name for, or that
// belong to others and are changed by the injector.
const (
	prometheusScrape     = "prometheus.io/scrape"
	prometheusPort       = "prometheus.io/port"
	prometheusPath       = "prometheus.io/path"
	prometheusTargets    = "prometheus.istio.io/scrape-targets"
	prometheusSecurePort = "prometheus.istio.io/secure-port"

	defaultContainer     = "kubectl.kubernetes.io/default-container"
	defaultLogsContainer = "kubectl.kubernetes.io/default-logs-container"
	multusNetworks       = "k8s.v1.cni.cncf.io/networks"
	lastApplied          = "kubectl.kubernetes.io/last-applied-configuration"

	appArmorPrefix = "container.apparmor.security.beta.kubernetes.io/"
	seccompPrefix  = "container.seccomp.security.alpha.kubernetes.io/"

	tunnelLabel = "networking.istio.io/tunnel"

	labelAppName    = "app.kubernetes.io/name"
	labelAppVersion = "app.kubernetes.io/version"
)

var (
	statusAnnotation     = annotation.SidecarStatus.Name
	overridesAnnotation  = annotation.ProxyOverrides.Name
	statusPortAnnotation = annotation.SidecarStatusPort.Name
	injectKey            = annotation.SidecarInject.Name // label and annotation
	templatesAnnotation  = annotation.InjectTemplates.Name
	revKey               = label.IoIstioRev.Name // a label to 1.10, an annotation since 1.18
	tlsModeLabel         = label.SecurityTlsMode.Name
	networkLabel         = label.TopologyNetwork.Name
	canonicalName        = label.ServiceCanonicalName.Name
	canonicalRevision    = label.ServiceCanonicalRevision.Name
)

// redirectAnnotations are the ones that the templates fill with the values in
// force: kube-inject 1.3 to 1.8 always, later ones where the CNI plugin is used
// (podRedirectAnnot in the templates; rewriteCniPodSpec in inject.go to 1.7).
var redirectAnnotations = []string{
	annotation.SidecarInterceptionMode.Name,
	annotation.SidecarTrafficIncludeOutboundIPRanges.Name,
	annotation.SidecarTrafficExcludeOutboundIPRanges.Name,
	annotation.SidecarTrafficIncludeInboundPorts.Name,
	annotation.SidecarTrafficExcludeInboundPorts.Name,
	annotation.SidecarTrafficIncludeOutboundPorts.Name,
	annotation.SidecarTrafficExcludeOutboundPorts.Name,
	annotation.SidecarTrafficKubevirtInterfaces.Name,
}

// knownVolumes are the volumes of Istio's sidecar templates of all releases.
// They count where the status annotation does not list them.
var knownVolumes = map[string]bool{
	"istio-envoy": true, "istio-certs": true, "sds-uds-path": true, "istio-token": true,
	"custom-sds-token": true, "istio-podinfo": true, "istio-data": true, "istiod-ca-cert": true,
	workloadSocketVolume: true, "workload-certs": true, credentialSocketVolume: true,
	"gke-workload-certificate": true, "istio-ca-crl": true, "custom-bootstrap-volume": true,
	"lightstep-certs": true, "istio-xds": true, "kube-ca-cert": true, grpcVolume: true,
}
