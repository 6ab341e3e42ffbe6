package faults

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/kubectl-istio-upgrade/kubectl-istio-upgrade/test/e2e/clustertest"
)

const kills = 20

// The whole upgrade is killed at random moments. After each, the mesh works;
// and the same command goes on from there. Every fourth time it is left to
// finish, and then the mesh goes on to another tag, so that there is always
// something to be killed in. FAULTS_SEED repeats a run.
func TestKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if given, err := strconv.ParseUint(os.Getenv("FAULTS_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("FAULTS_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // moments, not secrets
	m := newMesh(t)
	took, backup := 15*time.Second, filepath.Join(t.TempDir(), "before") // the same for all
	for kill := range kills {
		tag := newer + []string{"", "-distroless"}[kill/4%2]
		args := m.upgradeTo(tag, backup)
		after := time.Duration(random.Int64N(int64(took)))
		p := start(m.World, args...)
		select {
		case <-p.done:
		case <-time.After(after):
			p.signal(os.Kill)
			<-p.done
		}
		t.Logf("kill %d: %s after %s", kill+1, tag, after.Round(time.Millisecond))
		m.works()
		if t.Failed() {
			t.Fatalf("the mesh does not work after kill %d:\n%s", kill+1, p.outcome())
		}
		if kill%4 == 3 {
			took = m.wholeUpgrade(tag, backup)
		}
	}
}

func (m *mesh) upgradeTo(tag, backup string) []string {
	return []string{"all", "--tag", tag, "--charts", clustertest.Parts.PackagedCharts(), "-n", "shop", "--yes", "--backup-dir", backup}
}

// wholeUpgrade runs it to its end, and says how long that took.
func (m *mesh) wholeUpgrade(tag, backup string) time.Duration {
	m.T.Helper()
	o := m.Must(0, m.upgradeTo(tag, backup)...)
	m.healthy()
	m.WantProxies("shop", "", map[string]int{tag: 6})
	m.works()
	return o.Took
}
