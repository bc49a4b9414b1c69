package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/phantomdb/phantomdb/consensus"
)

// An identity is who a directory belongs to. It is written before the cluster is
// asked for an id, with the request alone, so that a node that crashes while it joins
// asks again as the same one.
type identity struct {
	Request uint64           // by which the node joins
	Cluster uint64           `json:",omitempty"`
	Node    consensus.NodeID `json:",omitempty"` // 0: has none yet
	Joined  bool             `json:",omitempty"` // the cluster knew of a start
}

const identityName = "identity.json"

// readIdentity returns the zero identity of a directory without one.
func readIdentity(fs vfs.FS, dir string) (identity, error) {
	var id identity
	b, err := readFile(fs, fs.PathJoin(dir, identityName))
	if errors.Is(err, os.ErrNotExist) {
		return id, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &id)
	}
	if err == nil && (id.Request == 0 || (id.Cluster == 0) != (id.Node == 0)) {
		err = fmt.Errorf("%+v is no identity", id)
	}
	if err != nil {
		return id, fmt.Errorf("cluster: %s: %w", fs.PathJoin(dir, identityName), err)
	}
	return id, nil
}

func (id identity) write(fs vfs.FS, dir string) error {
	b, err := json.MarshalIndent(id, "", "\t")
	if err == nil {
		err = writeFile(fs, dir, identityName, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("cluster: keep the identity of node %d: %w", id.Node, err)
	}
	return nil
}

func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

// writeFile replaces a file of dir, durably and as a whole.
func writeFile(fs vfs.FS, dir, name string, data []byte) error {
	temporary := fs.PathJoin(dir, name+".tmp")
	f, err := fs.Create(temporary, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(temporary, fs.PathJoin(dir, name)); err != nil {
		return err
	}
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
