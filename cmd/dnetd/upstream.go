package main

import (
	"context"
	"net/netip"
	"os"
	"time"

	"dcni/pkg/dns"
	"dcni/pkg/names"
)

// lookEvery is how often the host's resolv.conf is read. The file may be a link to one
// that other programs replace; reading it costs less than watching for that.
const lookEvery = 500 * time.Millisecond

// watchUpstream reads the host's resolv.conf again and again.
func (d *dnetd) watchUpstream(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.readUpstream()
		}
	}
}

// readUpstream sets the host's name servers, if its resolv.conf has changed. Without
// a file there are none.
func (d *dnetd) readUpstream() {
	data, err := os.ReadFile(d.resolvConf)
	text := string(data)
	if d.resolvText != nil && *d.resolvText == text {
		return
	}
	d.resolvText = &text
	if err != nil {
		d.log.Warn("the host has no name servers", "error", err)
	}
	var servers []netip.AddrPort
	for _, a := range names.ParseResolvConf(text).Addresses() {
		servers = append(servers, netip.AddrPortFrom(a, names.DNSPort))
	}
	d.log.Info("upstream", "servers", servers)
	d.server.SetUpstream(dns.NewUpstream(servers, nil))
}
