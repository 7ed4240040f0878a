package names

import "testing"

func TestPortBeside(t *testing.T) {
	for _, c := range []struct {
		taken []uint16
		want  uint16
	}{
		{nil, 0},
		{[]uint16{80, 53}, 0},
		{[]uint16{UsualPort}, UsualPort - 1},
		{[]uint16{UsualPort - 1, 80, UsualPort}, UsualPort - 2},
	} {
		if got := PortBeside(c.taken); got != c.want {
			t.Errorf("%v: %d, want %d", c.taken, got, c.want)
		}
	}
}
