package container

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"dcni/pkg/service"
)

// ServicePorts reads what -p of `dnet service create` says: PUBLISHED:TARGET[/PROTOCOL], each a port
// or a range, or published=PORT,target=PORT[,protocol=PROTOCOL][,mode=ingress|host]. host reports
// whether they say mode=host: the port is published where a task is.
func ServicePorts(words []string) (ports []service.Port, host bool, err error) {
	modes := map[string]bool{}
	for _, word := range words {
		mode, err := modeOf(word)
		if err != nil {
			return nil, false, err
		}
		modes[mode] = true
		list, err := ParsePublish(word)
		if err != nil {
			return nil, false, fmt.Errorf("-p %s: %w", word, err)
		}
		for _, p := range list {
			switch {
			case p.HostIP.IsValid():
				return nil, false, fmt.Errorf("-p %s: must have no address of the host: a service's port is on all of them", word)
			case p.HostPort == 0:
				return nil, false, fmt.Errorf("-p %s: must say the published port, 1 to 65535, as 8080:%d", word, p.ContainerPort)
			case p.Last != p.HostPort:
				return nil, false, fmt.Errorf("-p %s: must be as many published ports as target ports", word)
			}
			one := service.Port{Published: p.HostPort, Target: p.ContainerPort, Protocol: p.Protocol}
			if slices.ContainsFunc(ports, func(o service.Port) bool { return o.Published == one.Published && o.Protocol == one.Protocol }) {
				return nil, false, fmt.Errorf("-p %s: publishes %d/%s a second time", word, one.Published, one.Protocol)
			}
			ports = append(ports, one)
		}
	}
	if len(modes) > 1 {
		return nil, false, errors.New("-p: mode must be the same for all ports of a service: ingress or host")
	}
	return ports, modes["host"], nil
}

// modeOf returns the mode that a -p says, ingress where it says none.
func modeOf(word string) (string, error) {
	for field := range strings.SplitSeq(word, ",") {
		if mode, is := strings.CutPrefix(field, "mode="); is {
			if mode != "ingress" && mode != "host" {
				return "", fmt.Errorf("-p %s: mode must be ingress or host", word)
			}
			return mode, nil
		}
	}
	return "ingress", nil
}
