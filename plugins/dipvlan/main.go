// Command dipvlan is the CNI plugin for Docker's ipvlan networks: package mode/ipvlan
// says what these are. README.md beside this file is the plugin's manual.
package main

import (
	"dcni/pkg/cni"
	_ "dcni/pkg/cni/version/first"
	"dcni/pkg/mode/ipvlan"
)

func main() { cni.Main(ipvlan.Plugin) }
