#!/bin/sh
# go-cni, containerd's CNI library, sends port mappings with capitalised keys.
#
# Version: github.com/containerd/go-cni v1.1.13
# CNI's conventions name the keys of portMappings hostPort, containerPort, protocol and hostIP. go-cni's struct has no JSON
# tags, so a plugin under containerd or nerdctl is sent HostPort, ContainerPort, Protocol and HostIP. encoding/json folds
# case, and hides it; a plugin that compares keys by itself sees no port.
. "$(dirname "$0")/common.sh"
module github.com/containerd/go-cni@v1.1.13

cat >main.go <<'END'
package main

import (
	"context"
	"os"

	"github.com/containerd/go-cni"
)

func main() {
	dir := os.Args[1]
	c, err := cni.New(cni.WithPluginDir([]string{dir}), cni.WithPluginConfDir(dir))
	if err == nil {
		err = c.Load(cni.WithConfListBytes([]byte(`{"cniVersion": "1.0.0", "name": "web", "plugins": [{"type": "log", "capabilities": {"portMappings": true}}]}`)))
	}
	if err == nil {
		ports := []cni.PortMapping{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
		_, err = c.Setup(context.Background(), "c1", "/run/netns/c1", cni.WithCapabilityPortMap(ports))
	}
	if err != nil {
		panic(err)
	}
}
END
mkdir "$work/plugins"
cat >"$work/plugins/log" <<END
#!/bin/sh
[ "\$CNI_COMMAND" != ADD ] || cat >"$work/plugins/stdin"
echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1"}], "ips": [{"address": "10.0.0.2/24", "interface": 0}]}'
END
chmod +x "$work/plugins/log"

seen '"portMappings":[{"HostPort":8080,"ContainerPort":80,"Protocol":"tcp","HostIP":""}]' \
	"$(go run . "$work/plugins" && grep -o '"portMappings":\[.*\]' "$work/plugins/stdin")"
