package vmtest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
)

// Seed is the bootstrap data of one machine as cloud-init's NoCloud data source
// takes it. The empty MetaData and NetworkConfig get defaults.
type Seed struct {
	UserData      []byte
	MetaData      []byte // YAML with instance-id
	NetworkConfig []byte // YAML, cloud-init's version 1 or 2
}

// seedLabel is the volume label by which NoCloud and ds-identify know a seed.
const seedLabel = "CIDATA"

//go:embed assets/meta-data
var defaultMetaData []byte

//go:embed assets/network-config
var defaultNetworkConfig []byte

const (
	isoBlock = 2048    // ECMA-119, 6.1.2
	isoSize  = 8 << 20 // bytes: upper bound of a seed; the file is sparse
)

// write makes the seed an ISO 9660 file system with Rock Ridge names at path.
// The library collects the files in a directory of its own under dir.
func (s Seed) write(ctx context.Context, path, dir string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the seed %s: %w", path, err)
		}
	}()
	storage, err := file.CreateFromPath(path, isoSize)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, storage.Close()) }()
	work, err := os.MkdirTemp(dir, "seed-")
	if err != nil {
		return err
	}
	iso, err := iso9660.Create(storage, isoSize, 0, isoBlock, work)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, iso.Close()) }() // removes work

	for _, f := range []struct {
		name          string
		data, missing []byte
	}{
		{"user-data", s.UserData, nil},
		{"meta-data", s.MetaData, defaultMetaData},
		{"network-config", s.NetworkConfig, defaultNetworkConfig},
	} {
		if f.data == nil {
			f.data = f.missing
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		w, err := iso.OpenFile(f.name, os.O_CREATE|os.O_RDWR)
		if err != nil {
			return err
		}
		if _, err := w.Write(f.data); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
	return iso.Finalize(iso9660.FinalizeOptions{RockRidge: true, VolumeIdentifier: seedLabel})
}
