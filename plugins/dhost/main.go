// Command dhost is the CNI plugin for Docker's network "host": package mode/host says
// what that is. README.md beside this file is the plugin's manual.
package main

import (
	"dcni/pkg/cni"
	_ "dcni/pkg/cni/version/first"
	"dcni/pkg/mode/host"
)

func main() { cni.Main(host.Plugin) }
