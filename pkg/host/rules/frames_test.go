package rules

import (
	"errors"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/host/links"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// without is a firewall on a kernel without the bridge family.
type without struct{ firewall.Backend }

func (without) Ensure(wire.Object) (bool, error) {
	return false, errors.New("no such file or directory")
}
func (without) Check(wire.Object) error { return errors.New("missing") }
func (without) ProbeFrames() error {
	return &wire.Error{Code: wire.CodeUnavailable, Msg: "kernel can't take the rules"}
}

// Without the bridge family, a network without icc does without the rules of frames, as its
// ports are isolated. One that checks frames is refused.
func TestWithoutFrames(t *testing.T) {
	h := &Rules{Links: &links.Links{Records: records.Store{Run: t.TempDir()}}, nft: without{}}
	owner := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	for required, objects := range map[bool][]wire.Object{
		false: {&firewall.FrameRules{}, &firewall.BridgePort{Owner: owner, Apart: true}},
		true:  {&firewall.FrameRules{Required: true}, &firewall.BridgePort{Owner: owner, Checked: true}},
	} {
		for _, o := range objects {
			changed, err := h.Of(o).Ensure()
			if changed || (err != nil) != required {
				t.Errorf("required %t: ensure %s: %t, %v", required, o.Key(), changed, err)
			}
			if err := h.Of(o).Check(); (err != nil) != required {
				t.Errorf("required %t: check %s: %v", required, o.Key(), err)
			}
		}
		if err := h.Of(objects[0]).Probe(); (err != nil) != required {
			t.Errorf("required %t: probe: %v", required, err)
		}
	}
}
