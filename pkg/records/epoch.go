package records

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"dcni/pkg/records/disk"
)

// epochDigits is the length of an epoch, in hexadecimal digits.
const epochDigits = 12

func (s Store) epochPath() string { return filepath.Join(s.Run, "epoch") }

func (s Store) copyPath() string { return s.epochPath() + ".copy" }

// Epoch returns the word that stands for this boot. The first call makes it: it
// writes the word under a random name and then links it, so that the file is there
// whole or not at all, and the first of several processes wins. It needs no lock.
func (s Store) Epoch() (string, error) {
	word, err := s.KnownEpoch()
	switch {
	case errors.Is(err, os.ErrNotExist):
		return s.makeEpoch(randomWord())
	case disk.IsUnreadable(err):
		return s.mendEpoch()
	case err == nil && !disk.Exists(s.copyPath()): // an older version made it
		s.copyEpoch(word)
	}
	return word, err
}

// KnownEpoch returns the word that stands for this boot and changes nothing. The error
// is os.ErrNotExist if there is none yet.
func (s Store) KnownEpoch() (string, error) { return readEpoch(s.epochPath()) }

// mendEpoch makes an epoch that can't be read again, of its copy. Without one it is
// another word: leases whose owner is on record stay, see rebuildAll.
func (s Store) mendEpoch() (string, error) {
	lock, err := s.lock(kindEpoch, "")
	if err != nil {
		return "", err
	}
	defer lock.Unlock()
	word, err := s.KnownEpoch()
	if !disk.IsUnreadable(err) {
		return word, err
	}
	if word, failed := readEpoch(s.copyPath()); failed == nil {
		return word, s.Root(s.Run).ReplaceUnreadable(s.epochPath(), []byte(word+"\n"), false, err)
	}
	if err := s.Root(s.Run).Quarantine(s.epochPath(), err); err != nil {
		return "", err
	}
	return s.Epoch()
}

// makeEpoch makes the epoch, if no other process does so before, and its copy.
func (s Store) makeEpoch(word string) (string, error) {
	temp := filepath.Join(s.Run, "tmp", "epoch."+word)
	text := []byte(word + "\n")
	if err := s.Root(s.Run).WriteTemp(temp, text, 0o600, false); err != nil {
		_ = os.Remove(temp) // its name is never used again
		return "", err
	}
	linked := os.Link(temp, s.epochPath())
	if err := os.Remove(temp); err != nil {
		return "", err
	}
	if linked == nil {
		s.copyEpoch(word)
		return word, nil
	}
	if !errors.Is(linked, os.ErrExist) {
		return "", linked
	}
	return s.KnownEpoch()
}

// copyEpoch writes the copy, without a lock. Without room for it the epoch is as good, and
// the next session tries again.
func (s Store) copyEpoch(word string) {
	temp := filepath.Join(s.Run, "tmp", "epoch."+randomWord())
	_ = s.Root(s.Run).ReplaceFrom(temp, s.copyPath(), []byte(word+"\n"), 0o600, false)
}

// randomWord returns a word that no other process has.
func randomWord() string {
	var random [epochDigits / 2]byte
	rand.Read(random[:])
	return hex.EncodeToString(random[:])
}

func readEpoch(path string) (string, error) {
	f, _, err := disk.RegularFile(path, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data := make([]byte, epochDigits+2)
	n, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", disk.Unreadable(path, err)
	}
	data = data[:n]
	if len(data) != epochDigits+1 {
		return "", &disk.UnreadableError{Path: path, Err: fmt.Errorf("%q is no epoch", data)}
	}
	if _, err := hex.DecodeString(string(data[:epochDigits])); err != nil {
		return "", &disk.UnreadableError{Path: path, Err: err}
	}
	return string(data[:epochDigits]), nil
}
