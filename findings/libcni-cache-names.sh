#!/bin/sh
# Two attachments of different networks share one file of libcni's cache, and each is detached with the other's result.
#
# Version: github.com/containernetworking/cni v1.3.1
# libcni remembers the result of an ADD for CHECK and DEL, in a file NETWORK-CONTAINER-INTERFACE. All three may contain the
# hyphen that joins them: container "default-db" on network "web" (ctr's IDs have the namespace in front) and container "db"
# on network "web-default" have one file. The later ADD overwrites the earlier result. DEL of the first then hands the second's
# addresses to the plugin as prevResult, and removes the file; DEL of the second gets none. A plugin that believes prevResult
# on DEL takes away what another container has.
. "$(dirname "$0")/common.sh"
module github.com/containernetworking/cni@v1.3.1

cat >main.go <<'END'
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/containernetworking/cni/libcni"
)

func main() {
	ctx, dir := context.Background(), os.Args[1]
	cni := libcni.NewCNIConfigWithCacheDir([]string{dir}, dir+"/cache", nil)
	of := func(network, container string) (*libcni.NetworkConfigList, *libcni.RuntimeConf) {
		list, err := libcni.NetworkConfFromBytes([]byte(`{"cniVersion": "1.0.0", "name": "` + network + `", "plugins": [{"type": "log"}]}`))
		if err != nil {
			panic(err)
		}
		return list, &libcni.RuntimeConf{ContainerID: container, NetNS: "/proc/self/ns/net", IfName: "eth0"}
	}
	both := [][2]string{{"web", "default-db"}, {"web-default", "db"}}
	for _, a := range both {
		list, rt := of(a[0], a[1])
		if _, err := cni.AddNetworkList(ctx, list, rt); err != nil {
			panic(err)
		}
	}
	files, _ := os.ReadDir(dir + "/cache/results")
	fmt.Println("files:", len(files))
	for _, a := range both {
		list, rt := of(a[0], a[1])
		fmt.Printf("DEL of %s on %s: ", a[1], a[0])
		if err := cni.DelNetworkList(ctx, list, rt); err != nil {
			panic(err)
		}
		said, _ := os.ReadFile(dir + "/said")
		fmt.Println(strings.TrimSpace(string(said)))
	}
}
END
mkdir "$work/plugins"
cat >"$work/plugins/log" <<END
#!/bin/sh
case \$CNI_COMMAND in
VERSION) echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}' ;;
ADD)
	[ "\$CNI_CONTAINERID" = db ] && ip=10.2.0.2/24 || ip=10.1.0.2/24
	echo "{\"cniVersion\": \"1.0.0\", \"ips\": [{\"address\": \"\$ip\"}]}" ;;
DEL) sed -n 's/.*"prevResult":.*"address":"\([^"]*\)".*/prevResult has \1/p;t;s/.*/no prevResult/p' >"$work/plugins/said" ;;
esac
END
chmod +x "$work/plugins/log"

seen "$(cat <<-'END'
	files: 1
	DEL of default-db on web: prevResult has 10.2.0.2/24
	DEL of db on web-default: no prevResult
END
)" "$(go run . "$work/plugins")"
