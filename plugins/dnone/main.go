// Command dnone is the CNI plugin for Docker's network "none": package mode/none says
// what that is. README.md beside this file is the plugin's manual.
package main

import (
	"dcni/pkg/cni"
	_ "dcni/pkg/cni/version/first"
	"dcni/pkg/mode/none"
)

func main() { cni.Main(none.Plugin) }
