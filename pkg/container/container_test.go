package container

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParsePublish(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"80", "0.0.0.0:0->80/tcp"},
		{"8080:80", "0.0.0.0:8080->80/tcp"},
		{"8080:80/udp", "0.0.0.0:8080->80/udp"},
		{"8080:80/SCTP", "0.0.0.0:8080->80/sctp"},
		{":80", "0.0.0.0:0->80/tcp"},
		{"0:80", "0.0.0.0:0->80/tcp"},
		{"127.0.0.1:8080:80/udp", "127.0.0.1:8080->80/udp"},
		{"127.0.0.1::80", "127.0.0.1:0->80/tcp"},
		{"[::1]:8080:80", "[::1]:8080->80/tcp"},
		{"[::1]::80", "[::1]:0->80/tcp"},
		{"::1:8080:80", "[::1]:8080->80/tcp"},
		{"8000-8002:80-82", "0.0.0.0:8000->80/tcp 0.0.0.0:8001->81/tcp 0.0.0.0:8002->82/tcp"},
		{"80-81", "0.0.0.0:0->80/tcp 0.0.0.0:0->81/tcp"},
		{"8000-8010:80", "0.0.0.0:8000->80/tcp to 8010"},
		{"target=80", "0.0.0.0:0->80/tcp"},
		{"target=80,published=8080,protocol=udp,mode=host", "0.0.0.0:8080->80/udp"},

		{"", "no port specified: <empty>"},
		{"80:", "no port specified: 80:<empty>"},
		{"published=80", "no port specified: published=80<empty>"},
		{"foo", "invalid containerPort: foo"},
		{"80:foo", "invalid containerPort: foo"},
		{"80:0", "invalid containerPort: 0"},
		{"80:70000", "invalid containerPort: 70000"},
		{"90-80", "invalid containerPort: 90-80"},
		{"80-90:90-80", "invalid containerPort: 90-80"},
		{" 80", "invalid containerPort:  80"},
		{"foo:80", "invalid hostPort: foo"},
		{"70000:80", "invalid hostPort: 70000"},
		{"-1:80", "invalid hostPort: -1"},
		{"127.0.0.1:80", "invalid hostPort: 127.0.0.1"},
		{"80/xyz", "invalid proto: xyz"},
		{"80/tcp/udp", "invalid proto: tcp/udp"},
		{"1.2.3:80:80", "invalid IP address: 1.2.3"},
		{"localhost:80:80", "invalid IP address: localhost"},
		{"a:b:c:d", "invalid IP address: a:b"},
		{"[::1:80:80", "invalid IP address: [::1"},
		{"fe80::1%eth0:80:80", "invalid IP address: fe80::1%eth0"},
		{"8000-8010:80-85", "invalid ranges specified for container and host Ports: 80-85 and 8000-8010"},
		{"8000:80-85", "invalid ranges specified for container and host Ports: 80-85 and 8000"},
		{"target=80,foo=bar", "invalid field key foo"},
		{"target=80,foo", "invalid publish opts format (should be name=value but got 'foo')"},
	} {
		if got := shown(ParsePublish(c.in)); got != c.want {
			t.Errorf("-p %q: %s, want %s", c.in, got, c.want)
		}
	}
}

func shown(list []Publish, err error) string {
	if err != nil {
		return err.Error()
	}
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = p.String()
		if p.Last != p.HostPort {
			words[i] += fmt.Sprintf(" to %d", p.Last)
		}
	}
	return strings.Join(words, " ")
}

func TestNext(t *testing.T) {
	list, err := ParsePublish("8000-8001:80")
	if err != nil {
		t.Fatal(err)
	}
	if Next(list, 9000) {
		t.Error("another port was taken, and the choice moved")
	}
	if !Next(list, 8000) || list[0].HostPort != 8001 {
		t.Errorf("8000 was taken, next is %s, want 8001", list[0])
	}
	if Next(list, 8001) {
		t.Error("the last of the range was taken, and there was a next one")
	}
}

// TestSpread lays several choices beside one another, and beside what is no
// choice, as it is first tried and after one was taken.
func TestSpread(t *testing.T) {
	for _, c := range []struct {
		publish     []string
		taken       uint16
		first, next string
	}{
		{[]string{"8000-8002:80", "8000-8002:81"}, 8000, "8000 8001", "8002 8001"},
		{[]string{"8000-8002:80", "8000:81"}, 8001, "8001 8000", "8002 8000"},
		{[]string{"8000:80", "8000-8001:81"}, 8001, "8000 8001", ""},
		{[]string{"8000-8001:80", "8000-8001:80/udp"}, 8000, "8000 8000", "8001 8000"},
		{[]string{"127.0.0.1:8000-8001:80", "127.0.0.2:8000-8001:80"}, 9, "8000 8000", ""},
		{[]string{"127.0.0.1:8000-8001:80", "8000-8001:80"}, 9, "8000 8001", ""},
		{[]string{"65534-65535:80", "65534-65535:81", "65534-65535:82"}, 65535, "65534 65535 65534", ""},
		{[]string{"80", "80", "8000-8001:80-81"}, 8000, "0 0 8000 8001", ""},
	} {
		s, err := (&Options{Publish: c.publish}).Parse()
		if err != nil {
			t.Fatal(err)
		}
		if got := hostPorts(s.Ports); got != c.first {
			t.Errorf("%v: %s, want %s", c.publish, got, c.first)
		}
		got := ""
		if Next(s.Ports, c.taken) {
			got = hostPorts(s.Ports)
		}
		if got != c.next {
			t.Errorf("%v, and %d is taken: %s, want %s", c.publish, c.taken, got, c.next)
		}
	}
}

func hostPorts(list []Publish) string {
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = fmt.Sprint(p.HostPort)
	}
	return strings.Join(words, " ")
}

func TestParseNetwork(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"web", "web invalid IP invalid IP  []"},
		{"name=web,alias=db,alias=sql,ip=10.1.0.5,ip6=fd00::5,mac-address=02-42-AA-bb-00-01", "web 10.1.0.5 fd00::5 02:42:aa:bb:00:01 [db sql]"},
		{"NAME=web", "web invalid IP invalid IP  []"},
		{"", "network name/id is not specified"},
		{" ", "network name/id is not specified"},
		{"ip=10.1.0.5", "network name/id is not specified"},
		{"name=web,foo=bar", `invalid argument "name=web,foo=bar" for "--network" flag: invalid field key foo`},
		{"name=web,foo", `invalid argument "name=web,foo" for "--network" flag: invalid field foo`},
		{"name=web,ip=fd00::5", `invalid argument "name=web,ip=fd00::5" for "--network" flag: invalid IPv4 address: fd00::5`},
		{"name=web,ip6=10.1.0.5", `invalid argument "name=web,ip6=10.1.0.5" for "--network" flag: invalid IPv6 address: 10.1.0.5`},
		{"name=web,mac-address=zz", `invalid argument "name=web,mac-address=zz" for "--network" flag: zz is not a valid mac address`},
		{"name=web,gw-priority=x", `invalid argument "name=web,gw-priority=x" for "--network" flag: invalid gw-priority (x): invalid syntax`},
		{"name=web,link-local-ip=169.254.1.1", `invalid argument "name=web,link-local-ip=169.254.1.1" for "--network" flag: --network: link-local-ip is not supported by this version of dnet`},
		{"container:c1", "container:c1 invalid IP invalid IP  []"},
		{"name=container:c1", "container:c1 invalid IP invalid IP  []"},
		{"container:", "invalid network mode: invalid container format container:<name|id>"},
		{"container: ", "invalid network mode: invalid container format container:<name|id>"},
	} {
		n, err := ParseNetwork(c.in)
		got := fmt.Sprint(n.Name, " ", n.IPv4, " ", n.IPv6, " ", n.MAC, " ", n.Aliases)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("--network %q: %s, want %s", c.in, got, c.want)
		}
	}
}

// TestConflicts has what Docker refuses, in Docker's words.
func TestConflicts(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string // error, or warning
	}{
		{Options{}, ""},
		{Options{Networks: []string{"web", "lab"}, IP: "10.1.0.5"}, ""},
		{Options{Networks: []string{"default"}}, ""},
		{Options{Networks: []string{"web", "web"}}, `network "web" is specified multiple times`},
		{Options{Networks: []string{"none", "web"}}, "conflicting options: cannot attach both user-defined and non-user-defined network-modes"},
		{Options{Networks: []string{"web", "host"}}, "conflicting options: cannot attach both user-defined and non-user-defined network-modes"},
		{Options{IP: "10.1.0.5"}, "user specified IP address is supported on user defined networks only"},
		{Options{Networks: []string{"host"}, IP6: "fd00::5"}, "user specified IP address is supported on user defined networks only"},
		{Options{Aliases: []string{"db"}}, "network-scoped aliases are only supported for user-defined networks"},
		{Options{Networks: []string{"host"}, MAC: "02:42:00:00:00:01"}, "conflicting options: mac-address and the network mode"},
		{Options{Networks: []string{"container:c1"}}, ""},
		{Options{Networks: []string{"container:c1", "web"}}, "conflicting options: cannot attach both user-defined and non-user-defined network-modes"},
		{Options{Networks: []string{"container:c1"}, Publish: []string{"8080:80"}}, "conflicting options: port publishing and the container type network mode"},
		{Options{Networks: []string{"container:c1"}, Hostname: "web"}, "conflicting options: hostname and the network mode"},
		{Options{Networks: []string{"container:c1"}, AddHosts: []string{"db:192.0.2.7"}}, "conflicting options: custom host-to-IP mapping and the network mode"},
		{Options{Networks: []string{"container:c1"}, DNS: []string{"192.0.2.9"}}, "conflicting options: dns and the network mode"},
		{Options{Networks: []string{"container:c1"}, DNSSearch: []string{"lan"}}, "conflicting options: dns and the network mode"},
		{Options{Networks: []string{"container:c1"}, MAC: "02:42:00:00:00:01"}, "conflicting options: mac-address and the network mode"},
		{Options{Networks: []string{"container:c1"}, IP: "10.1.0.5"}, "user specified IP address is supported on user defined networks only"},
		{Options{Networks: []string{"container:c1"}, Aliases: []string{"db"}}, "network-scoped aliases are only supported for user-defined networks"},
		{Options{Networks: []string{"name=web,ip=10.1.0.5"}, IP: "10.1.0.6"}, "conflicting options: cannot specify both --ip and per-network IPv4 address"},
		{Options{Networks: []string{"name=web,alias=a"}, Aliases: []string{"b"}}, "conflicting options: cannot specify both --network-alias and per-network alias"},
		{Options{Name: "a b"}, "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"},
		{Options{Name: "a"}, "Invalid container name (a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"},
		{Options{Name: "/web"}, ""},
		{Options{Name: "../../etc"}, "Invalid container name (../../etc), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"},
		{Options{Hostname: "a b"}, `invalid hostname: "a b": must be at most 64 letters, digits, '-', '_' and '.'`},
		{Options{Hostname: strings.Repeat("a", 65)}, `invalid hostname: "` + strings.Repeat("a", 65) + `": must be at most 64 letters, digits, '-', '_' and '.'`},
		{Options{Workdir: "rel"}, "the working directory 'rel' is invalid, it needs to be an absolute path"},
		{Options{Env: []string{"=x"}}, "invalid environment variable: =x"},
		{Options{AddHosts: []string{"foo"}}, `invalid argument "foo" for "--add-host" flag: bad format for add-host: "foo"`},
		{Options{AddHosts: []string{"foo:bar"}}, `invalid argument "foo:bar" for "--add-host" flag: invalid IP address in add-host: "bar"`},
		{Options{AddHosts: []string{"foo:fe80::1%a\n192.0.2.1 b"}}, `invalid argument "foo:fe80::1%a\n192.0.2.1 b" for "--add-host" flag: bad format for add-host: "foo:fe80::1%a\n192.0.2.1 b"`},
		{Options{AddHosts: []string{"a\rb:192.0.2.1"}}, `invalid argument "a\rb:192.0.2.1" for "--add-host" flag: bad format for add-host: "a\rb:192.0.2.1"`},
		{Options{AddHosts: []string{"ü:192.0.2.1", "foo:fe80::1%eth0"}}, ""},
		{Options{DNS: []string{"fe80::1%a b"}}, `invalid argument "fe80::1%a b" for "--dns" flag: IP address is not correctly formatted: fe80::1%a b`},
		{Options{DNS: []string{"fe80::1%eth0"}}, ""},
		{Options{DNSOptions: []string{"a\vb"}}, `--dns-option "a\vb": must be one word`},
		{Options{DNS: []string{"foo"}}, `invalid argument "foo" for "--dns" flag: IP address is not correctly formatted: foo`},
		{Options{DNSSearch: []string{".."}}, `invalid argument ".." for "--dns-search" flag: .. is not a valid domain`},
		{Options{DNSSearch: []string{"."}}, ""},
	} {
		got := ""
		if _, err := c.o.Parse(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.o, got, c.want)
		}
	}
}

func TestMadeName(t *testing.T) {
	for command, want := range map[string]string{
		"/bin/sleep": "sleep-1f3a", "./x y": "xy-1f3a", "...": "run-1f3a", strings.Repeat("a", 40): strings.Repeat("a", 20) + "-1f3a",
	} {
		if got := MadeName(command, "1f3a5c"); got != want {
			t.Errorf("%s: %s, want %s", command, got, want)
		}
		if !nameForm().MatchString(want) {
			t.Errorf("%s is no name", want)
		}
	}
}

func TestTaken(t *testing.T) {
	for text, want := range map[string]uint16{
		"network web: Bind for 0.0.0.0:8080 failed: port is already allocated": 8080,
		"Bind for [::]:8080 failed: port is already allocated":                 8080,
		"failed to bind host port 192.0.2.1:8053/udp: address already in use":  8053,
		"address 10.88.0.5 is taken":                                           0,
	} {
		if got := Taken(errors.New(text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}
