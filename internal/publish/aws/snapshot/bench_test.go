package snapshot_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/format/raw"
	"nodesmith.dev/nodesmith/internal/publish/aws/snapshot"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/blocksink"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/faultproxy"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/moto"
)

// serverVariable tells a process that it is the server of the benchmarks.
const serverVariable = "NODESMITH_EBS_BENCHMARK_SERVER"

// serveBenchmarks answers on two addresses, which it prints, until its standard
// input ends: one as fast as it can, one behind 1 Gbit/s and a round trip of
// 20 ms.
func serveBenchmarks() int {
	server := httptest.NewServer(blocksink.Handler())
	defer server.Close()
	link := faultproxy.Link{Rate: 1e9 / 8, Delay: 10 * time.Millisecond}
	line, stop, err := link.Open(strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer stop()
	fmt.Printf("%s http://%s\n", server.URL, line)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// startServer starts that process.
func startServer(b *testing.B) (fast, slow string) {
	b.Helper()
	program, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	command := exec.Command(program)
	command.Env = append(os.Environ(), serverVariable+"=1")
	stdin, err := command.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stdin.Close(); _ = command.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	fmt.Sscan(line, &fast, &slow)
	return fast, slow
}

// benchmarkDisk is a file of so many MiB of random bytes.
func benchmarkDisk(b *testing.B, mib int64) *raw.Disk {
	b.Helper()
	file, err := os.Create(filepath.Join(b.TempDir(), "disk"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { file.Close() })
	if _, err := io.CopyN(file, rand.NewChaCha8([32]byte{1}), mib<<20); err != nil {
		b.Fatal(err)
	}
	disk, err := raw.Open(file, mib<<20)
	if err != nil {
		b.Fatal(err)
	}
	return disk
}

// cpu is this process's time on the processors.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func upload(b *testing.B, client *ebs.Client, disk *raw.Disk) {
	b.Helper()
	u := &snapshot.Upload{Client: client, ID: "snap-0123456789abcdef0", Disk: disk, Retry: func(ctx context.Context, request func(context.Context) error) error { return request(ctx) }}
	if _, err := u.Run(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// control hashes the same blocks and puts them with net/http: what can't be done
// without.
func control(b *testing.B, url string, disk *raw.Disk) {
	b.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: snapshot.DefaultWorkers}}
	defer client.CloseIdleConnections()
	var group errgroup.Group
	group.SetLimit(snapshot.DefaultWorkers)
	rooms := sync.Pool{New: func() any { return new([block]byte) }}
	for index := range disk.Size() / block {
		group.Go(func() error {
			room := rooms.Get().(*[block]byte)
			defer rooms.Put(room)
			if _, err := disk.ReadAt(room[:], index*block); err != nil && err != io.EOF {
				return err
			}
			sum := sha256.Sum256(room[:])
			request, err := http.NewRequest(http.MethodPut, fmt.Sprintf("%s/snapshots/snap-0123456789abcdef0/blocks/%d", url, index), bytes.NewReader(room[:]))
			if err != nil {
				return err
			}
			request.Header.Set("X-Amz-Checksum", base64.StdEncoding.EncodeToString(sum[:]))
			answer, err := client.Do(request)
			if err != nil {
				return err
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusCreated {
				return fmt.Errorf("%s", answer.Status)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkUnthrottled compares the processor time of an upload with the
// control's, in pairs.
func BenchmarkUnthrottled(b *testing.B) {
	fast, _ := startServer(b)
	disk := benchmarkDisk(b, 512)
	client := fastClient(fast)
	upload(b, client, disk) // connections, and the file into memory
	var ours, theirs time.Duration
	for b.Loop() {
		start := cpu()
		upload(b, client, disk)
		middle := cpu()
		control(b, fast, disk)
		ours, theirs = ours+middle-start, theirs+cpu()-middle
	}
	b.ReportMetric(ours.Seconds()/float64(b.N), "cpu-s/upload")
	b.ReportMetric(float64(ours)/float64(theirs), "of-control")
	reportMemory(b)
}

// BenchmarkLink says how much of 1 Gbit/s an upload fills.
func BenchmarkLink(b *testing.B) {
	_, slow := startServer(b)
	disk := benchmarkDisk(b, 512)
	client := fastClient(slow)
	start := time.Now()
	n := 0
	for b.Loop() {
		upload(b, client, disk)
		n++
	}
	rate := float64(disk.Size()) * float64(n) / time.Since(start).Seconds()
	b.ReportMetric(100*rate/(1e9/8), "%-of-link")
	reportMemory(b)
}

// reportMemory reports the most that the process had in memory.
func reportMemory(b *testing.B) {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	if runtime.GOOS == "linux" {
		b.ReportMetric(float64(u.Maxrss)/1024, "peak-MiB")
	}
}

// fastClient keeps as many connections as there are workers, as the publisher
// does.
func fastClient(url string) *ebs.Client {
	return ebs.NewFromConfig(moto.Config(url, "us-east-1"), func(o *ebs.Options) {
		o.HTTPClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * snapshot.DefaultWorkers}}
		o.BaseEndpoint = aws.String(url)
	})
}
