package foreign

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall/foreign"
	"dcni/pkg/host/nlsock"
)

// lookup reads a comparison with a set, or a map of verdicts. Where the key has several parts,
// or elements have verdicts, each element is a rule of its own.
func (d *decoder) lookup(e *expr.Lookup) {
	fields := d.loaded
	d.loaded = nil
	elements, interval, err := d.elements(e.SetName)
	understood := len(fields) > 0 && !slices.ContainsFunc(fields, func(f string) bool { return f != "in" && f != "out" && f != "state" })
	switch {
	case err != nil || e.Invert || !understood || len(elements) == 0 || d.among != nil:
		d.rule.Other = true
	case e.IsDestRegSet || len(fields) > 1:
		d.among = rulesOf(fields, elements, interval)
	case fields[0] == "state":
		d.state(statesOf(elements))
	default:
		var one foreign.Rule
		for _, r := range rulesOf(fields, elements, interval) {
			one.In, one.Out, one.Other = append(one.In, r.In...), append(one.Out, r.Out...), one.Other || r.Other
		}
		d.rule = d.rule.With(one)
	}
}

// elements lists those of a set, and tells whether they are the ends of intervals.
func (d *decoder) elements(name string) (list []nftables.SetElement, interval bool, err error) {
	set, err := d.c.GetSetByName(d.table, name)
	if err != nil {
		return nil, false, err
	}
	list, err = d.c.GetSetElements(set)
	return list, set.Interval && !set.Concatenation, err
}

func statesOf(elements []nftables.SetElement) (mask uint32) {
	for _, el := range elements {
		if len(el.Key) == stateLen {
			mask |= binary.NativeEndian.Uint32(el.Key)
		}
	}
	return mask
}

const stateLen = 4

// rulesOf returns a rule for each element of a set whose key is made of fields. What it can't
// read asks for something else.
func rulesOf(fields []string, elements []nftables.SetElement, interval bool) (list []foreign.Rule) {
	for _, el := range elements {
		if el.IntervalEnd {
			continue
		}
		last := el.Key
		switch {
		case el.KeyEnd != nil:
			last = el.KeyEnd
		case interval:
			last = lastOf(el.Key, elements)
		}
		r := ruleOf(fields, el.Key, last)
		if v := verdictOf(el); v != nil {
			r.Verdict, r.To = verdict(v)
		}
		list = append(list, r)
	}
	return list
}

// verdictOf returns the verdict of a map's element; nil if it has none. The library reads it
// as a value: the attributes that NFTA_DATA_VERDICT has.
func verdictOf(el nftables.SetElement) (v *expr.Verdict) {
	nlsock.Attributes(el.Val, func(typ uint16, data []byte) {
		switch {
		case typ == unix.NFTA_VERDICT_CODE && len(data) == 4:
			v = &expr.Verdict{Kind: expr.VerdictKind(int32(binary.BigEndian.Uint32(data)))}
		case typ == unix.NFTA_VERDICT_CHAIN && v != nil:
			v.Chain = nlsock.CString(data)
		}
	})
	return v
}

// ruleOf reads an element, from the first to the last key that it stands for.
func ruleOf(fields []string, first, last []byte) (r foreign.Rule) {
	for _, f := range fields {
		size := unix.IFNAMSIZ
		if f == "state" {
			size = stateLen
		}
		if len(first) < size || len(last) < size {
			return foreign.Rule{Other: true}
		}
		name, ok := pattern(first[:size], last[:size])
		switch {
		case f == "state":
			r.New, r.Established = states(binary.NativeEndian.Uint32(first))
		case !ok:
			r.Other = true
		case f == "in":
			r.In = []string{name}
		default:
			r.Out = []string{name}
		}
		first, last = first[size:], last[size:]
	}
	return r
}

// pattern reads links' names from the first to the last: one name, or all that begin so, which
// are from "br-" and zeros to "br-" and bytes of 255.
func pattern(first, last []byte) (name string, ok bool) {
	name = string(bytes.TrimRight(first, "\x00"))
	rest := last[len(name):]
	switch {
	case bytes.Equal(first, last):
		return name, true
	case bytes.Equal(first[:len(name)], last[:len(name)]) && bytes.Count(rest, []byte{0xff}) == len(rest):
		return name + "*", true
	}
	return "", false
}

// lastOf returns the last value of an interval: the kernel lists its first and, as an element
// of its own, what comes after its last.
func lastOf(first []byte, elements []nftables.SetElement) []byte {
	var after []byte
	for _, el := range elements {
		if el.IntervalEnd && bytes.Compare(el.Key, first) > 0 && (after == nil || bytes.Compare(el.Key, after) < 0) {
			after = el.Key
		}
	}
	last := bytes.Clone(after)
	for i := len(last) - 1; i >= 0; i-- {
		if last[i]--; last[i] != 0xff {
			break
		}
	}
	return last
}
