package report

import (
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func slice(name string, family discoveryv1.AddressType, ready ...bool) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: family,
	}
	for _, r := range ready {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Conditions: discoveryv1.EndpointConditions{Ready: &r}})
	}
	return s
}

func TestEndpointsCountsReadyOnesOverTime(t *testing.T) {
	now := noon
	e := &Endpoints{now: func() time.Time { return now }, stop: func() {}, services: map[string]*watched{}}
	for second, do := range []func(){
		func() { e.see(slice("web-a", discoveryv1.AddressTypeIPv4, true, true), false) },
		func() { e.see(slice("web-6", discoveryv1.AddressTypeIPv6, true, true), false) }, // the same pods
		func() { e.see(slice("web-b", discoveryv1.AddressTypeIPv4, true), false) },
		func() { e.see(slice("web-a", discoveryv1.AddressTypeIPv4, true, false), false) },
		func() { e.see(slice("web-a", discoveryv1.AddressTypeIPv4, true, false), false) }, // nothing new
		func() { e.see(slice("web-b", discoveryv1.AddressTypeIPv4), true) },
		func() { e.see(slice("web-6", discoveryv1.AddressTypeIPv6), false) },
		func() { e.see(slice("web-a", discoveryv1.AddressTypeIPv4), false) },
	} {
		now = at(second)
		do()
	}
	// An endpoint without a condition is ready, one without a Service counts nowhere.
	unknown := slice("other", discoveryv1.AddressTypeIPv4)
	unknown.Labels = map[string]string{discoveryv1.LabelServiceName: "other"}
	unknown.Endpoints = []discoveryv1.Endpoint{{}}
	e.see(unknown, false)
	stray := slice("stray", discoveryv1.AddressTypeIPv4, true)
	stray.Labels = nil
	e.see(stray, false)

	services := e.Stop()
	if len(services) != 2 || services[0].Name != "other" || services[1].Name != "web" {
		t.Fatalf("services: %+v", services)
	}
	want := points(0, 2, 2, 3, 3, 2, 6, 1, 7, 0)
	got := services[1].Points
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if !got[i].Time.Equal(want[i].Time) || got[i].Ready != want[i].Ready {
			t.Errorf("point %d: got %v, want %v", i, got[i], want[i])
		}
	}
}
