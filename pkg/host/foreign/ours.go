package foreign

import (
	"fmt"
	"slices"

	"github.com/google/nftables"

	"dcni/pkg/firewall/foreign"
	"dcni/pkg/firewall/iptables"
)

// OfIPTables lists dcni's chains of iptables, without their rules: in nf_tables, and in the filter
// tables of the iptables that came before it.
func OfIPTables() (list []foreign.Chain, err error) {
	old, err := legacy("filter")
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(old, func(c foreign.Chain) bool { return !iptables.Chain{Table: c.Table, Name: c.Name}.IsOurs() })
	if some, err := anyTable(); err != nil || !some {
		return list, nil //nolint:nilerr // the kernel has no nf_tables
	}
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	all, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	for _, ch := range all {
		family := families[ch.Table.Family]
		if (iptables.Chain{Table: ch.Table.Name, Name: ch.Name}).IsOurs() && (family == "ip" || family == "ip6") {
			list = append(list, foreign.Chain{Tool: toolOf(family, ch), Family: family, Table: ch.Table.Name, Name: ch.Name})
		}
	}
	return list, nil
}
