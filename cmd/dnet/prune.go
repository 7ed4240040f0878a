package main

import (
	"bufio"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dcni/pkg/network/catalog"
)

func newPruneCommand(a *app) *cobra.Command {
	var force bool
	var filters []string
	cmd := &cobra.Command{
		Use:                   "prune [OPTIONS]",
		Short:                 "Remove all networks that no container is on",
		Args:                  exactly(0),
		RunE:                  func(*cobra.Command, []string) error { return a.prune(filters, force) },
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().StringArrayVar(&filters, "filter", nil, `Provide filter values (e.g. "until=24h", "label=tier=front", "label!=keep")`)
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	return cmd
}

// prune removes the networks that dnet made and that no container is on, on no node of the
// cluster either. The words are Docker's.
func (a *app) prune(words []string, force bool) error {
	filters := catalog.Filters{}
	for _, word := range words {
		if err := filters.Add(word); err != nil {
			return &statusErr{statusUsage, fmt.Errorf("invalid argument %q for \"--filter\" flag: %w", word, err)}
		}
	}
	if err := filters.ValidatePrune(); err != nil {
		return err
	}
	until, err := untilOf(filters["until"], time.Now())
	if err != nil {
		return err
	}
	if !force && !a.confirm("WARNING! This will remove all custom networks not used by at least one container.") {
		return errors.New("network prune has been cancelled: nothing was removed; -f does not ask")
	}
	removed, failed, err := a.pruneNetworks(func(c *catalog.Conflist, created time.Time) bool {
		return (until.IsZero() || !created.After(until)) && filters.MatchLabels(c.Labels)
	})
	if len(removed) > 0 {
		fmt.Fprintf(a.out(true), "Deleted Networks:\n%s\n\n", strings.Join(removed, "\n"))
	}
	for _, e := range failed {
		a.printError(e)
	}
	if len(failed) > 0 && err == nil {
		return &statusErr{status: statusError}
	}
	return err
}

// pruneNetworks removes the networks that dnet made, that pass and that no container is on, on
// no node of the cluster either. It goes on past what can't be removed, and returns why.
func (a *app) pruneNetworks(passes func(c *catalog.Conflist, created time.Time) bool) (removed []string, failed []error, err error) {
	a.heal() // a container whose dnet was killed must not count as attached
	list, _, err := a.readNetworks()
	if err != nil {
		return nil, nil, err
	}
	m, err := a.openHost(a.store)
	if err != nil {
		return nil, nil, err
	}
	defer m.Close()
	for _, n := range list {
		made := n.Path == a.conf.Path(n.Name) || isOverlay(n.Raw)
		if catalog.Predefined(n.Name) || !made || !passes(n.Conflist, n.Created) {
			continue
		}
		if a.unserved(n.Name) != nil {
			continue // in use
		}
		a.waiting("removing network %s", n.Name)
		err := a.remove(m, n.Name)
		_, inUse := errors.AsType[*catalog.InUseError](err)
		switch {
		case err == nil:
			removed = append(removed, n.Name)
		case !inUse:
			failed = append(failed, err)
		}
	}
	slices.SortFunc(removed, catalog.Natural)
	return removed, failed, nil
}

// confirm asks, and reports whether the answer is yes. No answer is no.
func (a *app) confirm(question string) bool {
	fmt.Fprintf(a.out(true), "%s\nAre you sure you want to continue? [y/N] ", question)
	answer, _ := bufio.NewReader(a.stdin).ReadString('\n') // the end of the input: no
	return strings.EqualFold(strings.TrimSpace(answer), "y")
}

// timeForms are those that Docker takes for a time besides a duration and seconds of 1970.
var timeForms = []string{
	time.RFC3339Nano, time.RFC3339, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02",
}

// untilOf reads the filter until. The zero time means that it was not given.
func untilOf(values []string, now time.Time) (time.Time, error) {
	if len(values) == 0 {
		return time.Time{}, nil
	}
	t, err := parseTime(values[0], now)
	if err != nil {
		return t, fmt.Errorf("invalid filter 'until=%s': %w", values[0], err)
	}
	return t, nil
}

// parseTime reads a time in Docker's forms: a duration before now, a time, or seconds since
// 1970.
func parseTime(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	for _, form := range timeForms {
		if t, err := time.ParseInLocation(form, text, time.Local); err == nil {
			return t, nil
		}
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		return time.Unix(0, int64(seconds*float64(time.Second))), nil
	}
	return time.Time{}, fmt.Errorf("%q must be a duration, as 24h, a time, as 2006-01-02T15:04:05, or seconds since 1970", text)
}
