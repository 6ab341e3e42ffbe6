package controlplane

import "testing"

// What is secret is not in a plan, whoever prints it; what only sounds so is.
func TestShown(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		path   string
		value  any
		hidden bool
	}{
		{"pilot.env.DB_PASSWORD", "hunter2", true},
		{"global.imagePullToken", "abc", true},
		{"gateway.apiKey", "abc", true},
		{"meshConfig.credentials", []any{"a"}, true},
		{"global.tag", "1.31.0", false},
		{"pilot.traceSampling", 5, false},
		{"global.imagePullSecrets", []any{"registry"}, false},
		{"gateways.secretName", "tls", false},
		{"sidecarInjectorWebhook.tokenEnabled", true, false},
		{"pilot.env.TOKEN", "", false},
	} {
		got := shown(tc.path, tc.value)
		if text, _ := got.(string); (text == Hidden) != tc.hidden {
			t.Errorf("%s is shown as %v", tc.path, got)
		}
	}
}
