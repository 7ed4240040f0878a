package container

import (
	"fmt"
	"slices"

	"dcni/pkg/firewall"
)

// publishAll publishes the ports that are exposed and not published yet, each on a port that
// is chosen.
func (s *Spec) publishAll() {
	for _, e := range s.Exposed {
		published := slices.ContainsFunc(s.Ports, func(p Publish) bool { return p.ContainerPort == e.Port && p.Protocol == e.Protocol })
		if !published {
			s.Ports = append(s.Ports, Publish{Port: firewall.Port{ContainerPort: e.Port, Protocol: e.Protocol}})
		}
	}
}

// AllExposed returns the ports that are exposed, those that are published among them, as
// Docker writes them, in order.
func (s *Spec) AllExposed() []string {
	var list []string
	for _, e := range s.Exposed {
		list = append(list, e.String())
	}
	for _, p := range s.Ports {
		list = append(list, firewall.Exposed{Protocol: p.Protocol, Port: p.ContainerPort}.String())
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// ParsePortFilter reads the value of the filters publish and expose of ps: PORT[-LAST][/PROTOCOL].
// It returns what tells whether a port is meant.
func ParsePortFilter(name, text string) (func(firewall.Exposed) bool, error) {
	list, err := firewall.ParseExposed(text)
	if err != nil {
		return nil, fmt.Errorf("invalid filter '%s=%s': must be PORT or FIRST-LAST, and then /PROTOCOL or nothing", name, text)
	}
	return func(e firewall.Exposed) bool { return slices.Contains(list, e) }, nil
}
