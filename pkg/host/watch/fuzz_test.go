package watch

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/nft"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/rtnl"
)

func FuzzEvents(f *testing.F) {
	const nsid = 3
	var link, rule rtnl.Message
	var table nlsock.Message
	link.IfInfo(2, 0, unix.IFF_UP)
	link.Str(unix.IFLA_IFNAME, "veth035irk9ux1p")
	f.Add(rtnl.Here, uint16(unix.RTM_NEWLINK), link.B)
	f.Add(nsid, uint16(unix.RTM_NEWLINK), link.B)
	rule.B = append(rule.B, make([]byte, unix.SizeofRtMsg)...)
	rule.Native(unix.FRA_TABLE, agent.Mark)
	f.Add(nsid, uint16(unix.RTM_DELRULE), rule.B)
	f.Add(nsid, uint16(unix.RTM_DELROUTE), make([]byte, unix.SizeofRtMsg))
	f.Add(rtnl.Here, uint16(unix.RTM_NEWNETCONF), []byte{})
	var qdisc nlsock.Message
	qdisc.B = append(qdisc.B, make([]byte, 20)...) // struct tcmsg
	qdisc.B[4] = 2                                 // index
	qdisc.Str(1, "tbf")
	f.Add(rtnl.Here, uint16(unix.RTM_DELQDISC), qdisc.B)
	f.Add(nsid, uint16(unix.RTM_DELQDISC), qdisc.B)
	table.NFHeader(unix.NFPROTO_INET, 0)
	table.Str(unix.NFTA_TABLE_NAME, firewall.TableName)
	f.Add(nsid, nft.MessageType(unix.NFT_MSG_DELTABLE), table.B)
	f.Add(nsid, nft.MessageType(unix.NFT_MSG_NEWGEN), table.B)
	f.Fuzz(func(t *testing.T, nsid int, typ uint16, payload []byte) {
		links := linkWatch{
			links:   map[int]*rtnl.Link{2: {Index: 2, Kind: "veth", NSID: 3, Peer: 2, Name: "veth035irk9ux1p"}},
			parents: map[int]parentLink{}, ask: func(int) (*rtnl.Link, error) { return nil, errors.New("gone") },
		}
		r := nlsock.Reply{Type: typ, Data: payload}
		for _, h := range links.feed(nsid, r) {
			if h.What != Anything && h.What != Forwarding && h.What != Lo && h.Link == "" && (h.What != Inside || h.NSID == 0) {
				t.Errorf("event %+v names no link", h)
			}
		}
		rules := ruleWatch{}
		rules.feed(nsid, r, func(string) bool { return true })
		if rules.feed(nsid, nlsock.Reply{Type: nft.MessageType(unix.NFT_MSG_NEWGEN), Data: payload}, func(string) bool { return true }) != (ruleChange{}) {
			t.Error("a change of ours is a loss")
		}
	})
}
