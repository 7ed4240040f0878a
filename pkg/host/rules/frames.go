package rules

import (
	"errors"

	"dcni/pkg/firewall"
	"dcni/pkg/host/spaces"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// frameRules is a [firewall.FrameRules].
type frameRules struct {
	h *Rules
	o *firewall.FrameRules
}

// Ensure lays the table, with all ports that are on record, and notes before that it does. The
// caller holds the host's lock.
func (f frameRules) Ensure() (bool, error) {
	if f.Check() == nil { // also where they can't be had, and are not required
		return false, nil
	}
	if err := f.h.Records.PutChange(&records.Change{Key: f.o.Key(), Frames: true}); err != nil {
		return false, err
	}
	known, err := f.known()
	if err != nil {
		return false, err
	}
	return f.h.nft.Ensure(&firewall.FrameRules{Known: known})
}

// known returns the ports of what is up.
func (f frameRules) known() (ports []*firewall.BridgePort, err error) {
	list, err := f.h.Records.List("")
	seen := map[string]bool{}
	for _, r := range list {
		if r.BridgePort == nil || r.State != records.Up {
			continue
		}
		ports = append(ports, r.BridgePort)
		if t := r.BridgePort.OfTunnel(); t != nil && !seen[t.Link] {
			seen[t.Link] = true
			ports = append(ports, t)
		}
	}
	return ports, err
}

func (f frameRules) Check() error {
	err := errors.New("it is not on record")
	if f.h.Records.HasChange(f.o.Key()) {
		err = f.h.nft.Check(f.o)
	}
	if err != nil && !f.o.Required && unavailable(f.h.probeFrames()) {
		return nil
	}
	return err
}

// Remove deletes the table. The caller holds the host's lock.
func (f frameRules) Remove() error {
	if !f.h.Records.HasChange(f.o.Key()) {
		return nil
	}
	if err := f.h.nft.Remove(f.o); err != nil || f.h.nft.Check(f.o) == nil {
		return err // ports are in it of attachments that were made before there was a table
	}
	return f.h.Records.DeleteChange(f.o.Key())
}

func (f frameRules) Probe() error {
	err := f.h.probeFrames()
	if !f.o.Required && unavailable(err) {
		return nil
	}
	return err
}

// probeFrames tells whether the kernel takes the rules.
func (h *Rules) probeFrames() error {
	if p, ok := h.nft.(interface{ ProbeFrames() error }); ok {
		return p.ProbeFrames()
	}
	return nil
}

// unavailable reports whether an error says that the kernel lacks something.
func unavailable(err error) bool {
	e, is := errors.AsType[*wire.Error](err)
	return is && e.Code == wire.CodeUnavailable
}

// bridgePort is a [firewall.BridgePort].
type bridgePort struct {
	h *Rules
	o *firewall.BridgePort
}

func (p bridgePort) Ensure() (bool, error) {
	changed, err := p.h.nft.Ensure(p.o)
	return changed, p.orUnavailable(err)
}

func (p bridgePort) Check() error { return p.orUnavailable(p.h.nft.Check(p.o)) }
func (p bridgePort) Probe() error { return nil }

// orUnavailable is an error but where the kernel can't have the rules. Ports that are apart only
// are isolated all the same, but with bridge netfilter on.
func (p bridgePort) orUnavailable(err error) error {
	if err != nil && !p.o.Checked && unavailable(p.h.probeFrames()) {
		return nil
	}
	return err
}

// Remove takes the port out. One that is checked is deleted before: without its elements it
// would be open, and a container that is disconnected goes on running.
func (p bridgePort) Remove() error {
	if known := len(p.o.Addresses) > 0; wire.IsHostLink(p.o.Link) && (p.o.Checked || !known) {
		for _, name := range []string{p.o.Link, wire.FormerHostLink(p.o.Link)} {
			if name == "" {
				continue
			}
			if err := p.h.Root.RT.DelLink(name); err != nil && !spaces.Gone(err) {
				return err
			}
		}
		p.h.Changed()
	}
	return p.h.nft.Remove(p.o)
}
