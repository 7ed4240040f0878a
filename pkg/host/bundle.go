package host

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"dcni/pkg/names"
)

// bundles is where containerd keeps the OCI bundles of the containers that there
// are, as NAMESPACE/ID.
const bundles = "/run/containerd/io.containerd.runtime.v2.task"

// Bundle returns what the OCI bundle of a container says of its names. ctr and
// nerdctl call a container NAMESPACE-ID, where either part may have a "-" in it.
// What Kubernetes and Podman call a container has none.
func (h *Host) Bundle(container string) names.Identity { return bundleIn(bundles, container) }

func bundleIn(dir, container string) names.Identity {
	for i := range container {
		namespace, rest := container[:i], strings.TrimPrefix(container[i:], "-")
		if rest == container[i:] || rest == "" || rest[0] == '.' {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, namespace, rest, "config.json"))
		if err == nil {
			return identityOf(rest, data)
		}
	}
	return names.Identity{}
}

// identityOf reads a container's configuration (OCI runtime specification):
// nerdctl's annotations, or what ctr knows, which has no names but IDs.
func identityOf(id string, config []byte) names.Identity {
	var spec struct {
		Hostname    string            `json:"hostname"`
		Annotations map[string]string `json:"annotations"`
	}
	_ = json.Unmarshal(config, &spec) // of a bundle that is being removed: nothing
	i := names.Identity{Container: id, Name: id, Hostname: spec.Hostname}
	if name := spec.Annotations["nerdctl/name"]; name != "" {
		i.Name = name
	}
	if hostname := spec.Annotations["nerdctl/hostname"]; hostname != "" {
		i.Hostname = hostname
	}
	return i
}
