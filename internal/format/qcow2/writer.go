package qcow2

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"nodesmith.dev/nodesmith/internal/format"
)

// The writer's geometry. A cluster is a format.Block.
const (
	clusterBits     = 16
	clusterSize     = 1 << clusterBits
	l2Entries       = clusterSize / 8 // one L2 table maps 512 MiB
	refsPerBlock    = clusterSize / 2 // one refcount block counts 2 GiB of file
	compressedShift = 62 - (clusterBits - 8)
)

// writer lays out the file as it goes: header, L1 table (reserved), then
// clusters of data, each L2 table behind the data that it maps, refcount blocks
// as they fill up, the refcount table last. In memory are the L1 table, one L2
// table, up to two refcount blocks and the cluster being packed.
type writer struct {
	out    *format.Output
	size   int64
	method Compression

	next     int64 // offset of the first free cluster of the file
	l1       []uint64
	l2       []uint64
	l2Index  int64    // which L2 table l2 is
	l2InUse  bool     // l2 has entries
	pack     []byte   // compressed data that waits to fill a cluster
	packAt   int64    // that cluster's offset
	packOpen bool     // there is such a cluster
	refs     []uint16 // refcounts of the clusters from refsBase on
	refsBase int64    // in clusters, a multiple of refsPerBlock
	blocks   []uint64 // offsets of the refcount blocks written
}

// New makes a writer of an image of a disk of diskSize bytes.
func (o Options) New(out *format.Output, diskSize int64) (format.Writer, error) {
	if _, ok := compressionTypes[o.Compression]; !ok {
		return nil, fmt.Errorf("qcow2 has no compression %d", o.Compression)
	}
	w := &writer{
		out: out, size: diskSize, method: o.Compression,
		l1: make([]uint64, max(1, ceil(diskSize, l2Entries*clusterSize))),
		l2: make([]uint64, l2Entries), pack: make([]byte, 0, clusterSize),
	}
	w.allocate(1 + ceil(int64(len(w.l1))*8, clusterSize)) // the header's cluster and the L1 table
	return w, nil
}

func ceil(a, b int64) int64 { return (a + b - 1) / b }

func (w *writer) Codec() format.Codec {
	switch w.method {
	case Zstd:
		return zstdCodec{}
	case Zlib:
		return zlibCodec{}
	case Plain:
	}
	return nil
}

// allocate takes count clusters at the file's end, each referenced once, and
// returns the offset of the first.
func (w *writer) allocate(count int64) int64 {
	at := w.next
	w.next += count * clusterSize
	for w.refsBase+int64(len(w.refs)) < w.next/clusterSize {
		w.refs = append(w.refs, 1)
	}
	return at
}

func (w *writer) WriteBlock(b format.Block) error {
	cluster := b.Offset / clusterSize
	if table := cluster / l2Entries; table != w.l2Index {
		if err := w.flushL2(); err != nil {
			return err
		}
		w.l2Index = table
	}
	entry, err := w.store(b)
	if err != nil {
		return err
	}
	w.l2[cluster%l2Entries], w.l2InUse = entry, true
	return w.flushRefs()
}

// store writes the block's data and returns its L2 entry.
func (w *writer) store(b format.Block) (uint64, error) {
	if len(b.Encoded) > 0 {
		return w.storeCompressed(b.Encoded)
	}
	at := w.allocate(1)
	return uint64(at) | flagCopied, w.put(at, b.Data)
}

// storeCompressed packs data behind what was compressed before ("Compressed
// Clusters Descriptor"): a descriptor counts the 512-byte sectors that the data
// touches, and each cluster touched gets one reference.
func (w *writer) storeCompressed(data []byte) (uint64, error) {
	room, splits := clusterSize-len(w.pack), w.packAt+clusterSize == w.next
	if w.packOpen && (room == 0 || len(data) > room && !splits) {
		if err := w.closePack(); err != nil {
			return 0, err
		}
	}
	if w.packOpen {
		w.refs[w.packAt/clusterSize-w.refsBase]++
	} else {
		w.openPack()
	}
	at := w.packAt + int64(len(w.pack))
	n := min(len(data), clusterSize-len(w.pack))
	w.pack = append(w.pack, data[:n]...)
	if n < len(data) {
		if err := w.closePack(); err != nil {
			return 0, err
		}
		w.openPack()
		w.pack = append(w.pack, data[n:]...)
	}
	sectors := (at+int64(len(data))-1)/format.SectorSize - at/format.SectorSize
	return flagCompressed | uint64(sectors)<<compressedShift | uint64(at), nil
}

// openPack takes a cluster for compressed data, referenced once: by the data
// that the caller is about to put there.
func (w *writer) openPack() {
	w.packAt, w.packOpen, w.pack = w.allocate(1), true, w.pack[:0]
}

func (w *writer) closePack() error {
	if !w.packOpen {
		return nil
	}
	w.packOpen = false
	clear(w.pack[len(w.pack):clusterSize])
	return w.put(w.packAt, w.pack[:clusterSize])
}

// put writes one cluster; those that come in order go through the buffer.
func (w *writer) put(at int64, cluster []byte) error {
	if at == w.out.Size() {
		_, err := w.out.Write(cluster)
		return err
	}
	_, err := w.out.WriteAt(cluster, at)
	return err
}

func (w *writer) flushL2() error {
	if !w.l2InUse {
		return nil
	}
	at := w.allocate(1)
	w.l1[w.l2Index] = uint64(at) | flagCopied
	err := w.put(at, bigEndian(w.l2))
	clear(w.l2)
	w.l2InUse = false
	return err
}

// flushRefs writes the refcount blocks whose clusters get no more references:
// those before the cluster being packed.
func (w *writer) flushRefs() error {
	for len(w.refs) >= refsPerBlock && (!w.packOpen || w.packAt/clusterSize >= w.refsBase+refsPerBlock) {
		block := w.refs[:refsPerBlock]
		at := w.allocate(1)
		if err := w.put(at, bigEndian16(block)); err != nil {
			return err
		}
		w.blocks = append(w.blocks, uint64(at))
		w.refs = append(w.refs[:0], w.refs[refsPerBlock:]...)
		w.refsBase += refsPerBlock
	}
	return nil
}

func (w *writer) Finish(format.Summary) error {
	if err := w.closePack(); err != nil {
		return err
	}
	if err := w.flushL2(); err != nil {
		return err
	}
	if err := w.flushRefs(); err != nil {
		return err
	}
	tableAt, tableClusters, err := w.finishRefs()
	if err != nil {
		return err
	}
	if _, err := w.out.WriteAt(bigEndian(w.l1), clusterSize); err != nil {
		return err
	}
	if w.out.Size() < w.next {
		if err := w.out.Resize(w.next); err != nil {
			return err
		}
	}
	_, err = w.out.WriteAt(w.header(tableAt, tableClusters), 0)
	return err
}

// finishRefs writes the last refcount blocks and the refcount table, which
// count themselves too.
func (w *writer) finishRefs() (tableAt, tableClusters int64, err error) {
	first := len(w.blocks)
	tableClusters = 1
	for { // each round can only add
		for int64(len(w.blocks)-first)*refsPerBlock < int64(len(w.refs)) {
			w.blocks = append(w.blocks, uint64(w.allocate(1)))
		}
		tableClusters = max(1, ceil(int64(len(w.blocks))*8, clusterSize))
		if int64(len(w.refs))+tableClusters <= int64(len(w.blocks)-first)*refsPerBlock {
			break
		}
		w.blocks = append(w.blocks, uint64(w.allocate(1)))
	}
	tableAt = w.allocate(tableClusters)
	for i, at := range w.blocks[first:] {
		begin := i * refsPerBlock
		block := make([]uint16, refsPerBlock)
		copy(block, w.refs[min(begin, len(w.refs)):])
		if err := w.put(int64(at), bigEndian16(block)); err != nil {
			return 0, 0, err
		}
	}
	table := make([]byte, tableClusters*clusterSize)
	copy(table, bigEndian(w.blocks))
	_, err = w.out.WriteAt(table, tableAt)
	return tableAt, tableClusters, err
}

func (w *writer) header(tableAt, tableClusters int64) []byte {
	h := header{
		Magic: [4]byte([]byte(magic)), Version: version3, ClusterBits: clusterBits, Size: uint64(w.size),
		L1Size: uint32(len(w.l1)), L1TableOffset: clusterSize,
		RefcountTableOffset: uint64(tableAt), RefcountTableClusters: uint32(tableClusters),
		RefcountOrder: refcountOrder16, HeaderLength: headerLength,
		CompressionType: compressionTypes[w.method],
	}
	if h.CompressionType != 0 {
		h.IncompatibleFeatures |= incompatCompression
	}
	var buf bytes.Buffer
	_ = binary.Write(&buf, binary.BigEndian, h) // a fixed-size struct into memory
	buf.Write(featureNames())
	return buf.Bytes()
}

func bigEndian(table []uint64) []byte {
	buf := make([]byte, 0, len(table)*8)
	for _, v := range table {
		buf = binary.BigEndian.AppendUint64(buf, v)
	}
	return buf
}

func bigEndian16(table []uint16) []byte {
	buf := make([]byte, 0, len(table)*2)
	for _, v := range table {
		buf = binary.BigEndian.AppendUint16(buf, v)
	}
	return buf
}
