package proc

import (
	"strings"
	"testing"
)

func TestNetNSMounts(t *testing.T) {
	const line = `36 35 0:4 net:[4026532281] /run/netns/a\040b rw shared:1 - nsfs nsfs rw`
	overlay := "37 35 0:50 / / rw - overlay overlay rw," + strings.Repeat("lowerdir=/x:", 20_000)
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{line, "/run/netns/a b"},
		{line + "\n" + overlay + " a b c net:[1] /no\n" + strings.ReplaceAll(line, "a\\040b", "c"), "/run/netns/a b /run/netns/c"},
		{"36 35 0:4 / /run rw", ""},
		{"36 35 0:4 net:[1]", ""},
	} {
		points, err := netNSMounts(strings.NewReader(c.text))
		if got := strings.Join(points, " "); got != c.want || err != nil {
			t.Errorf("%.100q: %q, want %q, error %v", c.text, got, c.want, err)
		}
	}
}

func FuzzProc(f *testing.F) {
	f.Add("12 (a b) c) S 1 12 12 0", "c1")
	f.Add(`36 35 0:4 net:[4026532281] /run/netns/a\134040 rw - nsfs nsfs rw`, "a")
	f.Add("0::/system.slice/libpod-c1.scope", "c1")
	f.Fuzz(func(t *testing.T, text, container string) {
		if points, err := netNSMounts(strings.NewReader(text)); err != nil || len(points) > strings.Count(text, "net:[") {
			t.Errorf("mounted at %q, error %v", points, err)
		}
		_ = parentIn(text)
		if hasWord(text, container) && !strings.Contains(text, container) {
			t.Errorf("%q has word %q", text, container)
		}
	})
}
