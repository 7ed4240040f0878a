package graph

import (
	"fmt"
	"math"
	"strings"
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
	maxCard    = 250
	maxPorts   = 4    // lines of a card
	wide       = 1300 // of a network's box, at most, but for a long name
)

// A font is what a text is written in, as far as it needs room.
type font struct {
	size float64 // pixels
	mono bool
}

var (
	titleFont = font{14, false} // of networks' names
	nameFont  = font{13, false} // of containers'
	kindFont  = font{12, false}
	monoFont  = font{11, true}
)

// width is how wide a letter is: that of DejaVu Sans Bold, which is wider than most, or
// of any monospaced font.
func (f font) width(r rune) float64 {
	em := 0.72
	switch {
	case f.mono:
		em = 0.61
	case strings.ContainsRune("mwMW@%…", r):
		em = 1.11
	case strings.ContainsRune("iljI.,:;'|!-()[]/ ", r):
		em = 0.42
	case r >= 'A' && r <= 'Z' || r >= 128:
		em = 0.85
	}
	return em * f.size
}

// pixels is how wide a text is.
func (f font) pixels(text string) int {
	width := 0.0
	for _, r := range text {
		width += f.width(r)
	}
	return int(math.Ceil(width))
}

// cut cuts a text to a width.
func (f font) cut(text string, width int) string {
	if f.pixels(text) <= width {
		return text
	}
	room, fits := float64(width)-f.width('…'), ""
	for _, r := range text {
		if room -= f.width(r); room < 0 {
			break
		}
		fits += string(r)
	}
	return fits + "…"
}

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
	}
	for i := range boxes {
		boxes[i].fill(width)
		height += boxes[i].high + gap
	}
	height = max(height-gap, 80)
	left := margin + hostWidth + wire
	total := left + width + margin
	const legendHeight = 30
	legend := fmt.Sprintf("%s on %s. Dashed: the default route leads by another network.", many(len(g.Containers), "container"), many(len(g.Networks), "network"))
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="DejaVu Sans, Verdana, Arial, sans-serif">`+"\n",
		max(total, monoFont.pixels(legend)+2*margin), margin+height+legendHeight+margin)
	b.WriteString(`<rect width="100%" height="100%" fill="#ffffff"/>` + "\n")
	g.host(&b, height)
	y := margin
	for i := range boxes {
		boxes[i].draw(&b, left, y)
		y += boxes[i].high + gap
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" font-size="11" fill="#666">%s</text>`+"\n", margin, margin+height+legendHeight, escape(legend))
	b.WriteString("</svg>\n")
	return b.String()
}

// host draws the host as a column at the left.
func (g Graph) host(b *strings.Builder, height int) {
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" rx="8" fill="#2d3748"><title>%s</title></rect>`+"\n", margin, margin, hostWidth, height, escape(g.Host))
	name := g.Host
	if nameFont.pixels(name) > hostWidth-pad {
		name, _, _ = strings.Cut(name, ".") // without its domain
	}
	label(b, margin+hostWidth/2, margin+26, `font-weight="bold" fill="#fff" text-anchor="middle"`, name, hostWidth-pad, nameFont)
	if g.Uplink != "" {
		label(b, margin+hostWidth/2, margin+26+lineHeight+3, `fill="#cbd5e0" text-anchor="middle"`, g.Uplink, hostWidth-pad, kindFont)
	}
}

// box makes a network's box, about twice as wide as high.
func (g Graph) box(n Network, c colours) box {
	b := box{n: n, colours: c, cardWidth: minCard}
	list, places := g.on(n.Name)
	for i := range list {
		k := cardOf(list[i], places[i])
		b.cards = append(b.cards, k)
		b.cardWidth = max(b.cardWidth, k.width())
	}
	b.cardWidth = min(b.cardWidth, maxCard)
	b.head = headHeight + lineHeight*max(0, len(b.headLines())-1)
	columns := int(math.Ceil(math.Sqrt(float64(len(b.cards)) * 1.2)))
	if few := 4; len(b.cards) <= few {
		columns = len(b.cards)
	}
	columns = min(columns, b.fit(wide))
	b.width = max(2*pad+columns*(b.cardWidth+gap)-gap, min(b.headWidth(), wide))
	return b
}

// fit is how many cards fit into a width side by side.
func (b *box) fit(width int) int { return max(1, (width-2*pad+gap)/(b.cardWidth+gap)) }

// fill lays the cards out in rows of a width.
func (b *box) fill(width int) {
	b.width, b.columns, b.high = width, b.fit(width), b.head
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
	return append(lines, b.n.Services...)
}

func (b box) headWidth() int {
	width := titleFont.pixels(b.n.Name) + kindFont.pixels(b.n.kind()) + 3*pad
	for _, l := range b.headLines() {
		width = max(width, monoFont.pixels(l)+2*pad)
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
	width := nameFont.pixels(k.c.Name)
	for _, l := range k.lines {
		width = max(width, monoFont.pixels(l))
	}
	return width + 2*pad
}

// draw draws a network's box, the line from the host to it, and its cards.
func (b box) draw(w *strings.Builder, x, y int) {
	width := b.width
	dash, fill := "", b.colours.strong
	if b.n.Internal {
		dash, fill = ` stroke-dasharray="4 4"`, "#718096"
	}
	fmt.Fprintf(w, `<path d="M%d %d h%d" stroke="%s" stroke-width="3"%s/>`+"\n", x-wire, y+26, wire, fill, dash)
	fmt.Fprintf(w, `<rect x="%d" y="%d" width="%d" height="%d" rx="8" fill="%s" stroke="%s" stroke-width="1.5"/>`+"\n",
		x, y, width, b.high, b.colours.light, b.colours.strong)
	// One text, so that the kind follows the name however wide the font is.
	fmt.Fprintf(w, `<text x="%d" y="%d" font-size="14" font-weight="bold" fill="%s">%s<tspan dx="8" font-size="12" font-weight="normal" fill="#4a5568">%s</tspan></text>`+"\n",
		x+pad, y+22, b.colours.strong, escape(titleFont.cut(b.n.Name, width-3*pad-kindFont.pixels(b.n.kind()))), escape(b.n.kind()))
	for i, l := range b.headLines() {
		label(w, x+pad, y+22+lineHeight*(i+1)+2, `fill="#4a5568"`, l, width-2*pad, monoFont)
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
	label(w, x+pad, y+pad+8, `font-weight="bold" fill="#1a202c"`, k.c.Name, width-2*pad, nameFont)
	for i, l := range k.lines {
		fill := "#2d3748"
		if i >= len(k.p.Addresses) {
			fill = strong
		}
		label(w, x+pad, y+pad+8+lineHeight*(i+1), `fill="`+fill+`"`, l, width-2*pad, monoFont)
	}
	w.WriteString("</g>\n")
}

// label writes a text that is cut to a width.
func label(w *strings.Builder, x, y int, attributes, text string, width int, f font) {
	family := ""
	if f.mono {
		family = ` font-family="DejaVu Sans Mono, monospace"`
	}
	fmt.Fprintf(w, `<text x="%d" y="%d" font-size="%g"%s %s>%s</text>`+"\n", x, y, f.size, family, attributes, escape(f.cut(text, width)))
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(s)
}
