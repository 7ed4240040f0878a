package graph

import (
	"encoding/xml"
	"errors"
	"fmt"
	"image"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"dcni/pkg/network/catalog"
)

// small is a host with two networks, one of them internal, and a container on both.
func small() Graph {
	web := &catalog.Inspection{Name: "web", Driver: "bridge", Containers: map[string]catalog.InspectedEndpoint{
		"id1": {Name: "shop", IPv4Address: catalog.ShownPrefix{Prefix: netip.MustParsePrefix("10.1.0.2/24")}, Ports: map[string][]catalog.InspectedPort{
			"80/tcp": {{HostIP: "0.0.0.0", HostPort: "8080"}, {HostIP: "::", HostPort: "8080"}}, "9/udp": {{HostIP: "::1", HostPort: "9"}},
			"443/tcp": {{HostIP: "127.0.0.1", HostPort: "8443"}},
		}},
		"id2": {IPv4Address: catalog.ShownPrefix{Prefix: netip.MustParsePrefix("10.1.0.3/24")}},
	}}
	web.IPAM.Config = []catalog.InspectedSubnet{{Subnet: catalog.ShownPrefix{Prefix: netip.MustParsePrefix("10.1.0.0/24")}, Gateway: catalog.ShownAddr{Addr: netip.MustParseAddr("10.1.0.1")}}}
	lab := &catalog.Inspection{Name: "lab<&>", Driver: "overlay", Internal: true, Peers: []catalog.InspectedPeer{{Name: "n1"}, {Name: "n2"}},
		Containers: map[string]catalog.InspectedEndpoint{
			"id1": {Name: "shop", IPv4Address: catalog.ShownPrefix{Prefix: netip.MustParsePrefix("10.2.0.2/24")}, IPv6Address: catalog.ShownPrefix{Prefix: netip.MustParsePrefix("fd00::2/64")},
				Ports: map[string][]catalog.InspectedPort{"80/tcp": {{HostIP: "0.0.0.0", HostPort: "8080"}, {HostIP: "::", HostPort: "8080"}}}}, // as on web
		}}
	lab.IPAM.Config = []catalog.InspectedSubnet{{Subnet: catalog.ShownPrefix{Prefix: netip.MustParsePrefix("10.2.0.0/24")}}, {}}
	g := Of([]*catalog.Inspection{web, lab}, map[string]string{"web": "br-web"}, map[string][]string{"id1": {"web"}, "id2": {"web"}})
	g.Host, g.Uplink = "vm", "eth0"
	return g
}

func TestText(t *testing.T) {
	want := `vm (eth0 leads out)
├─ lab<&> (overlay, internal); 10.2.0.0/24; nodes n1, n2
│  └─ shop  10.2.0.2, fd00::2  also on web
└─ web (bridge); br-web; 10.1.0.0/24, gateway 10.1.0.1
   ├─ id2   10.1.0.3
   └─ shop  10.1.0.2  [::1]:9→9/udp  8080→80/tcp  127.0.0.1:8443→443/tcp  gateway network  also on lab<&>
`
	if got := small().Text(false); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	ascii := strings.NewReplacer("├─", "|-", "└─", "`-", "│", "|", "→", "->").Replace(want)
	if got := small().Text(true); got != ascii {
		t.Errorf("got\n%swant\n%s", got, ascii)
	}
	if got := (Graph{Host: "vm"}).Text(false); got != "vm\n" {
		t.Errorf("nothing: %q", got)
	}
}

func TestMermaid(t *testing.T) {
	want := `flowchart LR
    host{{"vm<br>eth0"}}
    n0(["lab#lt;#amp;#gt;<br>overlay, internal<br>10.2.0.0/24<br>nodes n1, n2"])
    host -. internal .- n0
    n1(["web<br>bridge<br>br-web<br>10.1.0.0/24, gateway 10.1.0.1"])
    host --- n1
    c0["id2"]
    n1 ===|"10.1.0.3"| c0
    c1["shop<br>[::1]:9 to 9/udp<br>8080 to 80/tcp<br>127.0.0.1:8443 to 443/tcp"]
    n1 ===|"10.1.0.2"| c1
    n0 ---|"10.2.0.2<br>fd00::2"| c1
`
	if got := small().Mermaid(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestDOT(t *testing.T) {
	g := small()
	g.Containers[0].Name = `a"b\c`
	got := g.DOT()
	for _, want := range []string{
		`n0 [shape=ellipse, style=filled, fillcolor="#e8f1fb", label="lab<&>\noverlay, internal\n10.2.0.0/24\nnodes n1, n2"]`,
		`host -- n0 [style=dashed, label="internal"]`, "host -- n1\n", `c0 [shape=box, label="a\"b\\c"]`,
		`n1 -- c1 [label="10.1.0.2", penwidth=2.5]`, `n0 -- c1 [label="10.2.0.2\nfd00::2"]`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
}

// large is a host with sixty containers, with names and networks of all lengths.
func large() Graph {
	g := Graph{Host: "edge-01.example.net", Uplink: "enp3s0"}
	g.Networks = []Network{
		{Name: "backend", Driver: "bridge", Link: "br-10e08a419e85", Subnets: []string{"10.20.0.0/16, gateway 10.20.0.1"}},
		{Name: "lab", Driver: "bridge", Internal: true, Modes: []string{"IPv4 isolated"}, Subnets: []string{"172.19.0.0/16", "fd0d:d0d8:370f:a511::/64, gateway fd0d:d0d8:370f:a511::1"}},
		{Name: "mesh", Driver: "overlay", Nodes: []string{"n1", "n2", "n3"}},
		{Name: strings.Repeat("a-long-name-", 14), Driver: "macvlan"}, {Name: "empty", Driver: "bridge"},
	}
	for i := range 60 {
		c := Container{ID: fmt.Sprintf("%064d", i), Name: strings.Repeat("WM", i) + fmt.Sprint("worker-", i)}
		p := Place{Network: g.Networks[i%4].Name, Addresses: []string{fmt.Sprintf("10.20.0.%d", i+2)}, Gateway: true}
		for j := range i % 7 {
			p.Ports = append(p.Ports, fmt.Sprintf("127.0.0.1:%d to %d/udp", 9000+j, j))
		}
		c.Places = append(c.Places, p)
		if i%4 == 0 && i%3 == 0 {
			c.Places = append(c.Places, Place{Network: "lab", Addresses: []string{"2001:db8:1111:2222:3333:4444:5555:6666"}})
		}
		g.Containers = append(g.Containers, c)
	}
	return g
}

// TestSVG reads pictures: they are XML, all is within them, no card overlaps another, and
// each text ends before its card or box does.
func TestSVG(t *testing.T) {
	for name, g := range map[string]Graph{"none": {Host: "vm"}, "small": small(), "large": large()} {
		whole, cards, boxes, texts := pictures(t, g.SVG())
		want := 0
		for _, c := range g.Containers {
			want += len(c.Places)
		}
		if len(cards) != want || len(boxes) != len(g.Networks) {
			t.Errorf("%s: %d cards and %d boxes, want %d and %d", name, len(cards), len(boxes), want, len(g.Networks))
		}
		apart(t, name, cards)
		apart(t, name, boxes)
		for _, r := range append(append(append([]image.Rectangle{}, cards...), boxes...), texts...) {
			if !r.In(whole) {
				t.Errorf("%s: %v is not within %v", name, r, whole)
			}
		}
		for _, text := range texts {
			for _, r := range append(append([]image.Rectangle{}, cards...), boxes...) {
				if !text.Intersect(r).Empty() && !text.In(r) {
					t.Errorf("%s: text %v sticks out of %v", name, text, r)
				}
			}
		}
	}
}

func apart(t *testing.T, name string, list []image.Rectangle) {
	t.Helper()
	for i, r := range list {
		for _, o := range list[i+1:] {
			if r.Overlaps(o) {
				t.Errorf("%s: %v overlaps %v", name, r, o)
			}
		}
	}
}

// pictures reads where things are: cards are white, boxes have another light colour.
func pictures(t *testing.T, text string) (whole image.Rectangle, cards, boxes, texts []image.Rectangle) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return whole, cards, boxes, texts
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		a := map[string]string{}
		for _, one := range e.Attr {
			a[one.Name.Local] = one.Value
		}
		number := func(name string) int { n, _ := strconv.Atoi(a[name]); return n }
		at := image.Rect(number("x"), number("y"), number("x")+number("width"), number("y")+number("height"))
		switch {
		case e.Name.Local == "svg":
			whole = at
		case e.Name.Local == "rect" && a["rx"] == "5":
			cards = append(cards, at)
		case e.Name.Local == "rect" && a["rx"] == "8" && a["stroke"] != "":
			boxes = append(boxes, at)
		case e.Name.Local == "text" && a["text-anchor"] == "":
			var inside struct {
				Text string `xml:",chardata"`
				Kind string `xml:"tspan"`
			}
			if err := d.DecodeElement(&inside, &e); err != nil {
				t.Fatal(err)
			}
			f := font{float64(number("font-size")), a["font-family"] != "" || a["fill"] == "#666"} // the last line is of no bold font
			width := f.pixels(inside.Text) + kindFont.pixels(inside.Kind)
			texts = append(texts, image.Rect(number("x"), number("y")-number("font-size"), number("x")+width, number("y")))
		}
	}
}
