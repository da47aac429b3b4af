package azure

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/format/vhd"
	"nodesmith.dev/nodesmith/internal/publish/azure/azuretest"
)

const mib = 1 << 20

// sparseDisk is a disk with runs of data of many lengths, and zeros between.
func sparseDisk(size int64) *formattest.Disk {
	r := rand.New(rand.NewPCG(3, 4))
	disk := formattest.NewDisk(size)
	disk.Random(r, 0, 34*512) // as a GPT
	for offset := int64(mib); offset < size-mib; {
		length := min(1+r.Int64N(300_000), size-mib-offset)
		disk.Random(r, offset, length)
		offset += length + r.Int64N(3*mib)
	}
	disk.Random(r, size-33*512, 33*512)
	return disk
}

func vhdOf(t testing.TB, disk format.Source) *vhd.View {
	t.Helper()
	view, err := vhd.NewView(disk, vhd.Options{ID: [16]byte{15: 1}, Created: time.Unix(1790000000, 0)})
	if err != nil {
		t.Fatal(err)
	}
	return view
}

// blobAt makes a container and an empty page blob, with the account's key.
func blobAt(t testing.TB, azurite *azuretest.Azurite, name string, size int64) *pageblob.Client {
	t.Helper()
	c, err := azurite.Container("vhds")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Create(t.Context(), nil) // another test may have made it
	blob, err := azurite.PageBlob("vhds", name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Create(t.Context(), size, nil); err != nil {
		t.Fatal(err)
	}
	return blob
}

func once(ctx context.Context, do func(context.Context) error) error { return do(ctx) }

// sameAs reads a blob back and compares it with a file, byte for byte.
func sameAs(t testing.TB, blob *pageblob.Client, want format.Source) {
	t.Helper()
	response, err := blob.DownloadStream(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	a, b := make([]byte, mib), make([]byte, mib)
	for offset := int64(0); offset < want.Size(); {
		n := min(mib, want.Size()-offset)
		if _, err := io.ReadFull(response.Body, a[:n]); err != nil {
			t.Fatalf("the blob ends in the MiB at byte %d: %v", offset, err)
		}
		if err := format.ReadFull(want, want.Size(), b[:n], offset); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a[:n], b[:n]) {
			t.Fatalf("blob and VHD differ in the MiB at byte %d", offset)
		}
		offset += n
	}
	if n, err := response.Body.Read(a); n > 0 || err != io.EOF {
		t.Fatalf("the blob is longer than the VHD (error %v)", err)
	}
}

func TestOnlyPagesThatAreNotEmptyAreSent(t *testing.T) {
	azurite := azuretest.StartAzurite(t)
	view := vhdOf(t, sparseDisk(64*mib))
	blob := blobAt(t, azurite, "sparse.vhd", view.Size())
	sent := int64(0)
	transfer := transfer{
		file: view, blob: blob, parallel: 1, retry: once,
		sent: func(n int64) { sent += n }, arrived: func(int64) error { return nil },
	}
	if err := transfer.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameAs(t, blob, view)
	data, runs := nonEmpty(t, view)
	if sent < data || sent > data+int64(runs)*mergeGap || sent > view.Size()/2 {
		t.Errorf("%d bytes were sent of a VHD of %d with %d bytes in non-empty pages, in %d runs", sent, view.Size(), data, runs)
	}
	t.Logf("%d bytes sent of %d", sent, view.Size())
}

// nonEmpty counts the bytes of pages that hold something, and their runs.
func nonEmpty(t testing.TB, file format.Source) (data int64, runs int) {
	t.Helper()
	page, before := make([]byte, pageSize), false
	for offset := int64(0); offset < file.Size(); offset += pageSize {
		if err := format.ReadFull(file, file.Size(), page, offset); err != nil {
			t.Fatal(err)
		}
		full := !bytes.Equal(page, zeros[:])
		if full {
			data += pageSize
		}
		if full && !before {
			runs++
		}
		before = full
	}
	return data, runs
}

func TestAResumedTransferSendsWhatIsMissingAlone(t *testing.T) {
	azurite := azuretest.StartAzurite(t)
	view := vhdOf(t, sparseDisk(64*mib))
	blob := blobAt(t, azurite, "resumed.vhd", view.Size())
	stop, cancel := context.WithCancel(t.Context())
	var first, second int64
	cut := transfer{
		file: view, blob: blob, parallel: 1, retry: once, arrived: func(int64) error { return nil },
		sent: func(n int64) {
			if first += n; first > 4*mib {
				cancel()
			}
		},
	}
	if err := cut.run(stop); err == nil {
		t.Fatal("a cancelled transfer succeeded")
	}
	// A page that is none of the file's must not stay.
	foreign := streamOf(bytes.Repeat([]byte{7}, pageSize))
	gap := emptyPage(t, view)
	if _, err := blob.UploadPages(t.Context(), foreign, httpRange(gap, pageSize), nil); err != nil {
		t.Fatal(err)
	}
	again := cut
	again.resume, again.sent = true, func(n int64) { second += n }
	if err := again.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameAs(t, blob, view)
	whole := int64(0)
	for _, run := range allRuns(t, view) {
		whole += run.Length
	}
	// What was under way when the transfer was cut may be sent twice.
	if first == 0 || second == 0 || first+second < whole-window || first+second > whole+window {
		t.Errorf("%d bytes were sent, then %d, of %d", first, second, whole)
	}
	third := int64(0)
	again.sent = func(n int64) { third += n }
	if err := again.run(t.Context()); err != nil || third != 0 {
		t.Errorf("a transfer of what is there sent %d bytes: %v", third, err)
	}
}

var _ azcore.TokenCredential = (*azuretest.Login)(nil)

func streamOf(p []byte) io.ReadSeekCloser { return streaming.NopCloser(bytes.NewReader(p)) }

func httpRange(offset, count int64) blob.HTTPRange {
	return blob.HTTPRange{Offset: offset, Count: count}
}

// allRuns returns what a transfer of the whole file sends.
func allRuns(t testing.TB, file format.Source) (all []format.Extent) {
	t.Helper()
	data := make([]byte, window)
	for offset := int64(0); offset < file.Size(); offset += window {
		n := min(window, file.Size()-offset)
		if err := format.ReadFull(file, file.Size(), data[:n], offset); err != nil {
			t.Fatal(err)
		}
		all = append(all, occupied(data[:n], offset)...)
	}
	return all
}

// emptyPage returns where a page lies that nothing is sent to.
func emptyPage(t testing.TB, file format.Source) int64 {
	t.Helper()
	runs := allRuns(t, file)
	for i := range runs[1:] {
		if runs[i+1].Offset-runs[i].End() > 2*pageSize {
			return runs[i].End() + pageSize
		}
	}
	t.Fatal("every page is sent")
	return 0
}
