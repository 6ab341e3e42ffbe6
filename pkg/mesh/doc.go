// Package mesh reads what of Istio is installed in a cluster: control planes
// and their revisions, sidecar injectors, CustomResourceDefinitions, and the
// versions of all of them. It writes nothing.
package mesh
