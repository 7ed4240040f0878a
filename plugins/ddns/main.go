// Command ddns is the CNI plugin that gives a container Docker's embedded name
// server. It comes in a list behind the plugin that makes the container's
// interface, be it one of ours or of another suite.
//
// What there must be for one attachment is said in package ddns. README.md beside
// this file is its manual.
package main

import (
	"dcni/pkg/cni"
	"dcni/pkg/ddns"
)

func main() { cni.Main(ddns.Plugin) }
