// Package lab is a throwaway Kubernetes cluster on loopback for tests and demonstrations: a real API server with
// its controllers, kwok in the place of kubelets, and a real istiod that answers the webhooks. Every part is built
// from Go modules and runs as a process; neither a container engine nor an image registry is needed.
//
// Nothing in it reaches another address: the addresses of pods, nodes and Services are data, and nothing is sent
// to them. What can not be had without kubelets: exec, port-forward, logs.
package lab
