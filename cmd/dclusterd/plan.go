package main

import (
	"cmp"
	"slices"
	"time"

	"dcni/pkg/overlay/etcd"
)

// How long a member may be unwell.
const (
	learnTime = 5 * time.Minute  // a learner that has not caught up by then is removed
	deadTime  = 10 * time.Minute // a member that was away so long is replaced
)

// A memberView is what the store's leader sees of its members.
type memberView struct {
	members []etcd.Member
	leader  string   // name
	nodes   []string // that are alive, by name
	all     int      // nodes of the cluster
	asked   int      // how many members an administrator wants; 0: as many as the nodes want
	// unwell says for how long a member has not answered, or has been a learner.
	unwell map[string]time.Duration // by ID
}

// A memberStep is what the leader does next: one thing at a time.
type memberStep struct {
	promote, remove string // ID
	add             string // node
}

// wanted is how many members there are to be: three from three nodes on. It is never an
// even number, which bears no more failures than one less, and of two members each takes
// the store with it. So none is added, and one removed, where that would be the last step.
func (v memberView) wanted() int {
	switch {
	case v.asked != 0:
		return v.asked
	case v.all < 3:
		return 1
	}
	return 3
}

// next decides. Where nothing is to be done, the step is zero.
func (v memberView) next() memberStep {
	for _, m := range v.members {
		if !m.Learner && m.Name != "" {
			continue
		}
		switch {
		case v.unwell[m.ID] > learnTime:
			return memberStep{remove: m.ID}
		case m.Name == "" || m.Error != "":
			return memberStep{} // it is starting
		}
		return memberStep{promote: m.ID}
	}
	candidates, n, want := v.candidates(), len(v.members), v.wanted()
	even := n%2 == 0
	switch {
	case n < want && (len(candidates) > 1 || even && len(candidates) > 0):
		return memberStep{add: candidates[0]}
	case n > want, even && len(candidates) == 0:
		return memberStep{remove: v.spare()}
	}
	if dead := v.dead(); dead != "" && len(candidates) > 0 {
		return memberStep{remove: dead}
	}
	return memberStep{}
}

// candidates are the living nodes without a member, by name.
func (v memberView) candidates() []string {
	return slices.DeleteFunc(slices.Sorted(slices.Values(v.nodes)), func(node string) bool {
		return slices.ContainsFunc(v.members, func(m etcd.Member) bool { return m.Name == node })
	})
}

// spare returns the member that is missed least: one that does not answer, or the last by
// name, and never the leader.
func (v memberView) spare() string {
	list := slices.DeleteFunc(slices.Clone(v.members), func(m etcd.Member) bool { return m.Name == v.leader })
	if len(list) == 0 {
		return ""
	}
	return slices.MinFunc(list, func(a, b etcd.Member) int {
		if (a.Error != "") != (b.Error != "") {
			return cmp.Compare(b.Error, a.Error) // "" comes last
		}
		return cmp.Compare(b.Name, a.Name)
	}).ID
}

// dead returns a member that has been away for long, if most of all members are well.
func (v memberView) dead() string {
	well, dead := 0, ""
	for _, m := range v.members {
		if m.Error == "" {
			well++
		} else if v.unwell[m.ID] > deadTime {
			dead = m.ID
		}
	}
	if well > len(v.members)/2 {
		return dead
	}
	return ""
}
