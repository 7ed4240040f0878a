package integration

import (
	"path/filepath"
	"testing"

	"dcni/integration/parity"
	"dcni/integration/testhost"
)

// TestDocker runs the sessions from Docker's manual, and compares what dcni says with what
// a Docker engine said, see package parity.
func TestDocker(t *testing.T) {
	t.Parallel()
	if missing := dcni.missing(); missing != "" {
		t.Skipf("bin/%s is not built", missing)
	}
	list, err := parity.Load(filepath.Dir(groupOf(t).files))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatal("no scenarios")
	}
	for _, s := range list {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			starts(t)
			host, err := testhost.NewHost(binaries)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = host.Close() })
			session, err := parity.DCNI(binaries)
			if err != nil {
				t.Fatal(err)
			}
			if diff := s.Differences(s.Observe(session.Run, parity.Step.Want, patience)); diff != "" {
				t.Error(diff)
			}
			if err := session.Clean(); err != nil {
				t.Error(err)
			}
		})
	}
}
