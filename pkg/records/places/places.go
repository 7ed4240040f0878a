// Package places says where records, and the configurations of networks, are: where the system has them, or for
// root in a user's own namespaces below that user's directories (XDG base directory specification).
package places

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Conf is where runtimes look for networks: /etc/cni/net.d, or what a rootless nerdctl has.
func Conf() string {
	return own("/etc/cni/net.d", "cni/net.d", os.Getenv("XDG_CONFIG_HOME"), home(".config"))
}

// Run is for what ends with the host: /run/dcni.
func Run() string { return own("/run/dcni", "dcni", os.Getenv("XDG_RUNTIME_DIR")) }

// Lib is for what stays, in the system's folder for it.
func Lib(system string) string {
	return own(system, "dcni", os.Getenv("XDG_DATA_HOME"), home(".local/share"))
}

// Environment is what decides where these are, for programs that are started without the rest of it.
func Environment() (list []string) {
	for _, name := range []string{"HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME"} {
		if value, given := os.LookupEnv(name); given {
			list = append(list, name+"="+value)
		}
	}
	return list
}

func home(dir string) string {
	if h := os.Getenv("HOME"); h != "" {
		return filepath.Join(h, dir)
	}
	return ""
}

// own returns a folder of the system's. Root in a user namespace is a user of the host's, and where the folder is
// the host's, one of that name in the first of the user's folders that is known is its own. A folder that
// the namespaces have for themselves, as a system container does, is used as ever.
func own(system, name string, users ...string) string {
	if !isUser() || isRoots(system) {
		return system
	}
	for _, dir := range users {
		if filepath.IsAbs(dir) {
			return filepath.Join(dir, name)
		}
	}
	return system
}

// isUser reports whether this is root of a user namespace that is not the host's: not all identities are
// there (user_namespaces(7)).
var isUser = func() bool {
	ids, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && os.Geteuid() == 0 && strings.Join(strings.Fields(string(ids)), " ") != "0 0 4294967295"
}

// isRoots reports whether a folder, or the one that it would be made in, is root's.
func isRoots(dir string) bool {
	for {
		var s unix.Stat_t
		if unix.Stat(dir, &s) == nil {
			return s.Uid == 0
		}
		if dir == "/" {
			return true
		}
		dir = filepath.Dir(dir)
	}
}
