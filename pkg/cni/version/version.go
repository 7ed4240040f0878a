// Package version says which versions of the CNI specification the plugins speak.
package version

import "strings"

// Spoken are the versions that all plugins speak, oldest first.
var Spoken = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// Answer is what VERSION prints (CNI specification, "Version success"), a line of JSON.
func Answer() string {
	return `{"cniVersion":"` + Spoken[len(Spoken)-1] + `","supportedVersions":["` + strings.Join(Spoken, `","`) + "\"]}\n"
}
