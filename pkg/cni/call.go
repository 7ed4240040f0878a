package cni

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"dcni/pkg/cni/version"
	"dcni/pkg/jsonenc"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// A Call is what a runtime hands a plugin: environment and standard input
// (CNI specification, "Execution protocol").
type Call struct {
	Command     string // CNI_COMMAND
	ContainerID string // CNI_CONTAINERID
	NetNS       string // CNI_NETNS
	IfName      string // CNI_IFNAME
	Args        string // CNI_ARGS
	Path        string // CNI_PATH
	Conf        []byte // standard input
}

// The library's dispatcher (pkg/skel) does the same. It brings regular
// expressions that are compiled and a decoder that is built in every call: 4 %
// of an ADD. It also looks at CNI_NETNS after the verb, which answers an ADD a
// second time where a sandbox may be the host's own.

// Versions are the versions of the CNI specification that all plugins speak,
// oldest first.
var Versions = version.Spoken

// since says which version of the specification brought a verb.
var since = map[string]string{
	"ADD": "0.3.0", "DEL": "0.3.0", "CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0",
}

// readCall reads a call, and refuses what no verb could serve.
func readCall(getenv func(string) string, stdin io.Reader) (*Call, error) {
	c := &Call{
		Command: getenv("CNI_COMMAND"), ContainerID: getenv("CNI_CONTAINERID"), NetNS: getenv("CNI_NETNS"),
		IfName: getenv("CNI_IFNAME"), Args: getenv("CNI_ARGS"), Path: getenv("CNI_PATH"),
	}
	if c.Command == "VERSION" {
		return c, nil
	}
	if err := c.checkEnvironment(); err != nil {
		return c, err
	}
	var err error
	if c.Conf, err = io.ReadAll(stdin); err != nil {
		return c, &wire.Error{Code: wire.CodeIO, Msg: "read the configuration from standard input", Err: err}
	}
	return c, nil
}

// checkEnvironment sees that a verb has what it needs, and that identities are
// the specification's ("Parameters").
func (c *Call) checkEnvironment() error {
	if _, ok := since[c.Command]; !ok {
		return wire.Errorf(wire.CodeEnv, "unknown CNI_COMMAND %q: must be ADD, DEL, CHECK, GC, STATUS or VERSION", c.Command)
	}
	attaches := c.Command == "ADD" || c.Command == "CHECK"
	attached := attaches || c.Command == "DEL"
	var missing []string
	for _, v := range []struct {
		name, value string
		needed      bool
	}{
		{"CNI_CONTAINERID", c.ContainerID, attached},
		{"CNI_NETNS", c.NetNS, attaches},
		{"CNI_IFNAME", c.IfName, attached},
		{"CNI_PATH", c.Path, true},
	} {
		if v.needed && v.value == "" {
			missing = append(missing, v.name)
		}
	}
	switch {
	case missing != nil:
		return wire.Errorf(wire.CodeEnv, "%s: missing from the environment; %s needs it", strings.Join(missing, ", "), c.Command)
	case attached && !network.ValidName(c.ContainerID):
		return wire.Errorf(wire.CodeEnv, "CNI_CONTAINERID %q: must be %s", c.ContainerID, network.NameRule)
	case attached && !validIfName(c.IfName):
		return wire.Errorf(wire.CodeEnv, "CNI_IFNAME %q: must be 1 to 15 bytes without '/', ':' and white space, and not . or ..", c.IfName)
	}
	return nil
}

// validIfName reports whether a name is an interface's by the specification.
// Whether dcni makes one of that name is ADD's to say.
func validIfName(name string) bool {
	const most = 15 // bytes (IFNAMSIZ - 1)
	return len(name) <= most && name != "." && name != ".." && !strings.ContainsFunc(name, func(r rune) bool {
		return r == '/' || r == ':' || unicode.IsSpace(r)
	})
}

// checkVersion refuses a configuration of a version that is not spoken here, or
// that does not know the verb. None is 0.1.0.
func (c *Call) checkVersion(version string) error {
	if version == "" {
		version = "0.1.0"
	}
	at := slices.Index(Versions, version)
	switch {
	case at < 0:
		return wire.Errorf(wire.CodeVersion, "incompatible CNI versions; config is %q, plugin supports %q", version, Versions)
	case at < slices.Index(Versions, since[c.Command]):
		return wire.Errorf(wire.CodeVersion, "cniVersion %q: does not know %s; must be %s or later", version, c.Command, since[c.Command])
	}
	return nil
}

// failure is an error as the specification has it ("Error").
type failure struct {
	CNIVersion string `json:"cniVersion,omitempty"`
	Code       uint   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details,omitempty"`
}

// notGone takes words out of the error of a DEL by which runtimes take it for one that
// had nothing to do: containerd's go-cni forgets the container then, and what is left
// of it stays. When all is gone, DEL has no error.
func (f *failure) notGone() {
	words := strings.NewReplacer("not found", "missing", "Not found", "Missing", "Not Found", "Missing",
		"no such file or directory", "path is missing", "No such file or directory", "Path is missing")
	f.Msg, f.Details = words.Replace(f.Msg), words.Replace(f.Details)
}

// print writes the error to w.
func (f *failure) print(w io.Writer) error {
	b, err := jsonenc.Marshal(f, "    ")
	if err == nil {
		_, err = w.Write(append(b, '\n'))
	}
	return err
}

// about is what a call without a command gets, for people.
func about(w io.Writer, name string) {
	fmt.Fprintf(w, "CNI %s plugin %s\nCNI protocol versions supported: %s\n", name, Version, strings.Join(Versions, ", "))
}
