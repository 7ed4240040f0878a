// Command ddns is the CNI plugin that gives a container Docker's embedded name
// server behind a main plugin of another suite: package mode/names says what that
// is. README.md beside this file is the plugin's manual.
package main

import (
	"dcni/pkg/cni"
	_ "dcni/pkg/cni/version/first"
	"dcni/pkg/mode/names"
)

func main() { cni.Main(names.Plugin) }
