package network

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"dcni/pkg/wire"
)

// A Setting is a kernel setting of a container's interface, as users ask for it.
type Setting struct {
	// Name is the setting's as in sysctl(8), with IFNAME for the interface:
	// net.ipv4.conf.IFNAME.log_martians.
	Name  string `json:"name"`
	Value string `json:"value"`
}

// ArgSysctls is the key of CNI_ARGS for settings, as [ParseSettings] reads them.
const ArgSysctls = "DNET_SYSCTLS"

// ifName stands for the interface in the name of a setting.
const ifName = "IFNAME"

var settingForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^net\.(?:ipv4|ipv6|mpls)\.[a-z0-9_-]+\.(?:IFNAME|ifname)\.[a-z0-9_-]+$`)
})

// ParseSettings reads settings as Docker's option com.docker.network.endpoint.sysctls has
// them, NAME=VALUE with commas between.
func ParseSettings(s string) ([]Setting, error) {
	var list []Setting
	for word := range strings.SplitSeq(s, ",") {
		name, value, _ := strings.Cut(word, "=")
		switch {
		case !settingForm().MatchString(name) || value == "" || strings.ContainsAny(value, ";\n\x00"):
			return nil, fmt.Errorf("unrecognised network interface sysctl '%s'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'", word)
		case strings.HasSuffix(name, ".disable_ipv6"):
			return nil, fmt.Errorf("interface sysctl '%s': must be left out: whether an interface has IPv6 is the network's to say", word)
		}
		list = append(list, Setting{strings.Replace(name, ".ifname.", "."+ifName+".", 1), value})
	}
	return list, nil
}

// JoinSettings writes settings as [ParseSettings] reads them.
func JoinSettings(list []Setting) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = s.Name + "=" + s.Value
	}
	return strings.Join(words, ",")
}

// settings puts the settings that are asked for among an interface's objects: in place of those
// that every interface has, else before it comes up. Of one that is asked for twice the later
// value counts.
func (e Endpoint) settings(objects []wire.Object) []wire.Object {
	if len(e.Sysctls) == 0 {
		return objects
	}
	asked := Chained{Sysctls: map[string]string{}}
	var more []wire.Object
	for _, s := range e.Sysctls {
		path := sysctlPath(s.Name, e.IfName)
		if _, twice := asked.Sysctls[path]; !twice && !isSet(objects, path) {
			more = append(more, &wire.Sysctl{NetNS: e.NetNS, Path: path})
		}
		asked.Sysctls[path] = s.Value
	}
	up := slices.IndexFunc(objects, func(o wire.Object) bool { _, is := o.(*wire.Up); return is })
	return asked.Apply(slices.Insert(slices.Clone(objects), up, more...))
}

// isSet reports whether one of the objects is about a setting.
func isSet(objects []wire.Object, path string) bool {
	return slices.ContainsFunc(objects, func(o wire.Object) bool {
		switch o := o.(type) {
		case *wire.Sysctl:
			return o.Path == path
		case *wire.Autoconf:
			return slices.ContainsFunc(o.Settings(), func(s wire.Sysctl) bool { return s.Path == path })
		}
		return false
	})
}
