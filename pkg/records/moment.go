package records

import (
	"cmp"
	"time"

	"golang.org/x/sys/unix"
)

// A Moment is when something began, by two clocks. The time of day is for people, and may be set
// while containers run. The clock that counts from the machine's start is never set: moments
// are compared by it.
type Moment struct {
	Since     time.Time     `json:"since"`
	SinceBoot time.Duration `json:"sinceBoot,omitempty"` // nanoseconds; 0: not known
}

// Now returns the present moment.
func Now() Moment { return Moment{time.Now().UTC(), sinceBoot()} }

// Age returns how long ago it was. The time of day may have been set back since.
func (m Moment) Age() time.Duration {
	if m.SinceBoot == 0 {
		return time.Since(m.Since).Abs()
	}
	return sinceBoot() - m.SinceBoot
}

// Compare orders moments, the oldest first. Those that are not known by the clock that is never
// set are of an older version, so they are older.
func (m Moment) Compare(o Moment) int {
	return cmp.Or(cmp.Compare(m.SinceBoot, o.SinceBoot), m.Since.Compare(o.Since))
}

// sinceBoot returns how long ago the machine was started, suspension included; 0 if the kernel
// does not say.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
