package memory

import (
	"testing"

	"dcni/pkg/overlay"
	"dcni/pkg/overlay/storetest"
)

func TestContract(t *testing.T) {
	storetest.Contract(t, func(*testing.T) overlay.Store { return New() })
}

// TestAnother: clients see one store, and one that is cut off is so alone.
func TestAnother(t *testing.T) {
	a := New()
	b := a.Another()
	if _, _, err := a.Commit(t.Context(), overlay.Txn{Then: []overlay.Change{{Key: "k", Value: []byte("v")}}}); err != nil {
		t.Fatal(err)
	}
	a.Cut()
	e, err := b.Get(t.Context(), "k")
	if err != nil || string(e.Value) != "v" {
		t.Errorf("Get = %v, %v", e, err)
	}
	if _, err := a.Get(t.Context(), "k"); err == nil {
		t.Error("a client that is cut off gets entries")
	}
}
