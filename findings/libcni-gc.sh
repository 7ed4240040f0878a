#!/bin/sh
# libcni's GC of a list below version 1.1.0 succeeds and calls no plugin.
#
# Version: github.com/containernetworking/cni v1.3.1
# GCNetworkList tells plugins which attachments are valid. For a list of version 1.0.0 it returns nil and executes nothing,
# as GC came with 1.1.0. A list that has both versions among its cniVersions is of the higher one. Who tests GC by a list
# of 1.0.0 tests nothing, and a runtime that calls GC on such networks cleans up nothing.
. "$(dirname "$0")/common.sh"
module github.com/containernetworking/cni@v1.3.1

cat >main.go <<'END'
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containernetworking/cni/libcni"
)

func main() {
	for _, version := range []string{`"cniVersion": "1.0.0"`, `"cniVersion": "1.1.0"`, `"cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"]`} {
		list, err := libcni.NetworkConfFromBytes([]byte(`{` + version + `, "name": "web", "plugins": [{"type": "log"}]}`))
		if err != nil {
			panic(err)
		}
		cni := libcni.NewCNIConfigWithCacheDir([]string{os.Args[1]}, os.Args[1]+"/cache", nil)
		err = cni.GCNetworkList(context.Background(), list, &libcni.GCArgs{})
		calls, _ := os.ReadFile(os.Args[1] + "/calls")
		_ = os.Remove(os.Args[1] + "/calls")
		fmt.Printf("%s: error %v, calls %q\n", version, err, calls)
	}
}
END
mkdir "$work/plugins"
cat >"$work/plugins/log" <<END
#!/bin/sh
[ "\$CNI_COMMAND" != VERSION ] || { echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"]}'; exit; }
echo "\$CNI_COMMAND" >>"$work/plugins/calls"
END
chmod +x "$work/plugins/log"

seen "$(cat <<-'END'
	"cniVersion": "1.0.0": error <nil>, calls ""
	"cniVersion": "1.1.0": error <nil>, calls "GC\n"
	"cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"]: error <nil>, calls "GC\n"
END
)" "$(go run . "$work/plugins")"
