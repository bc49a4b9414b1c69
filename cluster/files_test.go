package cluster_test

import (
	"encoding/json"
	"io"
	"strconv"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

func vfsRead(fs vfs.FS, name string) (string, error) {
	f, err := fs.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	return string(b), err
}

func vfsWrite(fs vfs.FS, name, text string) error {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err := f.Write([]byte(text)); err != nil {
		return err
	}
	return f.Close()
}

// requestOf is the request that an identity names.
func requestOf(t testing.TB, identity string) string {
	var id struct{ Request uint64 }
	require.NoError(t, json.Unmarshal([]byte(identity), &id))
	return strconv.FormatUint(id.Request, 10)
}
