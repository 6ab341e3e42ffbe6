package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Every request is written down, once, without its body. The health endpoints and the leases of nodes are not: they are noise.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  nonResourceURLs: ["/readyz*", "/livez*", "/healthz*"]
- level: None
  users: ["system:apiserver"]
- level: None
  namespaces: [kube-node-lease]
- level: Metadata
`

func (c *Cluster) auditLog() string { return c.file("logs/audit.log") }

// AuditEvent is one request that the API server answered (k8s.io/apiserver: pkg/apis/audit/v1).
type AuditEvent struct {
	Verb       string    `json:"verb"` // create, update, patch, delete, deletecollection, get, list, watch
	UserAgent  string    `json:"userAgent"`
	RequestURI string    `json:"requestURI"`
	Received   time.Time `json:"requestReceivedTimestamp"`
	User       struct {
		Username string `json:"username"`
	} `json:"user"`
	Object struct {
		APIGroup    string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	Response struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// Writes says whether the request was one that changes something: a writing verb, no dry-run, and no question in the
// form of a creation (the authorization.k8s.io and authentication.k8s.io reviews).
func (e AuditEvent) Writes() bool {
	switch e.Verb {
	case "create", "update", "patch", "delete", "deletecollection":
	default:
		return false
	}
	review := e.Object.APIGroup == "authorization.k8s.io" || e.Object.APIGroup == "authentication.k8s.io"
	return !review && !strings.Contains(e.RequestURI, "dryRun=All")
}

// AuditEvents returns, in their order, the requests so far whose user agent begins with a prefix. The cluster must
// have been started with AuditLog.
func (c *Cluster) AuditEvents(ctx context.Context, userAgentPrefix string) ([]AuditEvent, error) {
	if !c.opts.AuditLog {
		return nil, errors.New("reading the audit log: the lab was started without one")
	}
	// The log is complete up to a request of our own that stands in it.
	marker := fmt.Sprintf("/version?lab-marker=%d", time.Now().UnixNano())
	if err := c.client.Discovery().RESTClient().Get().RequestURI(marker).Do(ctx).Error(); err != nil {
		return nil, fmt.Errorf("marking the audit log: %w", err)
	}
	var events []AuditEvent
	err := c.await(ctx, "the audit log", 10*time.Second, func(context.Context) error {
		all, err := readAuditLog(c.auditLog())
		if err != nil {
			return err
		}
		events = events[:0]
		marked := false
		for _, e := range all {
			marked = marked || e.RequestURI == marker
			if strings.HasPrefix(e.UserAgent, userAgentPrefix) {
				events = append(events, e)
			}
		}
		if !marked {
			return errors.New("the last request is not in it yet")
		}
		return nil
	})
	return events, err
}

func readAuditLog(path string) ([]AuditEvent, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	defer func() { _ = f.Close() }()
	var events []AuditEvent
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e AuditEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			break // a line that is still being written
		}
		events = append(events, e)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	return events, nil
}
