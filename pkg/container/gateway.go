package container

// A GatewayCandidate is a network of a container, as far as the choice of the
// gateway network is concerned.
type GatewayCandidate struct {
	Name     string
	Internal bool
	Priority int
}

// Gateway returns which network has a container's default route, and so publishes
// its ports: the highest priority wins, then a network that is not internal, then
// the name that sorts first.
func Gateway(list []GatewayCandidate) int {
	best := 0
	for i, c := range list {
		if c.before(list[best]) {
			best = i
		}
	}
	return best
}

func (c GatewayCandidate) before(o GatewayCandidate) bool {
	switch {
	case c.Priority != o.Priority:
		return c.Priority > o.Priority
	case c.Internal != o.Internal:
		return !c.Internal
	}
	return c.Name < o.Name
}
