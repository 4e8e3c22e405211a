// verify DIR: is the checkpoint in DIR signed with the key in DIR/vkey, and is it the head of the
// lines in DIR?  Signature and tree are those of Go's checksum database, golang.org/x/mod/sumdb,
// which knows nothing of clubkeyd.
package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "verify:", err)
		os.Exit(1)
	}
}

func read(dir, name string) []byte {
	raw, err := os.ReadFile(filepath.Join(dir, name))
	must(err)
	return raw
}

// lines are those of all segments, without their LF.
func lines(dir string) (all [][]byte) {
	names, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	must(err)
	for _, name := range names {
		raw := read("", name)
		if len(raw) > 0 {
			all = append(all, bytes.Split(bytes.TrimSuffix(raw, []byte("\n")), []byte("\n"))...)
		}
	}
	return all
}

func head(records [][]byte) tlog.Hash {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var found []tlog.Hash
		for _, i := range indexes {
			found = append(found, stored[i])
		}
		return found, nil
	})
	for i, record := range records {
		hashes, err := tlog.StoredHashes(int64(i), record, reader)
		must(err)
		stored = append(stored, hashes...)
	}
	hash, err := tlog.TreeHash(int64(len(records)), reader)
	must(err)
	return hash
}

func main() {
	dir := os.Args[1]
	verifier, err := note.NewVerifier(strings.TrimSpace(string(read(dir, "vkey"))))
	must(err)
	signed, err := note.Open(read(dir, "checkpoint"), note.VerifierList(verifier))
	must(err)
	text := strings.Split(signed.Text, "\n")
	size, err := strconv.Atoi(text[1])
	must(err)
	root, err := base64.StdEncoding.DecodeString(text[2])
	must(err)
	records := lines(dir)
	if len(text) != 4 || text[0] != verifier.Name() || size > len(records) {
		must(fmt.Errorf("checkpoint of %d records, but there are %d", size, len(records)))
	}
	hash := head(records[:size])
	if !bytes.Equal(hash[:], root) {
		must(fmt.Errorf("the head of %d records is another one", size))
	}
	fmt.Printf("%s: %d records verified\n", text[0], size)
}
