package network

// DNS is the dns part of a configuration or result, as the CNI specification
// has it.
type DNS struct {
	Nameservers []string `json:"nameservers,omitempty"`
	Domain      string   `json:"domain,omitempty"`
	Search      []string `json:"search,omitempty"`
	Options     []string `json:"options,omitempty"`
}

// Given reports whether it says anything.
func (d *DNS) Given() bool {
	return d != nil && (d.Domain != "" || len(d.Nameservers)+len(d.Search)+len(d.Options) > 0)
}
