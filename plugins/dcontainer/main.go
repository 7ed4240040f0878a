// Command dcontainer is the CNI plugin for Docker's network mode container:NAME: package
// mode/container says what that is. README.md beside this file is the plugin's manual.
package main

import (
	"dcni/pkg/cni"
	_ "dcni/pkg/cni/version/first"
	"dcni/pkg/mode/container"
)

func main() { cni.Main(container.Plugin) }
