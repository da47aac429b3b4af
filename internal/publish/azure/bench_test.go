package azure

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // what Put Page's Content-MD5 is
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/pageblob"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/publish/azure/azuretest"
)

// benchMiB is the disk of the benchmark: all of it is data.
const benchMiB = 128

// fullDisk is a disk without a page that is empty, which costs no memory.
type fullDisk struct {
	size    int64
	content []byte // repeated
}

func newFullDisk(size int64) fullDisk {
	content := make([]byte, mib+4096) // no whole part of a window, so that they differ
	r := rand.New(rand.NewPCG(1, 1))
	for i := range content {
		content[i] = byte(r.Uint32()) | 1
	}
	return fullDisk{size, content}
}

func (d fullDisk) Size() int64 { return d.size }

func (d fullDisk) ReadAt(p []byte, offset int64) (int, error) {
	for n := 0; n < len(p); {
		n += copy(p[n:], d.content[(offset+int64(n))%int64(len(d.content)):])
	}
	return len(p), nil
}

func (d fullDisk) NextData(offset int64) (format.Extent, error) {
	if offset >= d.size {
		return format.Extent{}, io.EOF
	}
	return format.Extent{Offset: offset, Length: d.size - offset}, nil
}

// BenchmarkUpload sends a disk to Azurite, and so does a control that hashes and
// PUTs the same windows with net/http: run them in pairs, as Azurite, which is
// one thread of JavaScript, bounds both.
func BenchmarkUpload(b *testing.B) {
	azurite := azuretest.StartAzurite(b)
	view := vhdOf(b, newFullDisk(benchMiB*mib))
	names := 0
	fresh := func(b *testing.B) string {
		names++
		name := fmt.Sprintf("bench-%d", names)
		blobAt(b, azurite, name, view.Size())
		return azurite.SAS(b, "vhds", name, time.Hour)
	}
	b.Run("nodesmith", func(b *testing.B) {
		b.SetBytes(view.Size())
		peak := watchHeap(b)
		for b.Loop() {
			blob, err := pageblob.NewClientWithNoCredential(fresh(b), &pageblob.ClientOptions{ClientOptions: policy.ClientOptions{Transport: azurite.Client}})
			if err != nil {
				b.Fatal(err)
			}
			t := transfer{file: view, blob: blob, retry: once, sent: func(int64) {}, arrived: func(int64) error { return nil }}
			if err := t.run(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(peak())/mib, "MiB-heap")
	})
	b.Run("control", func(b *testing.B) {
		b.SetBytes(view.Size())
		for b.Loop() {
			if err := control(b.Context(), azurite.Client, fresh(b), view); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// control sends a file as plainly as it can be sent.
func control(ctx context.Context, client *http.Client, address string, file format.Source) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(defaultParallel)
	for offset := int64(0); offset < file.Size(); offset += window {
		group.Go(func() error {
			data := make([]byte, min(window, file.Size()-offset))
			if err := format.ReadFull(file, file.Size(), data, offset); err != nil {
				return err
			}
			sum := md5.Sum(data) //nolint:gosec // see the import
			request, err := http.NewRequestWithContext(ctx, http.MethodPut, address+"&comp=page", bytes.NewReader(data))
			if err != nil {
				return err
			}
			request.Header.Set("Content-MD5", base64.StdEncoding.EncodeToString(sum[:]))
			request.Header.Set("X-Ms-Page-Write", "update")
			request.Header.Set("X-Ms-Version", "2025-01-05")
			request.Header.Set("X-Ms-Range", fmt.Sprintf("bytes=%d-%d", offset, offset+int64(len(data))-1))
			response, err := client.Do(request)
			if err != nil {
				return err
			}
			defer func() { _ = response.Body.Close() }()
			if response.StatusCode != http.StatusCreated {
				return fmt.Errorf("Azurite answers %s", response.Status)
			}
			return nil
		})
	}
	return group.Wait()
}

// watchHeap returns how to ask for the most heap that was in use since.
func watchHeap(b *testing.B) (peak func() uint64) {
	var most atomic.Uint64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapInuse))
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	b.Cleanup(func() {
		close(stop)
		<-stopped
	})
	return most.Load
}
