#!/bin/sh
# google/nftables loses elements without an error when there are many in one call.
#
# Version: github.com/google/nftables v0.3.0 (mdlayher/netlink v1.7.3)
# AddSet and SetAddElements put all elements into one netlink attribute, whose length has 16 bits. A longer one wraps: 5,000
# elements of an IPv4 address each, of 16 bytes, are taken and 904 of them are there. 4,096 are exactly 65,536 bytes, and an
# error that names no cause. Elements with long comments get there with a few hundred.
. "$(dirname "$0")/common.sh"
module github.com/google/nftables@v0.3.0

cat >main.go <<'END'
package main

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
)

func main() {
	for _, n := range []int{4000, 4096, 5000, 10000} {
		c := &nftables.Conn{}
		table := c.AddTable(&nftables.Table{Name: "t", Family: nftables.TableFamilyINet})
		set := &nftables.Set{Table: table, Name: fmt.Sprintf("s%d", n), KeyType: nftables.TypeIPAddr}
		elements := make([]nftables.SetElement, n)
		for i := range elements {
			elements[i].Key = binary.BigEndian.AppendUint32(nil, 0x0a000000+uint32(i))
		}
		err := c.AddSet(set, elements)
		if err == nil {
			err = c.Flush()
		}
		there, _ := (&nftables.Conn{}).GetSetElements(set)
		fmt.Printf("%d elements: error %v, %d are there\n", n, err, len(there))
	}
}
END
go mod tidy >/dev/null 2>&1
go build -o "$work/bin/" .
seen "$(cat <<-'END'
	4000 elements: error <nil>, 4000 are there
	4096 elements: error conn.Receive: netlink receive: no such file or directory, 0 are there
	5000 elements: error <nil>, 904 are there
	10000 elements: error <nil>, 1808 are there
END
)" "$(alone "$work/bin/finding" 2>&1)"
