package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory" // where the registry keeps things
	"github.com/sirupsen/logrus"
)

// serve answers HTTP on a free port of 127.0.0.1 until the cluster is stopped, and returns host and port.
func (c *Cluster) serve(ctx context.Context, handler http.Handler) (string, error) {
	ports, err := freePorts(ctx, 1)
	if err != nil {
		return "", err
	}
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", loopback(ports[0]))
	if err != nil {
		return "", fmt.Errorf("serving charts: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l) // ends by Close alone
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closers = append(c.closers, func() error {
		err := server.Close()
		<-ended
		return err
	})
	return l.Addr().String(), nil
}

// ServeHTTPRepo serves the packaged charts of both versions as a Helm repository over HTTP, in this process and
// until Stop, and returns its URL.
func (c *Cluster) ServeHTTPRepo(ctx context.Context) (string, error) {
	dir := c.file("http-charts")
	if err := copyFolder(c.Parts.PackagedCharts(), dir); err != nil {
		return "", err
	}
	address, err := c.serve(ctx, http.FileServer(http.Dir(dir)))
	if err != nil {
		return "", err
	}
	url := "http://" + address
	if err := c.Helm(ctx, "repo", "index", dir, "--url", url); err != nil {
		return "", err
	}
	return url, nil
}

// ServeOCI serves the packaged charts of both versions from an OCI registry (distribution, the one that the container
// registries are made of), in this process and until Stop, and returns the prefix of the charts: oci://127.0.0.1:PORT/charts.
// The registry speaks plain HTTP.
func (c *Cluster) ServeOCI(ctx context.Context) (string, error) {
	config := &configuration.Configuration{Version: configuration.CurrentVersion}
	config.Storage = configuration.Storage{"inmemory": nil}
	config.Log.AccessLog.Disabled = true
	config.HTTP.Secret = c.token
	logrus.SetLevel(logrus.FatalLevel) // its clients ask for what is not there yet, and it calls that an error
	address, err := c.serve(ctx, handlers.NewApp(context.WithoutCancel(ctx), config))
	if err != nil {
		return "", err
	}
	prefix := "oci://" + address + "/charts"
	tgzs, err := filepath.Glob(filepath.Join(c.Parts.PackagedCharts(), "*.tgz"))
	if err != nil {
		return "", fmt.Errorf("listing the packaged charts: %w", err)
	}
	for _, tgz := range tgzs {
		if err := c.Helm(ctx, "push", tgz, prefix, "--plain-http"); err != nil {
			return "", err
		}
	}
	return prefix, nil
}
