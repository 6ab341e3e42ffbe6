// Package sidecars is the third step of an upgrade: it finds the workloads
// whose proxies are not those that the injector gives now, says what moving
// each would disturb, and moves them.
package sidecars
