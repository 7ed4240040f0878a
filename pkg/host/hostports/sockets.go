package hostports

// Sockets are the host's by protocol and port, each protocol's listed once.
type Sockets map[string]map[uint16][]Listener

// Of returns a protocol's by port. The first time list is asked for them: [Listeners] or
// [Connections].
func (s *Sockets) Of(protocol string, list func(string) ([]Listener, error)) (map[uint16][]Listener, error) {
	if known, ok := (*s)[protocol]; ok {
		return known, nil
	}
	all, err := list(protocol)
	if err != nil {
		return nil, err
	}
	ports := make(map[uint16][]Listener, len(all))
	for _, l := range all {
		ports[l.Port] = append(ports[l.Port], l)
	}
	if *s == nil {
		*s = Sockets{}
	}
	(*s)[protocol] = ports
	return ports, nil
}
