package catalog

import "slices"

// predefined are the networks that every host has, as with Docker, though no
// file says so. A file that names one of them takes its place.
var predefined = []struct{ name, conflist string }{
	{"bridge", `{
  "cniVersion": "1.0.0",
  "cniVersions": ["1.0.0", "1.1.0"],
  "name": "bridge",
  "plugins": [
    {
      "type": "dbridge",
      "capabilities": {"aliases": true, "bandwidth": true, "ips": true, "mac": true, "portMappings": true},
      "defaultBridge": true,
      "ipam": {"type": "dipam"}
    }
  ]
}
`},
	{"host", `{
  "cniVersion": "1.0.0",
  "cniVersions": ["1.0.0", "1.1.0"],
  "name": "host",
  "plugins": [{"type": "dhost"}]
}
`},
	{"none", `{
  "cniVersion": "1.0.0",
  "cniVersions": ["1.0.0", "1.1.0"],
  "name": "none",
  "plugins": [{"type": "dnone"}]
}
`},
}

// Predefined reports whether a name is Docker's own: such a network can be
// neither created nor removed. "default" is another word for bridge.
func Predefined(name string) bool {
	return name == "default" || slices.Contains(BuiltIn(), name)
}

// BuiltIn returns the names of the networks that need no file.
func BuiltIn() []string {
	names := make([]string, len(predefined))
	for i, p := range predefined {
		names[i] = p.name
	}
	return names
}

// BuiltInConflist returns the configuration of a network of [BuiltIn], nil for
// other names.
func BuiltInConflist(name string) []byte {
	for _, p := range predefined {
		if p.name == name {
			return []byte(p.conflist)
		}
	}
	return nil
}
