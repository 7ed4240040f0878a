package container

// A Way is a network of a container as a way out of it.
type Way struct {
	Name     string
	Internal bool
	Priority int
}

// Gateway returns which network is a container's way out, and so the one that
// publishes its ports: that of the highest priority, one that is not internal
// before one that is, the name that sorts first.
func Gateway(list []Way) int {
	best := 0
	for i, w := range list {
		if w.before(list[best]) {
			best = i
		}
	}
	return best
}

func (w Way) before(o Way) bool {
	switch {
	case w.Priority != o.Priority:
		return w.Priority > o.Priority
	case w.Internal != o.Internal:
		return !w.Internal
	}
	return w.Name < o.Name
}
