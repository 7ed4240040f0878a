package overlay

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// A node that is not alive may be cut off, and its containers running: what it has stays
// claimed for a time of grace. After that it stays as long as no other container needs it: a claim that
// finds no other address free takes one of such a node, and a network on which nothing else
// is may be removed.

// Grace is how long a dead node keeps its addresses, unless dclusterd is told otherwise.
const Grace = 24 * 3600 // seconds

// A Death is that of a node, which is one by its key node/NAME.
type Death struct {
	Since int64 `json:"since"` // seconds since 1970: when another node noticed
	Until int64 `json:"until"` // likewise: what the node has is kept for it
}

// NoteDeaths notes which nodes have died, and which are alive again or removed, and returns
// how many nodes there are. Any node may do so at any time. The time of grace is in seconds.
func (c Cluster) NoteDeaths(ctx context.Context, grace int64) (nodes int, err error) {
	var known, alive, dead map[string]Entry
	for _, l := range []struct {
		prefix string
		into   *map[string]Entry
	}{{c.Keys.Node(""), &known}, {c.Keys.Alive(""), &alive}, {c.Keys.Dead(""), &dead}} {
		if *l.into, err = c.byName(ctx, l.prefix); err != nil {
			return 0, err
		}
	}
	now := c.now()
	death := Death{Since: now, Until: now + grace}
	for name, node := range known {
		if alive[name].Modified != 0 || dead[name].Modified != 0 {
			continue
		}
		key := c.Keys.Dead(name)
		t := Txn{If: []Condition{{Key: node.Key, Created: node.Created}, {Key: c.Keys.Alive(name)}, {Key: key}}, Then: []Change{put(key, death)}}
		if _, _, err := c.Store.Commit(ctx, t); err != nil {
			return len(known), err
		}
	}
	for name, e := range dead {
		if alive[name].Modified == 0 && known[name].Modified != 0 {
			continue
		}
		if _, _, err := c.Store.Commit(ctx, Txn{If: []Condition{unchanged(e)}, Then: []Change{remove(e.Key)}}); err != nil {
			return len(known), err
		}
	}
	return len(known), nil
}

// Return takes back that this node has died. It does so before it looks at what it has: from
// then on no node takes that away.
func (c Cluster) Return(ctx context.Context) error {
	_, _, err := c.Store.Commit(ctx, Txn{Then: []Change{remove(c.Keys.Dead(c.Node))}})
	return err
}

// Deaths returns which nodes have died, by name.
func (c Cluster) Deaths(ctx context.Context) (map[string]Death, error) {
	dead, err := c.byName(ctx, c.Keys.Dead(""))
	of := make(map[string]Death, len(dead))
	for name, e := range dead {
		if d, err := read[Death](e); err == nil {
			of[name] = d
		}
	}
	return of, err
}

// byName returns the entries below a prefix by what follows it.
func (c Cluster) byName(ctx context.Context, prefix string) (map[string]Entry, error) {
	entries, err := c.list(ctx, prefix)
	of := make(map[string]Entry, len(entries))
	for _, e := range entries {
		of[strings.TrimPrefix(e.Key, prefix)] = e
	}
	return of, err
}

func (c Cluster) now() int64 {
	if c.Now != nil {
		return c.Now()
	}
	return 0
}

// lapsed returns the deaths of nodes whose time of grace is over, by name.
func (c Cluster) lapsed(ctx context.Context) (map[string]Entry, error) {
	dead, err := c.byName(ctx, c.Keys.Dead(""))
	now := c.now()
	maps.DeleteFunc(dead, func(_ string, e Entry) bool {
		d, err := read[Death](e)
		return err != nil || now < d.Until
	})
	return dead, err
}

// releaseLapsed gives back what an attachment of a dead node has: its endpoint with all that
// was claimed for it, or an address that no endpoint has. It does nothing, and reports so,
// where the node has come back.
func (c Cluster) releaseLapsed(ctx context.Context, network string, o Owner, a netip.Addr, death Entry) (released bool, err error) {
	still := []Condition{unchanged(death), {Key: c.Keys.Alive(o.Node)}}
	err = again(o.String(), func() (bool, error) {
		if back, err := c.isBack(ctx, o.Node, death); back || err != nil {
			return true, err
		}
		ep, err := c.get(ctx, c.Keys.Endpoint(network, o.Node, o.Attachment))
		if err != nil {
			return false, err
		}
		if ep.Modified != 0 {
			released, err = c.tryRelease(ctx, network, o, still...)
			return released, err
		}
		e, err := c.get(ctx, c.Keys.Addr(network, a))
		if err != nil || e.Modified == 0 || ParseOwner(e.Value) != o {
			released = err == nil
			return true, err
		}
		t := Txn{If: append([]Condition{unchanged(e), {Key: ep.Key}}, still...), Then: []Change{remove(e.Key)}}
		released, _, err = c.Store.Commit(ctx, t)
		return released, err
	})
	return released, err
}

// isBack reports whether a node has come back since its death was read.
func (c Cluster) isBack(ctx context.Context, node string, death Entry) (bool, error) {
	now, err := c.get(ctx, death.Key)
	if err != nil || now.Modified != death.Modified {
		return true, err
	}
	alive, err := c.get(ctx, c.Keys.Alive(node))
	return alive.Modified != 0, err
}

// releaseAllLapsed gives back a network's endpoints if all are on nodes whose time of grace is
// over. Otherwise it leaves them, and returns those that are in use.
func (c Cluster) releaseAllLapsed(ctx context.Context, network string, eps []Placed) (inUse []Placed, err error) {
	if len(eps) == 0 {
		return nil, nil
	}
	lapsed, err := c.lapsed(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range eps {
		if _, is := lapsed[e.Node]; !is {
			inUse = append(inUse, e)
		}
	}
	if len(inUse) > 0 {
		return inUse, nil
	}
	for _, e := range eps {
		released, err := c.releaseLapsed(ctx, network, e.Owner, netip.Addr{}, lapsed[e.Node])
		if err != nil {
			return nil, err
		}
		if !released {
			inUse = append(inUse, e)
		}
	}
	return inUse, nil
}

// freeLapsed frees an address of a set that a dead node has, of the one that died first. It
// reports false where there is none.
func (s *search) freeLapsed(ctx context.Context, fits func(netip.Addr) bool) (bool, error) {
	lapsed, err := s.lapsed(ctx)
	if err != nil || len(lapsed) == 0 {
		return false, err
	}
	addresses := slices.Collect(maps.Keys(s.used))
	slices.SortFunc(addresses, func(a, b netip.Addr) int {
		if d := lapsed[s.used[a].Node].Created - lapsed[s.used[b].Node].Created; d != 0 {
			return int(d)
		}
		return a.Compare(b)
	})
	for _, a := range addresses {
		o := s.used[a]
		death, is := lapsed[o.Node]
		if !is || !fits(a) {
			continue
		}
		released, err := s.releaseLapsed(ctx, s.net.Name, o, a, death)
		if released {
			maps.DeleteFunc(s.used, func(_ netip.Addr, owner Owner) bool { return owner == o })
		}
		if released || err != nil {
			return released, err
		}
	}
	return false, nil
}
