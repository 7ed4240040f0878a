package integration

import (
	"os"
	"strconv"

	"dcni/integration/lab"
	"dcni/pkg/records"
)

// In calls f in a network namespace: one of a name, or that of a container of
// `dnet run`.
func (s *session) In(name string, f func() error) error {
	if _, err := os.Stat(lab.NetNSPath(name)); name == "host" || err == nil {
		return s.Host.In(name, f)
	}
	list, err := records.Default().Containers()
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.Name == name {
			name = "/proc/" + strconv.Itoa(c.Process.PID) + "/ns/net"
			break
		}
	}
	return s.Host.In(name, f)
}
