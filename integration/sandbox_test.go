package integration

import (
	"os"
	"strconv"
	"strings"

	"dcni/integration/testhost"
	"dcni/pkg/records"
)

// In calls f in a network namespace: one of a name, that of a container of
// `dnet run`, or for "podman:NAME" that of one of podman; for "NODE/NAME" one of
// another node.
func (s *session) In(name string, f func() error) error {
	if at, rest := s.script.find(s, name); at != s {
		return s.script.visit(at, func() error { return at.In(rest, f) })
	}
	path, err := sandboxPath(name)
	if err != nil {
		return err
	}
	return s.Host.In(path, f)
}

// sandboxPath finds the network namespace of a container. Other names are the
// throwaway host's to know.
func sandboxPath(name string) (string, error) {
	if container, found := strings.CutPrefix(name, "podman:"); found {
		path, err := podmanNetNS(container)
		return testhost.NetNSPath(path), err
	}
	if _, err := os.Stat(testhost.NetNSPath(name)); name == "host" || err == nil {
		return name, nil
	}
	list, err := records.Default().Containers()
	if err != nil {
		return "", err
	}
	for _, c := range list {
		if c.Name == name {
			return "/proc/" + strconv.Itoa(c.Process.PID) + "/ns/net", nil
		}
	}
	return name, nil
}
