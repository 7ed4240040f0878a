package names

import (
	"errors"
	"fmt"
	"strings"

	"dcni/pkg/wire"
)

// A Link is a container that another one calls by an alias, Docker's --link.
//
// On the default bridge, which has no names, the alias is a line of the hosts file; where that
// network is without icc, the link also lets the container reach the ports that the other one
// exposes. On other networks it is a name that only the linking container has, for one that
// the network knows by another.
type Link struct {
	Target string `json:"target"` // the other container's name, or its ID or the beginning of that
	Alias  string `json:"alias"`
}

// ParseLink reads Docker's NAME[:ALIAS]. The alias is the name if left out.
func ParseLink(s string) (Link, error) {
	target, alias, has := strings.Cut(s, ":")
	switch {
	case s == "":
		return Link{}, errors.New("empty string specified for links")
	case strings.Contains(alias, ":"), target == "", has && alias == "":
		return Link{}, fmt.Errorf("bad format for links: %s", s)
	}
	target = strings.TrimPrefix(target, "/")
	if alias = strings.TrimPrefix(alias, "/"); alias == "" {
		alias = target
	}
	if strings.Trim(target, ".") == "" || strings.ContainsFunc(target, func(r rune) bool { return strange(r) && r != '.' }) {
		return Link{}, fmt.Errorf("bad format for links: %s: the name must be of letters, digits, '_', '.' and '-'", s)
	}
	if err := Check("alias", alias); err != nil {
		return Link{}, fmt.Errorf("bad format for links: %s: %w", s, err)
	}
	return Link{target, alias}, nil
}

// String returns the link as [ParseLink] reads it.
func (l Link) String() string { return l.Target + ":" + l.Alias }

// ArgLinks and ArgExpose are keys of CNI_ARGS: the container's links on the network, and the ports
// that it exposes to those which link to it, besides those that it publishes; each a list
// with commas.
const (
	ArgLinks  = "DNET_LINKS"
	ArgExpose = "DNET_EXPOSE"
)

// ParseLinks reads the value of [ArgLinks].
func ParseLinks(s string) ([]Link, error) {
	var list []Link
	for word := range strings.SplitSeq(s, ",") {
		if word == "" {
			continue
		}
		l, err := ParseLink(word)
		if err != nil {
			return nil, wire.Errorf(wire.CodeEnv, "CNI_ARGS %s %q: must be NAME[:ALIAS], with commas between several: %v", ArgLinks, s, err)
		}
		list = append(list, l)
	}
	return list, nil
}

// JoinLinks returns links as [ParseLinks] reads them.
func JoinLinks(list []Link) string {
	words := make([]string, len(list))
	for i, l := range list {
		words[i] = l.String()
	}
	return strings.Join(words, ",")
}
