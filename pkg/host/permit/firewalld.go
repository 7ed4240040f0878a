package permit

import (
	"errors"
	"fmt"
	"slices"

	"dcni/pkg/firewall/foreign"
	"dcni/pkg/host/firewalld"
	"dcni/pkg/wire"
)

// trusted is how records call firewalld's zone.
const trusted = "firewalld " + firewalld.Zone

// untrusted returns the blocks without those of a firewalld that has the bridge in its zone, or
// in another one, which is told: its owner put it there. It asks the daemon only if one of its
// chains drops. Without a daemon what drops can't be mended.
func (p permit) untrusted(blocks []foreign.Block) (rest []foreign.Block, told, err error) {
	ofFirewalld := func(b foreign.Block) bool { return b.Chain.OfFirewalld() }
	at := slices.IndexFunc(blocks, ofFirewalld)
	if at < 0 {
		return blocks, nil, nil
	}
	d, err := firewalld.Dial()
	if errors.Is(err, firewalld.ErrNotRunning) {
		return nil, nil, wire.Errorf(wire.CodeUnavailable, "%s, and %v; start it, or take its rules away by: nft delete table inet %s", p.drops(blocks[at]), err, blocks[at].Chain.Table)
	}
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	zone, err := d.ZoneOf(p.o.Bridge)
	if err != nil || zone == "" {
		return blocks, nil, err
	}
	if zone != firewalld.Zone {
		told = fmt.Errorf("bridge %s is in zone %s of firewalld, which drops what it forwards; let it pass by: firewall-cmd --zone=%s --change-interface=%[1]s",
			p.o.Bridge, zone, firewalld.Zone)
	}
	return slices.DeleteFunc(slices.Clone(blocks), ofFirewalld), told, nil
}

// trust puts the bridge into firewalld's zone.
func (p permit) trust() error {
	d, err := firewalld.Dial()
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Trust(p.o.Bridge)
}

// distrust takes the bridge out of firewalld's zone.
func (p permit) distrust() error {
	d, err := firewalld.Dial()
	if errors.Is(err, firewalld.ErrNotRunning) {
		return nil // what it had is gone with it
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Distrust(p.o.Bridge)
}
