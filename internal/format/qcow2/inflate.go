package qcow2

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"

	"nodesmith.dev/nodesmith/internal/format"
)

// maxZstdWindow is the largest window of a zstd frame that is read, in bytes:
// what every decoder has to support (RFC 8878, 3.1.1.1.2).
const maxZstdWindow = 8 << 20

// inflaters are decoders that wait for use.
type inflaters struct{ deflate, zstd sync.Pool }

// inflate reads the compressed cluster that lies in length bytes at byte at of
// the file. What follows it there belongs to other clusters.
func (m *Image) inflate(at, length int64) ([]byte, error) {
	if at >= m.fileSize {
		return nil, fmt.Errorf("compressed cluster at byte %d of a file of %d: %w", at, m.fileSize, format.ErrCorrupt)
	}
	packed := make([]byte, min(length, m.fileSize-at))
	if err := format.ReadFull(m.r, m.fileSize, packed, at); err != nil {
		return nil, err
	}
	content := make([]byte, m.clusterSize())
	read := m.inflaters.readDeflate
	if m.compression == compressionTypes[Zstd] {
		read = m.inflaters.readZstd
	}
	if err := read(bytes.NewReader(packed), content); err != nil {
		return nil, fmt.Errorf("decompress the cluster at byte %d: %w: %w", at, format.ErrCorrupt, err)
	}
	return content, nil
}

func (i *inflaters) readDeflate(packed *bytes.Reader, content []byte) error {
	decoder, ok := i.deflate.Get().(io.ReadCloser)
	if !ok {
		decoder = flate.NewReader(nil)
	}
	defer i.deflate.Put(decoder)
	if err := decoder.(flate.Resetter).Reset(packed, nil); err != nil {
		return err
	}
	_, err := io.ReadFull(decoder, content)
	return err
}

func (i *inflaters) readZstd(packed *bytes.Reader, content []byte) error {
	decoder, ok := i.zstd.Get().(*zstd.Decoder)
	if !ok {
		var err error
		decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return err
		}
	}
	defer i.zstd.Put(decoder)
	if err := decoder.Reset(packed); err != nil {
		return err
	}
	_, err := io.ReadFull(decoder, content)
	return err
}
