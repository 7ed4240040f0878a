package main

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"dcni/pkg/dns"
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
	sources []netip.Addr // the host's addresses that each is asked from: a VPN changes them
}

// equal reports whether both would get the same answers.
func (u upstream) equal(o upstream) bool {
	return slices.Equal(u.servers, o.servers) && slices.Equal(u.sources, o.sources)
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
		server := netip.AddrPortFrom(a, names.DNSPort)
		is.servers, is.sources = append(is.servers, server), append(is.sources, sourceOf(server))
	}
	if d.upstream != nil && d.upstream.equal(is) {
		return
	}
	first := d.upstream == nil
	d.upstream = &is
	if err != nil {
		d.log.Warn("the host has no name servers", "error", err)
	}
	d.log.Info("upstream", "servers", is.servers, "from", is.sources)
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
		if u.sources[i] == server.Addr() {
			return true
		}
	}
	return false
}

// sourceOf returns the address that the kernel sends from to a server, the zero Addr if
// it is not reached. A connected UDP socket tells; it sends nothing.
func sourceOf(server netip.AddrPort) netip.Addr {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return netip.Addr{}
	}
	defer func() { _ = c.Close() }() // nothing was sent
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
}
