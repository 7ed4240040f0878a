#!/bin/sh
# nft lists names of interfaces as empty if the set was made without saying its byte order.
#
# Version: github.com/google/nftables v0.3.0, nft 1.0.6 (Debian 12)
# The kernel matches by bytes and needs no byte order; nft needs it to print what it reads, and takes it from user data that
# it writes itself when it makes a set. The library writes it only if Set.KeyByteOrder is given. Without it the set works,
# and nft lists its elements as "".
. "$(dirname "$0")/common.sh"
debian nftables=1.0.6-2+deb12u2 libnftables1=1.0.6-2+deb12u2 libnftnl11 libmnl0 libxtables12
module github.com/google/nftables@v0.3.0

cat >main.go <<'END'
package main

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
)

func main() {
	c := &nftables.Conn{}
	table := c.AddTable(&nftables.Table{Name: "t", Family: nftables.TableFamilyINet})
	name := make([]byte, 16)
	copy(name, "eth0")
	for _, set := range []*nftables.Set{
		{Table: table, Name: "without", KeyType: nftables.TypeIFName},
		{Table: table, Name: "with", KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian},
	} {
		if err := c.AddSet(set, []nftables.SetElement{{Key: name}}); err != nil {
			panic(err)
		}
	}
	if err := c.Flush(); err != nil {
		panic(err)
	}
}
END
go mod tidy >/dev/null 2>&1
go build -o "$work/bin/" .
seen "$(cat <<-'END'
	set without {
	elements = { "" }
	set with {
	elements = { "eth0" }
END
)" "$(alone sh -c "$work/bin/finding && nft list table inet t | grep -E 'set|elements' | sed 's/^[[:space:]]*//'")"
