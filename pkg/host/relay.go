package host

import (
	"errors"
	"time"

	"dcni/pkg/host/agent"
	"dcni/pkg/wire"
)

// relayTime is how long dnetd may take to open or close an attachment's ports:
// 10,000 take 150 ms.
const relayTime = time.Second

// RefreshRelay has dnetd relay the ports of an attachment that came, or no more
// those that went. Without a dnetd it is nil: one that starts reads the records.
func RefreshRelay(a wire.Attachment) error {
	_, err := agent.Call(agent.DefaultSocket, relayTime, agent.Request{Op: agent.Refresh, Attachment: &a})
	if errors.Is(err, agent.ErrAbsent) {
		return nil
	}
	return err
}
