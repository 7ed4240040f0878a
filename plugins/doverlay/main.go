// Command doverlay is the CNI plugin for Docker's overlay networks: package mode/overlay
// says what that is. README.md beside this file is the plugin's manual.
package main

import (
	"dcni/pkg/cni"
	_ "dcni/pkg/cni/version/first"
	"dcni/pkg/mode/overlay"
)

func main() { cni.Main(overlay.Plugin) }
