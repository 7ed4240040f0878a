package main

import (
	"context"
	"errors"
	"time"

	"dcni/pkg/overlay"
	"dcni/pkg/wire"
)

// releasePause is the time between two looks at the queue of releases.
const releasePause = time.Second

// sendReleases sends what attachments were to give back while the store was away.
func (n *node) sendReleases(ctx context.Context) {
	for sleep(ctx, releasePause) {
		queue, err := n.state.Releases()
		if err != nil {
			n.log.Warn("releases that wait can't be read", "error", err)
		}
		for _, a := range queue {
			err := n.sendRelease(ctx, a)
			if errors.Is(err, overlay.ErrUnavailable) || ctx.Err() != nil {
				break // the next ones would wait for the store as well
			}
			if err != nil {
				n.log.Warn("an attachment's addresses are not given back", "attachment", a, "error", err)
			}
		}
	}
}

// sendRelease gives back what an attachment had, unless it is being attached again.
func (n *node) sendRelease(ctx context.Context, a wire.Attachment) error {
	lock, free, err := n.locks().TryLockAttachment(a)
	if err != nil || !free {
		return err
	}
	defer lock.Unlock()
	if !n.state.Released(a) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if err := n.cluster().Release(ctx, a); err != nil {
		return err
	}
	n.log.Info("an attachment's addresses are given back", "attachment", a)
	return n.state.DropRelease(a)
}

// releaseEarlier gives back, once after each boot of the host, what its attachments had
// that are on no record: those of before are gone with it, and runtimes do not send DEL
// for all of them. An ADD writes its record before it claims.
func (n *node) releaseEarlier(ctx context.Context) {
	for ctx.Err() == nil {
		err := n.tryReleaseEarlier(ctx)
		if err == nil {
			return
		}
		if !errors.Is(err, overlay.ErrUnavailable) {
			n.log.Warn("what attachments had before this boot is not given back", "error", err)
		}
		sleep(ctx, lookPause)
	}
}

func (n *node) tryReleaseEarlier(ctx context.Context) error {
	boot, err := n.locks().Epoch()
	if err != nil {
		return err
	}
	if known, err := n.state.Read(fileBoot); err == nil && string(known) == boot {
		return nil
	}
	networks, err := n.networks(ctx)
	if err != nil {
		return err
	}
	for _, network := range networks {
		if err := n.cluster().ReleaseExcept(ctx, network.Name, n.locks().Has); err != nil {
			return err
		}
	}
	return n.state.Write(fileBoot, []byte(boot))
}

// queued counts the releases that wait.
func (n *node) queued() int {
	queue, _ := n.state.Releases() // sendReleases logs what can't be read
	return len(queue)
}
