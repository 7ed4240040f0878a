package records

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// epochDigits is the length of an epoch, in hexadecimal digits.
const epochDigits = 12

// Epoch returns the word that stands for this boot. The first call makes it: it
// writes the word under a random name and then links it, so that the file is there
// whole or not at all, and the first of several processes wins. It needs no lock.
func (s Store) Epoch() (string, error) {
	path := filepath.Join(s.Run, "epoch")
	word, err := readEpoch(path)
	if !errors.Is(err, os.ErrNotExist) {
		return word, err
	}
	var random [epochDigits / 2]byte
	rand.Read(random[:])
	word = hex.EncodeToString(random[:])
	temp := filepath.Join(s.Run, "tmp", "epoch."+word)
	if err := writeTemp(temp, []byte(word+"\n"), 0o600, false); err != nil {
		_ = os.Remove(temp) // its name is never used again
		return "", err
	}
	err = os.Link(temp, path)
	if err := os.Remove(temp); err != nil {
		return "", err
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return readEpoch(path)
}

func readEpoch(path string) (string, error) {
	f, err := openFile(path, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data := make([]byte, epochDigits+2)
	n, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	data = data[:n]
	if len(data) != epochDigits+1 {
		return "", fmt.Errorf("%s: %q is no epoch: remove it, and every container has to be attached again", path, data)
	}
	if _, err := hex.DecodeString(string(data[:epochDigits])); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return string(data[:epochDigits]), nil
}
