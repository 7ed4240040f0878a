// Command dmacvlan is the CNI plugin for Docker's macvlan networks: package mode/macvlan
// says what that is. README.md beside this file is the plugin's manual.
package main

import (
	"dcni/pkg/cni"
	_ "dcni/pkg/cni/version/first"
	"dcni/pkg/mode/macvlan"
)

func main() { cni.Main(macvlan.Plugin) }
