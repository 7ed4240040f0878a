package overlay

import "testing"

func TestFreeVNI(t *testing.T) {
	only := func(free ...int) func(int) bool {
		return func(vni int) bool {
			for _, f := range free {
				if vni == f {
					return false
				}
			}
			return true
		}
	}
	for _, c := range []struct {
		from int
		used func(int) bool
		want int
	}{
		{0, func(int) bool { return false }, 4096},
		{4099, only(4096, 4100), 4100},
		{4101, only(4096, 4100), 4096}, // round
		{MaxVNI + 1, only(4098), 4098}, // behind the last
		{4096, only(MaxVNI), 16_777_215},
		{4096, only(), 0},
	} {
		got, err := freeVNI(c.from, c.used)
		if got != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("from %d: %d, %v, want %d", c.from, got, err, c.want)
		}
	}
}
