package snapshot_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/formattest"
	"nodesmith.dev/nodesmith/internal/publish/aws/snapshot"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/awsmodel"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/faultproxy"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/moto"
)

const block = snapshot.BlockSize

// service is moto's EBS behind the recorder and the proxy.
type service struct {
	client   *ebs.Client
	proxy    *faultproxy.Proxy
	recorder *awsmodel.Recorder
}

var server *moto.Server

func TestMain(m *testing.M) {
	if os.Getenv(serverVariable) != "" {
		os.Exit(serveBenchmarks())
	}
	if strings.Contains(strings.Join(os.Args, " "), "-test.run=^$") { // benchmarks alone
		os.Exit(m.Run())
	}
	os.Exit(moto.Main(m, func(s *moto.Server) { server = s }))
}

func start(t *testing.T) *service {
	t.Helper()
	server.Reset(t)
	recorder := awsmodel.New(t, server.Venv, faultproxy.Forward(t, server.URL, nil))
	proxy := faultproxy.Start(t, recorder, faultproxy.Options{})
	return &service{ebs.NewFromConfig(moto.Config(proxy.URL, "us-east-1")), proxy, recorder}
}

// begin starts a snapshot.
func (s *service) begin(t *testing.T, disk format.Source) string {
	t.Helper()
	out, err := s.client.StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(snapshot.VolumeSize(disk.Size()))})
	if err != nil {
		t.Fatal(err)
	}
	s.recorder.Forget()
	return *out.SnapshotId
}

// upload is one that tries each request three times.
func (s *service) upload(id string, disk format.Source) *snapshot.Upload {
	return &snapshot.Upload{Client: s.client, ID: id, Disk: disk, Workers: 8, Retry: thrice}
}

func thrice(ctx context.Context, request func(context.Context) error) (err error) {
	for range 3 {
		if err = request(ctx); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// sent returns the indices of the blocks that were put, ascending, each as often
// as it was.
func (s *service) sent() []string {
	var all []string
	for _, r := range s.recorder.Requests("PutSnapshotBlock") {
		all = append(all, r.Input["BlockIndex"].(string))
	}
	slices.SortFunc(all, func(a, b string) int { return 1000*(len(a)-len(b)) + strings.Compare(a, b) })
	return all
}

// right fails the test unless what AWS's rules say was kept, and the snapshot
// over its parents holds the disk.
func (s *service) right(t *testing.T, disk format.Source, ids ...string) {
	t.Helper()
	if bad := s.recorder.Violations(); len(bad) > 0 {
		t.Errorf("AWS would refuse: %s", strings.Join(bad, "\n"))
	}
	var mu sync.Mutex
	got := map[int32][]byte{}
	for _, id := range ids { // moto knows no parents: theirs come first
		err := snapshot.Read(t.Context(), s.client, id, thrice, func(index int32, data []byte) error {
			mu.Lock()
			defer mu.Unlock()
			got[index] = bytes.Clone(data)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	zeros := make([]byte, block)
	for index := range int32((disk.Size() + block - 1) / block) {
		want := make([]byte, block)
		if _, err := disk.ReadAt(want[:min(block, disk.Size()-int64(index)*block)], int64(index)*block); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		have := got[index]
		if have == nil {
			have = zeros
		}
		if !bytes.Equal(have, want) {
			t.Errorf("block %d of the snapshot is not the disk's", index)
		}
	}
}

// newDisk has data in blocks 0, 1, 3, 4 and 40, and ends within block 100.
func newDisk(r *rand.Rand) *formattest.Disk {
	disk := formattest.NewDisk(100*block + 512)
	disk.Random(r, 0, 4096)
	disk.Random(r, block, 2)
	disk.Random(r, 3*block+100, block)
	disk.Random(r, 40*block, block)
	disk.Put(50*block, make([]byte, block)) // written, and zero
	disk.Random(r, 100*block, 512)
	return disk
}

func TestASnapshotHoldsTheDisk(t *testing.T) {
	s := start(t)
	disk := newDisk(rand.New(rand.NewPCG(1, 2)))
	id := s.begin(t, disk)
	var arrived int32
	u := s.upload(id, disk)
	u.Arrived = func(through int32) error { arrived = through; return nil }
	result, err := u.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := snapshot.Complete(t.Context(), s.client, id, result); err != nil {
		t.Fatal(err)
	}
	s.right(t, disk, id)
	if got, want := s.sent(), []string{"0", "1", "3", "4", "40", "100"}; !slices.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
	if arrived != 101 {
		t.Errorf("arrived through %d, want 101", arrived)
	}
	read, err := snapshot.ReadDigests(t.Context(), s.client, id, thrice)
	if err != nil || !slices.Equal(read, result.Blocks) {
		t.Errorf("digests read back: %v, %v; of the upload: %v", read, err, result.Blocks)
	}
	if size, err := snapshot.DataSize(disk); err != nil || size < int64(len(result.Sent))*block || size > 7*block {
		t.Errorf("DataSize %d blocks, %v", size/block, err)
	}
}

func TestAChildSendsWhatChanged(t *testing.T) {
	s := start(t)
	r := rand.New(rand.NewPCG(3, 4))
	first := newDisk(r)
	parent := s.begin(t, first)
	before, err := s.upload(parent, first).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := newDisk(rand.New(rand.NewPCG(3, 4)))
	second.Random(r, 3*block+4096, 4096)          // changed
	second.Put(40*block, make([]byte, block))     // gone
	second.Random(r, 70*block, 4096)              // new
	second.Put(51*block, make([]byte, 3*block/2)) // written and zero, as before
	child := s.begin(t, second)
	u := s.upload(child, second)
	u.Parent = before.Blocks
	after, err := u.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.sent(), []string{"3", "40", "70"}; !slices.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
	if err := snapshot.Complete(t.Context(), s.client, child, after); err != nil {
		t.Fatal(err)
	}
	s.right(t, second, parent, child)
	if after.Blocks.Sum(40) != sha256.Sum256(make([]byte, block)) || slices.ContainsFunc(after.Blocks, func(b snapshot.Block) bool { return b.Index == 40 }) {
		t.Error("a block that is zero now is listed")
	}
}

// An upload that failed goes on, and its checksum covers what came before too.
func TestAnUploadGoesOnWhereItWas(t *testing.T) {
	s := start(t)
	disk := formattest.NewDisk(60 * block)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range int64(60) {
		disk.Random(r, i*block, 16)
	}
	id := s.begin(t, disk)
	s.proxy.Add(faultproxy.Fault{Skip: 40, Times: -1, Do: faultproxy.CutRequest(1000)})
	var arrived int32
	u := s.upload(id, disk)
	u.Arrived = func(through int32) error { arrived = through; return nil }
	if _, err := u.Run(t.Context()); err == nil {
		t.Fatal("an upload over a dead line succeeded")
	}
	if arrived < 30 || arrived > 40 {
		t.Fatalf("arrived through %d of 40", arrived)
	}
	s.proxy.Clear()
	s.recorder.Forget()
	again := s.upload(id, disk)
	again.From = arrived
	result, err := again.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Requests of the first run may end after it did: hence once or twice.
	sent := slices.Compact(s.sent())
	if len(sent) != 60-int(arrived) || sent[0] != strconv.Itoa(int(arrived)) {
		t.Errorf("sent again %v; all below %d were there", sent, arrived)
	}
	if err := snapshot.Complete(t.Context(), s.client, id, result); err != nil {
		t.Fatal(err)
	}
	s.right(t, disk, id)
}

func TestFaultsThatPassLeaveARightSnapshot(t *testing.T) {
	for name, do := range map[string]faultproxy.Effect{
		"cut in the request": faultproxy.CutRequest(300_000),
		"no answer":          faultproxy.CutAnswer(0),
		"cut in the answer":  faultproxy.CutAnswer(1),
		"503":                faultproxy.Answer(http.StatusServiceUnavailable, nil, ""),
		"throttled":          faultproxy.Answer(http.StatusTooManyRequests, http.Header{"X-Amzn-Errortype": {"RequestThrottledException"}}, `{"Reason": "ACCOUNT_THROTTLED"}`),
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			disk := newDisk(rand.New(rand.NewPCG(7, 8)))
			id := s.begin(t, disk)
			fault := s.proxy.Add(faultproxy.Fault{Skip: 2, Times: 2, Do: do})
			result, err := s.upload(id, disk).Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if hits := s.proxy.Hits(fault); hits != 2 {
				t.Errorf("%d requests were hit", hits)
			}
			if err := snapshot.Complete(t.Context(), s.client, id, result); err != nil {
				t.Fatal(err)
			}
			s.right(t, disk, id)
		})
	}
}

// broken is a disk whose reads fail behind a byte.
type broken struct {
	*formattest.Disk
	at int64
}

var errBroken = errors.New("I/O error")

func (b broken) ReadAt(p []byte, offset int64) (int, error) {
	if offset >= b.at {
		return 0, errBroken
	}
	return b.Disk.ReadAt(p, offset)
}

func TestADiskThatCannotBeReadEndsTheUpload(t *testing.T) {
	s := start(t)
	disk := broken{newDisk(rand.New(rand.NewPCG(9, 10))), 3 * block}
	_, err := s.upload(s.begin(t, disk), disk).Run(t.Context())
	if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "byte 1572864") {
		t.Errorf("got %v", err)
	}
}
