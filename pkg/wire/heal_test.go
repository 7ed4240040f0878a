package wire_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/wire"
	"dcni/pkg/wire/wiretest"
)

// Each object stands for itself: one that can't be had keeps no other from being
// put back, and what is so is not touched.
func TestHeal(t *testing.T) {
	p := bridgeAndVeth()
	h := ensured(t, all(p))
	before := h.String()
	heal := func() (said []string) {
		wire.Heal(h, all(p), func(o wire.Object, was, err error) {
			said = append(said, fmt.Sprintf("%s: %v, %v", o.Key(), was, err))
		})
		return said
	}
	h.Step = func(op string, o wire.Object) error {
		if op != "check" {
			t.Errorf("%s %s, and nothing was lost", op, o)
		}
		return nil
	}
	if said := heal(); said != nil {
		t.Errorf("nothing was lost, and put back was: %q", said)
	}
	h.Step = nil

	h.Lose(p.Network[1].Key()) // the bridge's address
	h.Lose(p.Own[2].Key())     // that eth0 is up
	refused := errors.New("refused")
	h.Step = func(op string, o wire.Object) error {
		if op == "ensure" && o == p.Network[1] {
			return refused
		}
		return nil
	}
	want := []string{p.Network[1].Key() + ": missing, refused", p.Own[2].Key() + ": missing, <nil>"}
	if said := heal(); !slices.Equal(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
	h.Step = nil
	if said := heal(); len(said) != 1 || h.String() != before {
		t.Errorf("said %q, the machine is\n%s\nand was\n%s", said, h, before)
	}
}

// What Ensure takes for done and Check does not is an error, or it would be put
// back for ever.
func TestHealOfWhatCantBe(t *testing.T) {
	h := stubborn{wiretest.New()}
	var said error
	wire.Heal(h, bridgeAndVeth().Network[:1], func(_ wire.Object, _, err error) { said = err })
	if said == nil || !strings.Contains(said.Error(), "missing") {
		t.Errorf("said %v", said)
	}
}

// What is its owner's to mend is neither changed nor reported, and keeps no other from
// being put back.
func TestHealOfOwners(t *testing.T) {
	p := bridgeAndVeth()
	h := ensured(t, all(p))
	h.Lose(p.Own[2].Key())
	down := fmt.Errorf("parent: %w", wire.Owners(errors.New("it is down")))
	h.Step = func(op string, o wire.Object) error {
		switch {
		case o != p.Network[1]:
			return nil
		case op == "check":
			return down
		}
		return errors.New("touched")
	}
	var said []string
	wire.Heal(h, all(p), func(o wire.Object, was, err error) { said = append(said, fmt.Sprint(o.Key(), was, err)) })
	if len(said) != 1 || !strings.HasPrefix(said[0], p.Own[2].Key()) {
		t.Errorf("said %q", said)
	}
	if wire.Owners(nil) != nil {
		t.Error("what is right is marked")
	}
}

// stubborn does nothing, and is content.
type stubborn struct{ *wiretest.Host }

func (stubborn) Ensure(wire.Object) (bool, error) { return false, nil }

// Without its sandbox, an attachment's objects are those of the host.
func TestOutside(t *testing.T) {
	p := bridgeAndVeth()
	if got := wire.Outside(p.Network); !slices.Equal(got, p.Network) {
		t.Errorf("of the shared objects: %v", got)
	}
	flows := &wire.Flows{}
	got := wire.Outside(append(slices.Clone(p.Own), &wire.NetNSBind{Path: "/ns/c1"}, flows))
	if len(got) != 2 || got[1] != wire.Object(flows) {
		t.Fatalf("got %v", got)
	}
	half := *p.Own[0].(*wire.Veth)
	half.NetNS = ""
	if v, ok := got[0].(*wire.Veth); !ok || *v != half || p.Own[0].(*wire.Veth).NetNS == "" {
		t.Errorf("of the veth: %+v", got[0])
	}
}
