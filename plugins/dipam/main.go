// Command dipam is the CNI plugin for addresses: Docker's default address
// management, for anybody's main plugin. The plugins of dcni call the same
// code within their own process.
//
// README.md beside this file is its manual.
package main

import (
	"dcni/pkg/cni"
	_ "dcni/pkg/cni/version/first"
)

func main() { cni.MainIPAM("dipam") }
