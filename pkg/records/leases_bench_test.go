package records

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"dcni/pkg/ipam"
)

// populate leases the first n addresses of a /16 that keep reports, and says
// dirty: the first session makes the rest.
func populate(b *testing.B, s Store, n int, keep func(i int) bool) {
	epoch, err := s.Epoch()
	if err != nil {
		b.Fatal(err)
	}
	l := s.Leases("", "web")
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		b.Fatal(err)
	}
	a := netip.MustParseAddr("10.1.0.1")
	for i := range n {
		a = a.Next()
		if !keep(i) {
			continue
		}
		link := lease{owner: owner(fmt.Sprintf("c%d", i)), epoch: epoch}
		if err := os.Symlink(link.target(), l.dir+"/"+a.String()); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.session(true, func(*session) error { return nil }); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkAllocate claims one address, and releases it again, which is timed
// too and keeps the population. The last line compares the medians of the slowest
// case of all and the fastest: it should be 3 at most.
func BenchmarkAllocate(b *testing.B) {
	shapes := []struct {
		name string
		keep func(i, n int) bool
	}{
		{"whole", func(i, n int) bool { return true }},
		{"holes", func(i, n int) bool { return i%2 == 0 }},
		{"clustered", func(i, n int) bool { return i < n/2 }},
	}
	var slowest, fastest float64
	for _, n := range []int{10, 1000, 60000} {
		for _, shape := range shapes {
			s := testStore(b)
			populate(b, s, n, func(i int) bool { return shape.keep(i, n) })
			for _, how := range []ipam.Allocation{ipam.NextFit, ipam.Lowest} {
				var each float64
				b.Run(fmt.Sprintf("%s/%s/%d", how, shape.name, n), func(b *testing.B) {
					each = allocate(b, s, how)
				})
				if each == 0 {
					continue // not asked for
				}
				slowest = max(slowest, each)
				if fastest == 0 || each < fastest {
					fastest = each
				}
			}
		}
	}
	if fastest > 0 {
		fmt.Printf("slowest %.0f us, fastest %.0f us: ratio %.2f\n", slowest/1000, fastest/1000, slowest/fastest)
	}
}

// allocate returns the median, in ns: other work on the machine shows in the
// mean, and one case has more of it than another.
func allocate(b *testing.B, s Store, how ipam.Allocation) float64 {
	var each []time.Duration
	cfg := config(b, "10.1.0.0/16")
	cfg.Allocation = how
	l, req := s.Leases("", "web"), request("bench")
	for b.Loop() {
		start := time.Now()
		if _, err := l.Claim(req, cfg); err != nil {
			b.Fatal(err)
		}
		if err := l.Release(req.Owner); err != nil {
			b.Fatal(err)
		}
		each = append(each, time.Since(start))
	}
	slices.Sort(each)
	median := float64(each[len(each)/2].Nanoseconds())
	b.ReportMetric(median, "median-ns")
	return median
}

// BenchmarkRebuild is what the first claim after a crash costs.
func BenchmarkRebuild(b *testing.B) {
	s := testStore(b)
	populate(b, s, 60000, func(int) bool { return true })
	for b.Loop() {
		if err := s.Leases("", "web").session(false, (*session).rebuild); err != nil {
			b.Fatal(err)
		}
	}
}
