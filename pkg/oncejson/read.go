package oncejson

import (
	"encoding/json"
	"strconv"
)

// maxDepth is how deep lists and objects may be nested to be read here.
const maxDepth = 100

// Split returns the members of a JSON object, as [json.Unmarshal] does into a map,
// with its errors. The values are parts of the text, which must not change.
func Split(object []byte) (map[string]json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	if Members(object, func(key string, value json.RawMessage) bool { members[key] = value; return true }) {
		return members, nil
	}
	var all map[string]json.RawMessage // what is unusual, or wrong
	err := json.Unmarshal(object, &all)
	return all, err
}

// Members calls f for each member of a JSON object in the order of the text, until
// f returns false. It reports whether all were called. It is false, too, where the
// text is no JSON, no object, or unusual: deeper than 100 lists and objects, or
// with keys that have escapes or other than ASCII in them. For those there is
// encoding/json.
func Members(object []byte, f func(key string, value json.RawMessage) bool) bool {
	r := reader{text: object}
	r.space()
	return r.members(f) && r.ended()
}

// Items is [Members] for a list.
func Items(list []byte, f func(value json.RawMessage) bool) bool {
	r := reader{text: list}
	r.space()
	return r.items(f) && r.ended()
}

// Text returns a JSON string's value; false if it is none, or has escapes or other
// than ASCII in it.
func Text(value []byte) (string, bool) {
	r := reader{text: value}
	start, end, plain := r.quoted()
	if !plain || r.at != len(value) {
		return "", false
	}
	return string(value[start:end]), true
}

// Int returns a JSON number's value; false if it is none, or not whole.
func Int(value []byte) (int, bool) {
	r := reader{text: value}
	if !r.number() || r.at != len(value) {
		return 0, false
	}
	n, err := strconv.Atoi(string(value)) // which would take +1 and 01, but for the line above
	return n, err == nil
}

// A reader is at a byte of a text. Its methods report whether what they are named
// for is there, and go behind it.
//
// encoding/json takes each byte through a function of its state, twice. In a
// process that reads one text now and then, most of the time goes into code that
// has left the caches by then: there is less of it here.
type reader struct {
	text  []byte
	at    int
	depth int
}

// next returns the byte that the reader is at; 0 at the end, which is no JSON.
func (r *reader) next() byte {
	if r.at < len(r.text) {
		return r.text[r.at]
	}
	return 0
}

func (r *reader) skip(c byte) bool {
	if r.next() != c {
		return false
	}
	r.at++
	return true
}

func (r *reader) space() {
	for c := r.next(); c == ' ' || c == '\n' || c == '\t' || c == '\r'; c = r.next() {
		r.at++
	}
}

func (r *reader) ended() bool {
	r.space()
	return r.at == len(r.text)
}

func (r *reader) value() bool {
	switch r.next() {
	case '{':
		return r.members(func(string, json.RawMessage) bool { return true })
	case '[':
		return r.items(func(json.RawMessage) bool { return true })
	case '"':
		_, end, _ := r.quoted()
		return end > 0
	case 't':
		return r.word("true")
	case 'f':
		return r.word("false")
	case 'n':
		return r.word("null")
	}
	return r.number()
}

func (r *reader) word(w string) bool {
	if len(r.text)-r.at < len(w) || string(r.text[r.at:r.at+len(w)]) != w {
		return false
	}
	r.at += len(w)
	return true
}

func (r *reader) members(f func(key string, value json.RawMessage) bool) bool {
	return r.nested('{', '}', func() bool {
		start, end, plain := r.quoted()
		r.space()
		if !plain || !r.skip(':') {
			return false
		}
		r.space()
		from := r.at
		return r.value() && f(string(r.text[start:end]), r.text[from:r.at:r.at])
	})
}

func (r *reader) items(f func(value json.RawMessage) bool) bool {
	return r.nested('[', ']', func() bool {
		from := r.at
		return r.value() && f(r.text[from:r.at:r.at])
	})
}

// nested is a list or an object, whose items are between commas.
func (r *reader) nested(begin, end byte, item func() bool) bool {
	if r.depth == maxDepth || !r.skip(begin) {
		return false
	}
	r.depth++
	r.space()
	for first := true; !r.skip(end); first = false {
		if !first {
			if !r.skip(',') {
				return false
			}
			r.space()
		}
		if !item() {
			return false
		}
		r.space()
	}
	r.depth--
	return true
}

// quoted is a string: it returns where its text is, and whether that means itself.
// The end is 0 where there is none.
func (r *reader) quoted() (start, end int, plain bool) {
	if !r.skip('"') {
		return 0, 0, false
	}
	start, plain = r.at, true
	for {
		switch c := r.next(); {
		case c == '"':
			r.at++
			return start, r.at - 1, plain
		case c == '\\':
			plain = false
			r.at++
			if !r.escape() {
				return 0, 0, false
			}
			continue
		case c < ' ': // or the end
			return 0, 0, false
		case c > '~':
			plain = false
		}
		r.at++
	}
}

// escape is what comes behind a backslash.
func (r *reader) escape() bool {
	switch r.next() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		r.at++
		return true
	case 'u':
		r.at++
		for range 4 {
			switch c := r.next(); {
			case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
				r.at++
			default:
				return false
			}
		}
		return true
	}
	return false
}

func (r *reader) number() bool {
	r.skip('-')
	if !r.skip('0') && !r.digits() {
		return false
	}
	if r.skip('.') && !r.digits() {
		return false
	}
	if r.skip('e') || r.skip('E') {
		if !r.skip('+') {
			r.skip('-')
		}
		return r.digits()
	}
	return true
}

// digits is one or more of them.
func (r *reader) digits() bool {
	from := r.at
	for c := r.next(); c >= '0' && c <= '9'; c = r.next() {
		r.at++
	}
	return r.at > from
}
