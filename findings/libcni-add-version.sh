#!/bin/sh
# An older libcni runs ADD before it finds that it does not know the version.
#
# Version: github.com/containernetworking/cni v1.1.2; containerd 1.6 and Podman 4.3 show the same error
# A list of a newer version than libcni knows is not refused when it is read. AddNetworkList executes the plugin, which
# attaches the container, and then fails on the result. What the plugin made stays until somebody calls DEL.
. "$(dirname "$0")/common.sh"
module github.com/containernetworking/cni@v1.1.2

cat >main.go <<'END'
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containernetworking/cni/libcni"
)

func main() {
	list, err := libcni.ConfListFromBytes([]byte(`{"cniVersion": "1.1.0", "name": "web", "plugins": [{"type": "log"}]}`))
	fmt.Println("read:", err)
	cni := libcni.NewCNIConfigWithCacheDir([]string{os.Args[1]}, os.Args[1]+"/cache", nil)
	_, err = cni.AddNetworkList(context.Background(), list, &libcni.RuntimeConf{ContainerID: "c1", NetNS: "/run/netns/c1", IfName: "eth0"})
	calls, _ := os.ReadFile(os.Args[1] + "/calls")
	fmt.Printf("ADD: %v, calls %q\n", err, calls)
}
END
mkdir "$work/plugins"
cat >"$work/plugins/log" <<END
#!/bin/sh
echo "\$CNI_COMMAND" >>"$work/plugins/calls"
echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]}'
END
chmod +x "$work/plugins/log"

seen "$(cat <<-'END'
	read: <nil>
	ADD: plugin type="log" failed (add): unsupported CNI result version "1.1.0", calls "ADD\n"
END
)" "$(go run . "$work/plugins")"
