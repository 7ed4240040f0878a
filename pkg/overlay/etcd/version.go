package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Version returns the lowest version among the members that answer, as "3.4.23".
func (s *Store) Version(ctx context.Context) (string, error) {
	var lowest string
	var failed error
	for _, endpoint := range s.Endpoints() {
		limited, cancel := s.limit(ctx)
		r, err := s.client.Status(limited, endpoint)
		cancel()
		if err != nil {
			failed = errors.Join(failed, s.failed(ctx, err))
		} else if lowest == "" || compareVersions(r.Version, lowest) < 0 {
			lowest = r.Version
		}
	}
	if lowest == "" {
		return "", failed
	}
	return lowest, nil
}

// CheckVersion returns an error for a version of etcd that can't be the store, and a
// warning, or "", about one that should not. prefixRole says that etcd lets the client at
// the keys below a prefix only.
func CheckVersion(version string, prefixRole bool) (warning string, err error) {
	v, ok := parseVersion(version)
	switch {
	case !ok:
		return "", fmt.Errorf("etcd's version %q: must be MAJOR.MINOR.PATCH", version)
	case slices.Compare(v, []int{3, 4}) < 0:
		return "", fmt.Errorf("etcd's version %s: must be 3.4 or later, by which a client can ask whether a watch is alive", version)
	case slices.Compare(v, []int{4}) >= 0:
		return "", fmt.Errorf("etcd's version %s: must be 3.4 or later, below 4", version)
	case prefixRole && leaksWatches(v):
		return fmt.Sprintf("etcd's version %s lets a client watch keys outside its prefix (GHSA-xg4h-6gfc-h4m8): 3.6.14, 3.7.1 or later does not", version), nil
	}
	return "", nil
}

func leaksWatches(v []int) bool {
	if slices.Compare(v[:2], []int{3, 7}) == 0 {
		return v[2] < 1
	}
	return slices.Compare(v, []int{3, 6, 14}) < 0
}

// parseVersion returns the three numbers of a version, which may have more behind: 3.6.0-rc.1.
func parseVersion(version string) ([]int, bool) {
	numbers, _, _ := strings.Cut(version, "-")
	numbers, _, _ = strings.Cut(numbers, "+")
	var v []int
	for part := range strings.SplitSeq(numbers, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return nil, false
		}
		v = append(v, n)
	}
	return v, len(v) == 3
}

// compareVersions orders versions; one that can't be read is the lowest.
func compareVersions(a, b string) int {
	x, _ := parseVersion(a)
	y, _ := parseVersion(b)
	return slices.Compare(x, y)
}
