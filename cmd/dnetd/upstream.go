package main

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"dcni/pkg/dns"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/names"
	"dcni/pkg/records/disk"
)

// lookEvery is how often the host's resolv.conf is read. The file may be a link to one
// that other programs replace; reading it costs less than watching for that.
const lookEvery = 500 * time.Millisecond

// An upstream is what decides what the host's name servers answer, as far as dnetd can
// see it.
type upstream struct {
	servers []netip.AddrPort
	ways    []rtnl.Way // by which each is reached: a VPN changes them. Zero: it is not reached
}

// equal reports whether both would get the same answers.
func (u upstream) equal(o upstream) bool {
	return slices.Equal(u.servers, o.servers) && slices.Equal(u.ways, o.ways)
}

// watchUpstream reads the host's resolv.conf again and again.
func (d *dnetd) watchUpstream(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for last := time.Now(); ; last = time.Now() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			now := time.Now()
			if slept(now.Round(0).Sub(last.Round(0)), now.Sub(last)) {
				d.server.Forget()
			}
			d.readUpstream()
		}
	}
}

// slept reports whether the host was suspended, by what the wall clock says has passed
// and what the monotonic one says, by which TTLs are measured: it stands still then.
func slept(wall, monotonic time.Duration) bool { return wall-monotonic > time.Second }

// readUpstream sets the host's name servers if its resolv.conf has changed, or how they
// are reached: answers that were kept may be others by now, those of containers' own
// servers too. Without a file there are none.
func (d *dnetd) readUpstream() {
	text, err := disk.ReadLimited(d.resolvConf, 0, names.MaxResolvConf)
	var is upstream
	for _, a := range names.ParseResolvConf(string(text)).Addresses() {
		is.servers = append(is.servers, netip.AddrPortFrom(a.Unmap(), names.DNSPort))
	}
	is.ways = waysTo(is.servers)
	if d.upstream != nil && d.upstream.equal(is) {
		return
	}
	first := d.upstream == nil
	d.upstream = &is
	if err != nil {
		d.log.Warn("the host has no name servers", "error", err)
	}
	d.log.Info("upstream", "servers", is.servers, "from", is.ways)
	u := dns.NewUpstream(is.servers, nil)
	if is.onHost() {
		u.KeepBriefly()
	}
	d.server.SetUpstream(u)
	if !first {
		d.server.Forget()
	}
}

// onHost reports whether a server is on an address of the host's own, as of a dnsmasq that
// serves the LAN, too: the kernel sends from that address to itself.
func (u *upstream) onHost() bool {
	for i, server := range u.servers {
		if u.ways[i].Source == server.Addr().WithZone("") {
			return true
		}
	}
	return false
}

// waysTo returns how datagrams to each server leave the host, as the kernel says: nothing is
// sent. Which MTU the route has changes no answer, and is left out.
func waysTo(servers []netip.AddrPort) []rtnl.Way {
	ways := make([]rtnl.Way, len(servers))
	rt, err := rtnl.Dial()
	if err != nil {
		return ways
	}
	defer rt.Close()
	for i, server := range servers {
		if way, err := rt.WayToPort(server); err == nil {
			way.MTU = 0
			ways[i] = way
		}
	}
	return ways
}
