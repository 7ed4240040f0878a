package reach

import (
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
)

//go:embed docker.txt
var dockerText string

//go:embed dcni.txt
var dcniText string

//go:embed engine.txt
var engineText string

// A Network is a kind of network.
type Network struct {
	Name, Title string
	Keys        string   // of dcni's configuration, as the inside of a JSON object
	Engine      []string // options of `docker network create`; nil: the engine can't say it
	Host        []string // commands of ip(8) before the network is made
	Family      string   // the one that it has: "4" or "6"; "": both
	NoPorts     bool     // containers publish none

	like  *Network // whose lines come before; nil: none
	lines []line
}

// Networks returns those of docker.txt.
func Networks() ([]*Network, error) {
	var list []*Network
	for i, text := range strings.Split(dockerText, "\n") {
		word, rest, _ := strings.Cut(text, " ")
		var err error
		switch {
		case word == "network":
			name, title, _ := strings.Cut(rest, ": ")
			list = append(list, &Network{Name: name, Title: title})
		case text == "" || word[0] == '#':
		case len(list) == 0:
			err = errors.New("no network yet")
		default:
			err = list[len(list)-1].say(list, word, rest)
		}
		if err != nil {
			return nil, fmt.Errorf("docker.txt:%d: %w", i+1, err)
		}
	}
	return list, nil
}

// say reads a line of a network.
func (n *Network) say(list []*Network, word, rest string) error {
	switch word {
	case "like":
		i := slices.IndexFunc(list, func(o *Network) bool { return o.Name == rest })
		if i < 0 {
			return fmt.Errorf("like %s: no such network", rest)
		}
		n.like, n.lines = list[i], slices.Clone(list[i].lines)
	case "dcni":
		n.Keys = rest
	case "engine":
		n.Engine = append([]string{}, strings.Fields(rest)...)
	case "ip":
		n.Host = append(n.Host, rest)
	case "families":
		n.Family = rest
	case "ports":
		n.NoPorts = true
	default:
		l, err := parseLine(nil, word, rest)
		n.lines = append(n.lines, l)
		return err
	}
	return nil
}

// parseLine reads askers, and after them targets and an answer.
func parseLine(networks []string, askers, rest string) (line, error) {
	words := strings.Fields(rest)
	if len(words) < 2 {
		return line{}, fmt.Errorf("%s %s: want ASKER TARGET... ANSWER", askers, rest)
	}
	l := line{networks: networks, answer: words[len(words)-1]}
	if !slices.Contains(answers, l.answer) {
		return l, fmt.Errorf("answer %q: want one of %q", l.answer, answers)
	}
	var err error
	if l.askers, err = names("asker", askers, Askers); err != nil {
		return l, err
	}
	for _, word := range words[:len(words)-1] {
		parts := strings.Split(word, "/")
		if _, err := names("target", parts[0], Targets); err != nil {
			return l, err
		}
		for _, q := range parts[1:] {
			if !slices.Contains(slices.Concat(families, protos, netfilter), q) {
				return l, fmt.Errorf("%s: %q is no family, protocol or setting", word, q)
			}
		}
		l.targets = append(l.targets, pattern{parts[0], parts[1:]})
	}
	return l, nil
}

// names reads a list of names with commas. It is nil for "*".
func names(what, text string, known []Place) ([]string, error) {
	if text == "*" {
		return nil, nil
	}
	list := strings.Split(text, ",")
	for _, name := range list {
		if !slices.ContainsFunc(known, func(p Place) bool { return p.Name == name }) {
			return nil, fmt.Errorf("unknown %s %q", what, name)
		}
	}
	return list, nil
}

// A Reason is why something answers otherwise, and which cells it is about.
type Reason struct {
	Name, Why string

	lines []line
}

// answerOf returns what a program answers that does otherwise than Docker for some reasons, and the
// reason that counts for the cell, or nil.
func answerOf(reasons []*Reason, c Cell, docker string) (string, *Reason) {
	answer, why := docker, (*Reason)(nil)
	for _, r := range reasons {
		for _, l := range r.lines {
			if l.matches(c) {
				answer, why = l.answer, r
			}
		}
	}
	return answer, why
}

// parseReasons reads dcni.txt or engine.txt.
func parseReasons(file, text string, networks []*Network) ([]*Reason, error) {
	var known []Place
	for _, n := range networks {
		known = append(known, Place{Name: n.Name})
	}
	var list []*Reason
	for i, text := range strings.Split(text, "\n") {
		if text == "" || text[0] == '#' {
			continue
		}
		if name, why, ok := strings.Cut(text, ": "); ok {
			list = append(list, &Reason{Name: name, Why: why})
			continue
		}
		words := strings.SplitN(strings.TrimSpace(text), " ", 3)
		if len(words) < 3 || len(list) == 0 {
			return nil, fmt.Errorf("%s:%d: want NETWORK ASKER TARGET... ANSWER below a reason", file, i+1)
		}
		of, err := names("network", words[0], known)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
		l, err := parseLine(of, words[1], words[2])
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
		last := list[len(list)-1]
		last.lines = append(last.lines, l)
	}
	return list, nil
}

// A Table is all three files.
type Table struct {
	Networks     []*Network
	dcni, engine []*Reason
}

// Load reads the files.
func Load() (*Table, error) {
	t := &Table{}
	var errs [3]error
	t.Networks, errs[0] = Networks()
	t.dcni, errs[1] = parseReasons("dcni.txt", dcniText, t.Networks)
	t.engine, errs[2] = parseReasons("engine.txt", engineText, t.Networks)
	return t, errors.Join(errs[:]...)
}

// DCNI returns what dcni answers.
func (t *Table) DCNI(n *Network, c Cell) string {
	answer, _ := answerOf(t.dcni, c, n.Docker(c))
	return answer
}

// Engine returns what the engine answers that tests run.
func (t *Table) Engine(n *Network, c Cell) string {
	answer, _ := answerOf(t.engine, c, n.Docker(c))
	return answer
}
