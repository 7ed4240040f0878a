package leases

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"dcni/pkg/ipam"
	"dcni/pkg/records"
)

// populate leases the first n addresses of a /16 that keep reports, each owner some of them, and
// says dirty: the first session makes the rest.
func populate(b testing.TB, s records.Store, n, each int, keep func(i int) bool) {
	epoch, err := s.Epoch()
	if err != nil {
		b.Fatal(err)
	}
	l := Of(s, "", "web")
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		b.Fatal(err)
	}
	a := netip.MustParseAddr("10.1.0.1")
	for i := range n {
		a = a.Next()
		if !keep(i) {
			continue
		}
		link := lease{owner: owner(fmt.Sprintf("c%d", i/each)), epoch: epoch}
		if err := os.Symlink(link.target(), l.dir+"/"+a.String()); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.session(true, func(*session) error { return nil }); err != nil {
		b.Fatal(err)
	}
}

// A bench is one case: a network with leases, and a way to allocate.
type bench struct {
	name  string
	l     Leases
	cfg   ipam.Config
	times []time.Duration
}

// benches returns every case: 10 to 60,000 leases of a /16 without holes, with
// every second one released, and with the second half released. An owner each takes most of the
// time to make, so that only those without holes have one.
func benches(b testing.TB) []*bench {
	shapes := []struct {
		name string
		each int // addresses of an owner
		keep func(i, n int) bool
	}{
		{"whole", 1, func(i, n int) bool { return true }},
		{"holes", 100, func(i, n int) bool { return i%2 == 0 }},
		{"clustered", 100, func(i, n int) bool { return i < n/2 }},
	}
	var out []*bench
	for _, n := range []int{10, 1000, 60000} {
		for _, shape := range shapes {
			s := benchStore(b)
			populate(b, s, n, shape.each, func(i int) bool { return shape.keep(i, n) })
			for _, how := range []ipam.Allocation{ipam.NextFit, ipam.Lowest} {
				cfg := config(b, "10.1.0.0/16")
				cfg.Allocation = how
				out = append(out, &bench{name: fmt.Sprintf("%s/%s/%d", how, shape.name, n), l: Of(s, "", "web"), cfg: cfg})
			}
		}
	}
	return out
}

// allocate claims one address. It releases it again, untimed, so the number of
// leases stays.
func (c *bench) allocate(b testing.TB) {
	start := time.Now()
	_, err := c.l.Claim(request("bench"), c.cfg)
	c.times = append(c.times, time.Since(start))
	if err := errors.Join(err, c.l.Release(owner("bench"))); err != nil {
		b.Fatal(err)
	}
}

// typical returns the time that a tenth of the claims kept below.
func (c *bench) typical() time.Duration {
	slices.Sort(c.times)
	return c.times[len(c.times)/10]
}

// compare returns how many times the slowest case takes what the fastest does.
func compare(cases []*bench) (float64, string) {
	cases = slices.DeleteFunc(slices.Clone(cases), func(c *bench) bool { return len(c.times) == 0 })
	if len(cases) == 0 {
		return 1, "nothing measured"
	}
	slices.SortFunc(cases, func(a, b *bench) int { return int(a.typical() - b.typical()) })
	fast, slow := cases[0], cases[len(cases)-1]
	ratio := float64(slow.typical()) / float64(fast.typical())
	return ratio, fmt.Sprintf("slowest claim %s %v, fastest %s %v: ratio %.2f",
		slow.name, slow.typical(), fast.name, fast.typical(), ratio)
}

// benchStore is in memory where it can be. ext4 does not use inodes again that
// were freed in the last five seconds but walks over them: there, a loop that
// claims and releases measures its own past, whatever the number of leases.
func benchStore(b testing.TB) records.Store {
	dir, err := os.MkdirTemp("/dev/shm", "dcni-records-")
	if err != nil {
		return testStore(b)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return records.Store{Run: dir + "/run", Lib: dir + "/lib"}
}

// BenchmarkAllocate claims one address; claim-ns is without the release.
// TestAllocateIsFlat compares the cases.
func BenchmarkAllocate(b *testing.B) {
	cases := benches(b)
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				c.allocate(b)
			}
			b.ReportMetric(float64(c.typical().Nanoseconds()), "claim-ns")
		})
	}
	_, text := compare(cases)
	fmt.Println(text)
}

// TestAllocateIsFlat: a claim costs the same however many leases and holes
// there are. The cases take turns, so that other work on the machine slows all
// of them alike: measured one after another, equal ones differed by nine times.
func TestAllocateIsFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 120,000 leases")
	}
	cases := benches(t)
	for range 300 {
		for _, c := range cases {
			c.allocate(t)
		}
	}
	ratio, text := compare(cases)
	t.Log(text)
	if ratio > 3 {
		t.Errorf("%.2f times as slow", ratio)
	}
}

// BenchmarkRebuild is what the first claim after a crash costs.
func BenchmarkRebuild(b *testing.B) {
	s := benchStore(b)
	populate(b, s, 60000, 1, func(int) bool { return true })
	for b.Loop() {
		if err := Of(s, "", "web").session(false, (*session).rebuild); err != nil {
			b.Fatal(err)
		}
	}
}
