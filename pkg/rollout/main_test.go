package rollout

import (
	"testing"

	"go.uber.org/goleak"
)

// No watch and no goroutine outlives its run.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
