package spaces

import (
	"testing"

	"dcni/pkg/netns"
)

// TestOwnByPath: a path that leads to the process's own namespace is looked at, and no
// object is made there.
func TestOwnByPath(t *testing.T) {
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	found, err := s.Sandbox(netns.Own)
	if err != nil {
		t.Skipf("open the own namespace: %v", err)
	}
	if !found.Own || found.Cookie == 0 {
		t.Errorf("found %+v", found)
	}
	if _, err := s.Look(netns.Own); err != nil {
		t.Errorf("look: %v", err)
	}
	if _, err := s.In(netns.Own); err == nil {
		t.Error("an object can be made in the own namespace by its path")
	}
	if root, err := s.In(""); err != nil || root != s.Root {
		t.Errorf("the own namespace itself: %v", err)
	}
}

// TestOther: another namespace is not the process's own.
func TestOther(t *testing.T) {
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := netns.Scratch(func() error {
		const here = "/proc/thread-self/ns/net"
		found, err := s.Sandbox(here)
		if err == nil && found.Own {
			t.Error("it is taken for the own one")
		}
		if _, failed := s.In(here); failed != nil {
			t.Error(failed)
		}
		return err
	}); err != nil {
		t.Skipf("making network namespaces needs root: %v", err)
	}
}
