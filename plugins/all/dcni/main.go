// Command dcni is all plugins in one file, which packages have: it is the plugin by whose
// name it is called. `make build` makes a program of each instead.
package main

import (
	"dcni/pkg/cni"
	_ "dcni/pkg/cni/version/first"
	"dcni/pkg/mode"
)

func main() { cni.MainAll(mode.All) }
