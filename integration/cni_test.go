package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/rogpeppe/go-internal/testscript"

	"dcni/integration/testhost"
)

// pluginDir is where the throwaway host has its plugins.
const pluginDir = "/opt/cni/bin"

// A call is what a runtime says about one attachment, over and over: libcni
// wants the same words for DEL as for ADD.
type call struct {
	rt *libcni.RuntimeConf
}

// cmdCNI is the runtime: libcni in this process, with its cache of results.
//
//	cni add|check|del NET NAME [IFNAME] [WORD=VALUE...]
//	cni status NET
//	cni gc NET [NAME[/IFNAME]...]
func cmdCNI(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: cni add|check|del|status|gc NET [NAME [IFNAME]] [WORD=VALUE...]")
	}
	list, err := libcni.NetworkConfFromBytes([]byte(expand(ts, ts.ReadFile(args[1]))))
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	finish(ts, neg, of(ts).verb(ctx, ts, args[0], list, args[2:]))
}

// verb carries out one verb and writes a result to stdout.
func (s *session) verb(ctx context.Context, ts *testscript.TestScript, verb string, list *libcni.NetworkConfigList, args []string) error {
	runtime := libcni.NewCNIConfig([]string{pluginDir}, &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: scriptLog{ts}}})
	switch verb {
	case "status":
		return runtime.GetStatusNetworkList(ctx, list)
	case "gc":
		return runtime.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: attachments(args)})
	}
	c, err := s.call(list.Name, args)
	ts.Check(err)
	switch verb {
	case "add":
		result, err := runtime.AddNetworkList(ctx, list, c.rt)
		if err != nil {
			return err
		}
		return result.PrintTo(ts.Stdout())
	case "check":
		return runtime.CheckNetworkList(ctx, list, c.rt)
	case "del":
		return runtime.DelNetworkList(ctx, list, c.rt)
	}
	ts.Fatalf("cni %s: want add, check, del, status or gc", verb)
	return nil
}

// A scriptLog takes what plugins print on stderr into the log of the script, which
// is shown if the script fails.
type scriptLog struct{ *testscript.TestScript }

func (l scriptLog) Write(text []byte) (int, error) {
	l.Logf("[plugin] %s", bytes.TrimSpace(text))
	return len(text), nil
}

// attachments reads NAME[/IFNAME] words.
func attachments(args []string) []types.GCAttachment {
	valid := []types.GCAttachment{}
	for _, arg := range args {
		name, ifname, found := strings.Cut(arg, "/")
		if !found {
			ifname = "eth0"
		}
		valid = append(valid, types.GCAttachment{ContainerID: name, IfName: ifname})
	}
	return valid
}

// call returns how to call for an attachment: as last time, or as the words
// say now.
func (s *session) call(network string, args []string) (*call, error) {
	if len(args) == 0 {
		return nil, errors.New("which container?")
	}
	name, ifname, args := args[0], "eth0", args[1:]
	if len(args) > 0 && !strings.Contains(args[0], "=") {
		ifname, args = args[0], args[1:]
	}
	key := network + " " + name + "/" + ifname
	if last := s.calls[key]; last != nil && len(args) == 0 {
		return last, nil
	}
	c := &call{rt: &libcni.RuntimeConf{
		ContainerID: name, NetNS: testhost.NetNSPath(name), IfName: ifname,
		CapabilityArgs: map[string]any{},
	}}
	for _, arg := range args {
		word, value, _ := strings.Cut(arg, "=")
		if err := c.say(word, value); err != nil {
			return nil, err
		}
	}
	s.calls[key] = c
	return c, nil
}

// say adds one word to a call.
func (c *call) say(word, value string) error {
	capability := c.rt.CapabilityArgs
	switch word {
	case "id":
		c.rt.ContainerID = value
	case "netns":
		c.rt.NetNS = value
	case "args":
		for _, pair := range strings.Split(value, ";") {
			k, v, _ := strings.Cut(pair, "=")
			c.rt.Args = append(c.rt.Args, [2]string{k, v})
		}
	case "port":
		m, err := portMapping(value)
		ports, _ := capability["portMappings"].([]map[string]any)
		capability["portMappings"] = append(ports, m)
		return err
	case "ip":
		ips, _ := capability["ips"].([]string)
		capability["ips"] = append(ips, value)
	case "mac":
		capability["mac"] = value
	case "cap":
		return json.Unmarshal([]byte(value), &c.rt.CapabilityArgs)
	default:
		return fmt.Errorf("%s=: want id, netns, args, port, ip, mac or cap", word)
	}
	return nil
}

// portMapping reads Docker's [IP:]HOST:CONTAINER[/PROTO]; an IPv6 address is
// in brackets.
func portMapping(s string) (map[string]any, error) {
	s, proto, found := strings.Cut(s, "/")
	if !found {
		proto = "tcp"
	}
	ip := ""
	if i := strings.LastIndex(s[:max(strings.LastIndex(s, ":"), 0)], ":"); i >= 0 {
		ip, s = strings.Trim(s[:i], "[]"), s[i+1:]
	}
	var host, container int
	if _, err := fmt.Sscanf(s, "%d:%d", &host, &container); err != nil {
		return nil, fmt.Errorf("port=%s: want [IP:]HOST:CONTAINER[/PROTO]: %w", s, err)
	}
	m := map[string]any{"hostPort": host, "containerPort": container, "protocol": proto}
	if ip != "" {
		m["hostIP"] = ip
	}
	return m, nil
}

// cmdPlugin executes one plugin with nothing between: no cache, no chain.
//
//	plugin VERB TYPE FILE [WORD=VALUE...]
//
// FILE is its stdin; the words are CNI_* variables in lower case without the
// prefix: containerid=c1 netns=c1 ifname=eth0 args=K=V.
func cmdPlugin(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: plugin VERB TYPE FILE [WORD=VALUE...]")
	}
	cmd := exec.Command(pluginDir + "/" + args[1])
	cmd.Env = append(os.Environ(), "CNI_PATH="+pluginDir, "CNI_COMMAND="+strings.ToUpper(args[0]))
	for _, arg := range args[3:] {
		word, value, _ := strings.Cut(arg, "=")
		if word == "netns" && value != "" {
			value = testhost.NetNSPath(value)
		}
		cmd.Env = append(cmd.Env, "CNI_"+strings.ToUpper(word)+"="+value)
	}
	cmd.Stdin = strings.NewReader(expand(ts, ts.ReadFile(args[2])))
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	finish(ts, neg, cmd.Run())
}

// expand puts the suite's fragments into a configuration.
func expand(ts *testscript.TestScript, conf string) string {
	conf = os.Expand(conf, func(name string) string {
		if _, ok := reference.conf[name]; !ok {
			return "$" + name
		}
		return ts.Getenv(name)
	})
	if of(ts).suite.namesInBridge {
		list, err := inBridge([]byte(conf))
		ts.Check(err)
		conf = string(list)
	}
	return conf
}

// describe puts the code of a CNI error into its text: scripts look for both.
func describe(err error) string {
	var e *types.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	return strings.TrimSuffix(fmt.Sprintf("code %d: %s; %s", e.Code, e.Msg, e.Details), "; ")
}
