// Command gocni attaches as containerd's library does, which containerd's CRI, nerdctl, ctr, BuildKit and
// Nomad have: all networks of /etc/cni/net.d, at the same time.
//
//	gocni setup|remove ID [netns=PATH] [args=K=V;K=V] [ports=JSON]
//
// Plugins are in CNI_PATH. Without netns= there is none, as at most runtimes' DEL. "setup" prints each
// interface that the library knows from the results, with its addresses.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	gocni "github.com/containerd/go-cni"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gocni:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: gocni setup|remove ID [netns=PATH] [args=K=V;K=V] [ports=JSON]")
	}
	netns, options, err := words(args[2:])
	if err != nil {
		return err
	}
	library, err := gocni.New(gocni.WithPluginDir(filepath.SplitList(os.Getenv("CNI_PATH"))),
		gocni.WithPluginConfDir("/etc/cni/net.d"), gocni.WithInterfacePrefix("eth"), gocni.WithAllConf)
	if err != nil {
		return err
	}
	switch ctx := context.Background(); args[0] {
	case "remove":
		return library.Remove(ctx, args[1], netns, options...)
	case "setup":
		result, err := library.Setup(ctx, args[1], netns, options...)
		if err == nil {
			show(out, result)
		}
		return err
	}
	return fmt.Errorf("%s: want setup or remove", args[0])
}

// words reads what comes behind the ID.
func words(args []string) (netns string, options []gocni.NamespaceOpts, err error) {
	for _, arg := range args {
		word, value, _ := strings.Cut(arg, "=")
		switch word {
		case "netns":
			netns = value
		case "args":
			labels := map[string]string{} // the library passes them on in any order
			for _, pair := range strings.Split(value, ";") {
				k, v, _ := strings.Cut(pair, "=")
				labels[k] = v
			}
			options = append(options, gocni.WithLabels(labels))
		case "ports":
			var ports []gocni.PortMapping
			if err := json.Unmarshal([]byte(value), &ports); err != nil {
				return "", nil, err
			}
			options = append(options, gocni.WithCapabilityPortMap(ports))
		default:
			return "", nil, fmt.Errorf("%s=: want netns, args or ports", word)
		}
	}
	return netns, options, nil
}

func show(out io.Writer, result *gocni.Result) {
	for _, name := range slices.Sorted(maps.Keys(result.Interfaces)) {
		fmt.Fprint(out, name)
		for _, ip := range result.Interfaces[name].IPConfigs {
			fmt.Fprint(out, " ", ip.IP)
		}
		fmt.Fprintln(out)
	}
}
