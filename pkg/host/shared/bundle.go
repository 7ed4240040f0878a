package shared

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"strings"

	"dcni/pkg/names"
	"dcni/pkg/records/disk"
)

// states are where containerd keeps its state, as Debian and others install it
// and as k3s and RKE2 do.
var states = []string{"/run/containerd", "/run/k3s/containerd"}

// bundles is where in there the OCI bundles are of the containers that there are,
// as NAMESPACE/ID.
const bundles = "io.containerd.runtime.v2.task"

// Bundle returns what the OCI bundle of a container says of its names. ctr and
// nerdctl call a container NAMESPACE-ID, where either part may have a "-" in it.
// What Kubernetes and Podman call a container has none.
func (h Shared) Bundle(container string) names.Identity { return bundleIn(states, container) }

func bundleIn(states []string, container string) names.Identity {
	for i := range container {
		namespace, rest := container[:i], strings.TrimPrefix(container[i:], "-")
		if rest == container[i:] || rest == "" || rest[0] == '.' {
			continue
		}
		for _, state := range states {
			data, err := disk.ReadRegular(filepath.Join(state, bundles, namespace, rest, "config.json"))
			if err == nil {
				return identityOf(rest, data)
			}
		}
	}
	return names.Identity{Container: nerdctlID(container)}
}

// identityOf reads a container's configuration (OCI runtime specification): its
// annotations, nerdctl's and those that are for us, or what ctr knows, which has
// no names but IDs.
func identityOf(id string, config []byte) names.Identity {
	var spec struct {
		Hostname    string            `json:"hostname"`
		Annotations map[string]string `json:"annotations"`
	}
	_ = json.Unmarshal(config, &spec) // of a bundle that is being removed: nothing
	i := names.Annotated(spec.Annotations)
	i.Container = id
	i.Name = cmp.Or(i.Name, spec.Annotations["nerdctl/name"], id)
	i.Hostname = cmp.Or(i.Hostname, spec.Annotations["nerdctl/hostname"], spec.Hostname)
	return i
}

// nerdctlID returns what follows the namespace if that is an ID of nerdctl's, 64
// hexadecimal digits: a containerd with its state elsewhere keeps its bundles
// there, but the short ID is a name all the same.
func nerdctlID(container string) string {
	const digits = 64
	at := len(container) - digits
	if at < 1 || container[at-1] != '-' {
		return ""
	}
	if _, err := hex.DecodeString(container[at:]); err != nil {
		return ""
	}
	return container[at:]
}
