package main

import (
	"testing"
	"time"

	"dcni/pkg/overlay/etcd"
)

func TestNextMember(t *testing.T) {
	well := func(name string) etcd.Member { return etcd.Member{ID: "id-" + name, Name: name} }
	away := func(name string) etcd.Member { return etcd.Member{ID: "id-" + name, Name: name, Error: "away"} }
	learner := func(name string) etcd.Member { return etcd.Member{ID: "id-" + name, Name: name, Learner: true} }
	starting := etcd.Member{ID: "id-new", Learner: true, Error: "it was never started"}
	long := func(name string, d time.Duration) map[string]time.Duration {
		return map[string]time.Duration{"id-" + name: d}
	}
	for name, c := range map[string]struct {
		view memberView
		want memberStep
	}{
		"one node":                    {memberView{members: []etcd.Member{well("a")}, nodes: []string{"a"}, all: 1}, memberStep{}},
		"two nodes":                   {memberView{members: []etcd.Member{well("a")}, nodes: []string{"a", "b"}, all: 2}, memberStep{}},
		"three nodes":                 {memberView{members: []etcd.Member{well("a")}, nodes: []string{"c", "b", "a"}, all: 3}, memberStep{add: "b"}},
		"the second is added":         {memberView{members: []etcd.Member{well("a"), starting}, nodes: []string{"a", "b", "c"}, all: 3}, memberStep{}},
		"the second learns":           {memberView{members: []etcd.Member{well("a"), learner("b")}, nodes: []string{"a", "b", "c"}, all: 3}, memberStep{promote: "id-b"}},
		"the second never learned":    {memberView{members: []etcd.Member{well("a"), learner("b")}, nodes: []string{"a", "b", "c"}, all: 3, unwell: long("b", 6*time.Minute)}, memberStep{remove: "id-b"}},
		"the second never started":    {memberView{members: []etcd.Member{well("a"), starting}, nodes: []string{"a", "b", "c"}, all: 3, unwell: long("new", 6*time.Minute)}, memberStep{remove: "id-new"}},
		"the third":                   {memberView{members: []etcd.Member{well("a"), well("b")}, nodes: []string{"a", "b", "c"}, all: 3}, memberStep{add: "c"}},
		"none is left for the third":  {memberView{members: []etcd.Member{well("a"), well("b")}, leader: "b", nodes: []string{"a", "b"}, all: 3}, memberStep{remove: "id-a"}},
		"none will be for the third":  {memberView{members: []etcd.Member{well("a")}, nodes: []string{"a", "b"}, all: 3}, memberStep{}},
		"three of two nodes":          {memberView{members: []etcd.Member{well("a")}, nodes: []string{"a", "b"}, all: 2, asked: 3}, memberStep{}},
		"three":                       {memberView{members: []etcd.Member{well("a"), well("b"), well("c")}, nodes: []string{"a", "b", "c", "d"}, all: 4}, memberStep{}},
		"five":                        {memberView{members: []etcd.Member{well("a"), well("b"), well("c")}, nodes: []string{"a", "b", "c", "d", "e"}, all: 5, asked: 5}, memberStep{add: "d"}},
		"five of four nodes":          {memberView{members: []etcd.Member{well("a"), well("b"), well("c")}, nodes: []string{"a", "b", "c", "d"}, all: 4, asked: 5}, memberStep{}},
		"the fifth":                   {memberView{members: []etcd.Member{well("a"), well("b"), well("c"), away("d")}, nodes: []string{"a", "b", "c", "d", "e"}, all: 5, asked: 5}, memberStep{add: "e"}},
		"none for the fifth":          {memberView{members: []etcd.Member{well("a"), well("b"), well("c"), away("d")}, leader: "a", nodes: []string{"a", "b", "c"}, all: 5, asked: 5}, memberStep{remove: "id-d"}},
		"one of three":                {memberView{members: []etcd.Member{well("a"), well("b"), well("c")}, leader: "c", nodes: []string{"a", "b", "c"}, all: 3, asked: 1}, memberStep{remove: "id-b"}},
		"one of three, one is away":   {memberView{members: []etcd.Member{away("a"), well("b"), well("c")}, leader: "c", nodes: []string{"b", "c"}, all: 3, asked: 1}, memberStep{remove: "id-a"}},
		"away for a while":            {memberView{members: []etcd.Member{well("a"), well("b"), away("c")}, nodes: []string{"a", "b", "d"}, all: 4, unwell: long("c", 9*time.Minute)}, memberStep{}},
		"dead":                        {memberView{members: []etcd.Member{well("a"), well("b"), away("c")}, nodes: []string{"a", "b", "d"}, all: 4, unwell: long("c", 11*time.Minute)}, memberStep{remove: "id-c"}},
		"dead, and none in its place": {memberView{members: []etcd.Member{well("a"), well("b"), away("c")}, nodes: []string{"a", "b"}, all: 3, unwell: long("c", 11*time.Minute)}, memberStep{}},
		"no quorum":                   {memberView{members: []etcd.Member{well("a"), away("b"), away("c")}, nodes: []string{"a", "d"}, all: 4, unwell: long("c", 11*time.Minute)}, memberStep{}},
	} {
		if got := c.view.next(); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
