package inject

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/Masterminds/semver/v3"
)

// DefaultIstioctlTimeout bounds one istioctl process. A hundred workloads in one
// call take about a second.
const DefaultIstioctlTimeout = 2 * time.Minute

// Istioctl runs the istioctl binary. Every call has a deadline.
type Istioctl struct {
	Path    string
	Timeout time.Duration // 0: DefaultIstioctlTimeout
	// KubeFlags are the kubeconfig flags to hand on (--kubeconfig, --context,
	// --istioNamespace). They matter only where the webhook is asked.
	KubeFlags []string
	// Kubeconfig is the text of a kubeconfig that istioctl is given as a file of its
	// own for the time of a call, in place of those flags' one; nil for none.
	Kubeconfig []byte

	once     sync.Once
	flags    map[string]bool
	flagsErr error
}

// FindIstioctl looks istioctl up: path as given by --istioctl, or "istioctl" on
// PATH where it is empty. The error says what to do.
func FindIstioctl(path string) (*Istioctl, error) {
	name := path
	if name == "" {
		name = "istioctl"
	}
	found, err := exec.LookPath(name)
	switch {
	case err != nil && path == "":
		return nil, errors.New("istioctl is not on PATH; workloads injected by hand need it: install it or give --istioctl PATH")
	case err != nil:
		return nil, fmt.Errorf("cannot run istioctl at %s: %w", path, err)
	}
	return &Istioctl{Path: found}, nil
}

var versionPattern = regexp.MustCompile(`\b\d+\.\d+(\.\d+)?[0-9A-Za-z.+-]*`)

// Version asks istioctl for its own version, such as 1.31.0. A build that has
// none set gives what it prints ("unknown").
func (i *Istioctl) Version(ctx context.Context) (string, error) {
	out, err := i.run(ctx, nil, "version", "--remote=false")
	if err != nil {
		return "", err
	}
	if v := versionPattern.Find(out); v != nil {
		return string(v), nil
	}
	_, after, found := strings.Cut(strings.TrimSpace(string(out)), "client version:")
	if found {
		return strings.TrimSpace(after), nil
	}
	return strings.TrimSpace(string(out)), nil
}

// SameMinor compares istioctl's version with the injector's, or its proxies' tag.
// known is false where one of them is no version (a development build).
func SameMinor(istioctl, injector string) (same, known bool) {
	a, errA := semver.NewVersion(istioctl)
	b, errB := semver.NewVersion(injector)
	if errA != nil || errB != nil {
		return false, false
	}
	return a.Major() == b.Major() && a.Minor() == b.Minor(), true
}

var flagPattern = regexp.MustCompile(`--([A-Za-z][A-Za-z0-9-]*)`)

// Flags asks istioctl which flags its kube-inject has, once.
func (i *Istioctl) Flags(ctx context.Context) (map[string]bool, error) {
	i.once.Do(func() {
		out, err := i.run(ctx, nil, "kube-inject", "--help")
		if err != nil {
			i.flagsErr = err
			return
		}
		i.flags = map[string]bool{}
		for _, match := range flagPattern.FindAllSubmatch(out, -1) {
			i.flags[string(match[1])] = true
		}
		if !i.flags["filename"] {
			i.flagsErr = fmt.Errorf("%s has no command kube-inject with --filename; is it istioctl?", i.Path)
		}
	})
	return i.flags, i.flagsErr
}

// run runs istioctl and gives its stdout. Its stderr is quoted in errors.
func (i *Istioctl) run(ctx context.Context, env []string, args ...string) ([]byte, error) {
	timeout := i.Timeout
	if timeout <= 0 {
		timeout = DefaultIstioctlTimeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, i.Path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 2 * time.Second // for children that keep the pipes open
	killTogether(cmd)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case err == nil:
		return stdout.Bytes(), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("istioctl %s: %w", args[0], context.Cause(ctx))
	case limited.Err() != nil:
		return nil, &TimeoutError{fmt.Sprintf("istioctl %s (%s) did not end within %s%s", args[0], i.Path, timeout, quoted(stderr.String()))}
	default:
		return nil, &commandError{fmt.Sprintf("istioctl %s failed (%s)%s", args[0], err, quoted(stderr.String())), err}
	}
}

// TimeoutError says that istioctl did not end within its deadline.
type TimeoutError struct{ text string }

func (e *TimeoutError) Error() string { return e.text }

// commandError is a failure that istioctl itself reported.
type commandError struct {
	text string
	err  error
}

func (e *commandError) Error() string { return e.text }
func (e *commandError) Unwrap() error { return e.err }

// quoted puts the end of what a command said on stderr behind a message.
func quoted(stderr string) string {
	text := strings.TrimSpace(stderr)
	const most = 2000
	if len(text) > most {
		text = "… " + strings.ToValidUTF8(text[len(text)-most:], "")
	}
	if text == "" {
		return ", and said nothing"
	}
	return ": " + text
}
