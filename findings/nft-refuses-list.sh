#!/bin/sh
# nft refuses to load a translation of ports that the kernel has and that nft itself lists.
#
# Version: nft 1.0.6 (Debian 12), with a rule made through github.com/google/nftables v0.3.0
# The kernel takes a rule that translates to an address and a port without asking for the protocol, over netlink. nft lists it as
# "dnat to 10.77.0.2:80". nft -f of that text is refused, the whole file with it: the protocol must be matched in the same rule, and one in
# the rule before, that lets nothing else through, does not count. One would expect that what is listed can be loaded. Hosts that
# save the rule set with nft and load it when they boot have no rules at all then; who writes rules over netlink has to put the protocol in each.
. "$(dirname "$0")/common.sh"
debian nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11 libmnl0 libxtables12
module github.com/google/nftables@v0.3.0
cat >main.go <<'END'
package main

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

func main() {
	c := &nftables.Conn{}
	t := c.AddTable(&nftables.Table{Name: "t", Family: nftables.TableFamilyIPv4})
	chain := c.AddChain(&nftables.Chain{Name: "publish", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting,
		Priority: nftables.ChainPriorityNATDest})
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
		&expr.Immediate{Register: 1, Data: []byte{10, 77, 0, 2}},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(80)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: 2, RegAddrMin: 1, RegProtoMin: 2, Specified: true},
	}})
	if err := c.Flush(); err != nil {
		panic(err)
	}
}
END
go mod tidy >/dev/null 2>&1
go build -o "$work/bin/make" .
cat >"$work/script" <<'END'
make
nft list table ip t | grep dnat | tr -d '\t'
nft list ruleset >"$work/saved"
nft flush ruleset
nft -f "$work/saved" 2>&1 | sed -n 's/.*Error: //p'
echo "tables: $(nft list tables | wc -l)"
sed -i 's/dnat/meta l4proto tcp dnat/' "$work/saved"
nft -f "$work/saved" && echo "with the protocol: loaded"
END
export work
PATH=$work/bin:$PATH
seen "$(cat <<-'END'
	dnat to 10.77.0.2:80
	transport protocol mapping is only valid after transport protocol match
	tables: 0
	with the protocol: loaded
END
)" "$(alone sh "$work/script")"
