// Command dbridge is the CNI plugin for Docker's bridge networks: package mode/bridge says
// what that is. README.md beside this file is the plugin's manual.
package main

import (
	"dcni/pkg/cni"
	_ "dcni/pkg/cni/version/first"
	"dcni/pkg/mode/bridge"
)

func main() { cni.Main(bridge.Plugin) }
