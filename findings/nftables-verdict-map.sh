#!/bin/sh
# google/nftables reads the verdicts of a map's elements as nothing.
#
# Version: github.com/google/nftables v0.3.0, nft 1.0.6 (Debian 12)
# SetElement.VerdictData is what an element of a verdict map is written with. Read again by GetSetElements it is nil for
# every element, and Val has the attributes of the verdict as the kernel sent them. A program that reads a rule set and asks
# VerdictData takes "iifname vmap { a : accept }" for a rule that does nothing.
. "$(dirname "$0")/common.sh"
debian nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11 libmnl0 libxtables12
module github.com/google/nftables@v0.3.0

cat >main.go <<'END'
package main

import (
	"fmt"

	"github.com/google/nftables"
)

func main() {
	c := &nftables.Conn{}
	set, err := c.GetSetByName(&nftables.Table{Name: "t", Family: nftables.TableFamilyINet}, "links")
	if err != nil {
		panic(err)
	}
	elements, err := c.GetSetElements(set)
	for _, e := range elements {
		fmt.Printf("verdict %v, value %x, error %v\n", e.VerdictData, e.Val, err)
	}
}
END
go mod tidy >/dev/null 2>&1
go build -o "$work/bin/" .
cat >"$work/rules.nft" <<'END'
table inet t {
	map links {
		type ifname : verdict
		elements = { "eth0" : accept }
	}
}
END
seen "verdict <nil>, value 0800010000000001, error <nil>" "$(alone sh -c "nft -f $work/rules.nft && $work/bin/finding")"
