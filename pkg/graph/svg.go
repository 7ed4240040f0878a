package graph

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Sizes of the picture, in pixels.
const (
	margin     = 24
	gap        = 14 // between cards, and between networks
	pad        = 12 // in a network's box and in a card
	lineHeight = 15
	headHeight = 52 // of a network's box, with one line of subnets
	hostWidth  = 120
	wire       = 44 // from the host to a network
	minCard    = 130
	maxCard    = 280
	maxPorts   = 4 // lines of a card
	wide       = 1500
)

// Widths of a character: of the bold sans-serif font of names at 13 pixels, and of the
// monospaced one at 11. The first is that of a wide one: what is too narrow overflows.
const (
	nameChar = 8.2
	monoChar = 6.7
	kindChar = 6.6
)

type colours struct{ light, strong string }

// colour returns those of a network. They come again after eight.
func colour(i int) colours {
	list := []colours{
		{"#e8f1fb", "#2b6cb0"}, {"#e9f7ef", "#2f855a"}, {"#fdf3e3", "#b7791f"}, {"#f6ecfa", "#805ad5"},
		{"#fdecec", "#c53030"}, {"#e6f7f8", "#2c7a7b"}, {"#f1f1ee", "#5a5a4e"}, {"#fceef6", "#b83280"},
	}
	return list[i%len(list)]
}

// A card is a container in a network's box.
type card struct {
	c      Container
	p      Place
	lines  []string // below the name
	second bool     // its own network's box is another: its gateway network's
}

// A box is a network with its cards.
type box struct {
	n                      Network
	colours                colours
	cards                  []card
	columns                int
	cardWidth, width, high int
	rows                   []int // heights
	head                   int   // height
}

// SVG draws the graph as a picture: the host at the left, to which each network leads, and
// in each network's box its containers. A container on several networks is in the box of
// each: framed in its gateway network's, dashed in the others'.
func (g Graph) SVG() string {
	boxes := make([]box, len(g.Networks))
	width, height := 0, 0
	for i, n := range g.Networks {
		boxes[i] = g.box(n, colour(i))
		width = max(width, boxes[i].width)
		height += boxes[i].high + gap
	}
	height = max(height-gap, 80)
	left := margin + hostWidth + wire
	total := left + width + margin
	const legend = 30
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="DejaVu Sans, Verdana, Arial, sans-serif">`+"\n",
		max(total, 460), margin+height+legend+margin)
	b.WriteString(`<rect width="100%" height="100%" fill="#ffffff"/>` + "\n")
	g.host(&b, height)
	y := margin
	for i := range boxes {
		boxes[i].draw(&b, left, y, width)
		y += boxes[i].high + gap
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" font-size="11" fill="#666">%s on %s. A dashed frame: the container's default route leads by another network.</text>`+"\n",
		margin, margin+height+legend, many(len(g.Containers), "container"), many(len(g.Networks), "network"))
	b.WriteString("</svg>\n")
	return b.String()
}

// host draws the host as a column at the left.
func (g Graph) host(b *strings.Builder, height int) {
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" rx="8" fill="#2d3748"/>`+"\n", margin, margin, hostWidth, height)
	label(b, margin+hostWidth/2, margin+26, `font-size="13" font-weight="bold" fill="#fff" text-anchor="middle"`, g.Host, hostWidth-2*pad, nameChar)
	if g.Uplink != "" {
		label(b, margin+hostWidth/2, margin+26+lineHeight+3, `font-size="11" fill="#cbd5e0" text-anchor="middle"`, g.Uplink, hostWidth-2*pad, kindChar)
	}
}

// box lays a network out: as many columns as keep it about twice as wide as high.
func (g Graph) box(n Network, c colours) box {
	b := box{n: n, colours: c, cardWidth: minCard}
	list, places := g.on(n.Name)
	for i := range list {
		k := cardOf(list[i], places[i])
		b.cards = append(b.cards, k)
		b.cardWidth = max(b.cardWidth, k.width())
	}
	b.cardWidth = min(b.cardWidth, maxCard)
	most := max(1, (wide-2*pad+gap)/(b.cardWidth+gap))
	b.columns = min(max(1, int(math.Ceil(math.Sqrt(float64(len(b.cards))*1.2)))), most, max(1, len(b.cards)))
	if len(b.cards) <= 4 {
		b.columns = min(max(1, len(b.cards)), most)
	}
	b.head = headHeight + lineHeight*max(0, len(b.headLines())-1)
	b.width = max(2*pad+b.columns*(b.cardWidth+gap)-gap, b.headWidth())
	b.high = b.head
	for i := 0; i < len(b.cards); i += b.columns {
		high := 0
		for _, k := range b.cards[i:min(i+b.columns, len(b.cards))] {
			high = max(high, k.height())
		}
		b.rows = append(b.rows, high)
		b.high += high + gap
	}
	if len(b.cards) > 0 {
		b.high += pad - gap
	}
	return b
}

// headLines are those below the network's name.
func (b box) headLines() []string {
	lines := append([]string{}, b.n.Subnets...)
	if b.n.Link != "" {
		lines = append([]string{b.n.Link}, lines...)
	}
	if len(b.n.Nodes) > 0 {
		lines = append(lines, "nodes "+strings.Join(b.n.Nodes, ", "))
	}
	return lines
}

func (b box) headWidth() int {
	width := int(float64(utf8.RuneCountInString(b.n.Name))*nameChar) + int(float64(len(b.n.kind()))*kindChar) + 3*pad
	for _, l := range b.headLines() {
		width = max(width, int(float64(len(l))*monoChar)+2*pad)
	}
	return width
}

func cardOf(c Container, p Place) card {
	k := card{c: c, p: p, lines: append([]string{}, p.Addresses...)}
	for i, port := range p.Ports {
		if i == maxPorts-1 && len(p.Ports) > maxPorts {
			k.lines = append(k.lines, fmt.Sprintf("and %d more ports", len(p.Ports)-i))
			break
		}
		k.lines = append(k.lines, strings.Replace(port, " to ", " → ", 1))
	}
	if others := c.others(p.Network); len(others) > 0 {
		k.lines = append(k.lines, "also on "+strings.Join(others, ", "))
		for _, o := range c.Places {
			k.second = k.second || !p.Gateway && o.Gateway
		}
	}
	return k
}

func (k card) height() int { return 2*pad + lineHeight*(1+len(k.lines)) - 4 }

func (k card) width() int {
	width := int(float64(utf8.RuneCountInString(k.c.Name)) * nameChar)
	for _, l := range k.lines {
		width = max(width, int(float64(utf8.RuneCountInString(l))*monoChar))
	}
	return width + 2*pad
}

// draw draws a network's box, the line from the host to it, and its cards.
func (b box) draw(w *strings.Builder, x, y, width int) {
	dash, fill := "", b.colours.strong
	if b.n.Internal {
		dash, fill = ` stroke-dasharray="4 4"`, "#718096"
	}
	fmt.Fprintf(w, `<path d="M%d %d h%d" stroke="%s" stroke-width="3"%s/>`+"\n", x-wire, y+26, wire, fill, dash)
	fmt.Fprintf(w, `<rect x="%d" y="%d" width="%d" height="%d" rx="8" fill="%s" stroke="%s" stroke-width="1.5"/>`+"\n",
		x, y, width, b.high, b.colours.light, b.colours.strong)
	named := label(w, x+pad, y+22, `font-size="14" font-weight="bold" fill="`+b.colours.strong+`"`, b.n.Name, width-3*pad-int(float64(len(b.n.kind()))*kindChar), nameChar+0.7)
	label(w, x+pad+named+8, y+22, `font-size="12" fill="#4a5568"`, b.n.kind(), maxCard, kindChar)
	for i, l := range b.headLines() {
		label(w, x+pad, y+22+lineHeight*(i+1)+2, `font-size="11" font-family="DejaVu Sans Mono, monospace" fill="#4a5568"`, l, width-2*pad, monoChar)
	}
	top := y + b.head
	for i, k := range b.cards {
		if i > 0 && i%b.columns == 0 {
			top += b.rows[i/b.columns-1] + gap
		}
		k.draw(w, x+pad+(i%b.columns)*(b.cardWidth+gap), top, b.cardWidth, b.rows[i/b.columns], b.colours.strong)
	}
}

// draw draws a card.
func (k card) draw(w *strings.Builder, x, y, width, height int, strong string) {
	frame := fmt.Sprintf(`fill="#ffffff" stroke="%s"`, strong)
	if k.second {
		frame = fmt.Sprintf(`fill="#ffffff" fill-opacity="0.5" stroke="%s" stroke-dasharray="5 4"`, strong)
	}
	fmt.Fprintf(w, `<g><title>%s</title><rect x="%d" y="%d" width="%d" height="%d" rx="5" %s/>`+"\n", escape(k.c.Name+" "+k.c.ID), x, y, width, height, frame)
	label(w, x+pad, y+pad+8, `font-size="13" font-weight="bold" fill="#1a202c"`, k.c.Name, width-2*pad, nameChar)
	for i, l := range k.lines {
		fill := "#2d3748"
		if i >= len(k.p.Addresses) {
			fill = strong
		}
		label(w, x+pad, y+pad+8+lineHeight*(i+1), `font-size="11" font-family="DejaVu Sans Mono, monospace" fill="`+fill+`"`, l, width-2*pad, monoChar)
	}
	w.WriteString("</g>\n")
}

// label writes a text that is cut to a width, and returns how wide it may be.
func label(w *strings.Builder, x, y int, attributes, text string, width int, char float64) int {
	fits := max(1, int(float64(width)/char))
	if utf8.RuneCountInString(text) > fits {
		text = string([]rune(text)[:fits-1]) + "…"
	}
	fmt.Fprintf(w, `<text x="%d" y="%d" %s>%s</text>`+"\n", x, y, attributes, escape(text))
	return int(float64(utf8.RuneCountInString(text)) * char)
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(s)
}
