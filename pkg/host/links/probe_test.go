package links

import (
	"os"
	"strings"
	"testing"
)

func TestProbeKind(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	for _, kind := range []string{"veth", "bridge"} {
		if err := ProbeKind(kind); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	const missing = "carrier-pigeon"
	want := "kernel has no " + missing + " links, and no module " + missing + " to load"
	if err := ProbeKind(missing); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
}
