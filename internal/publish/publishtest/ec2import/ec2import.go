// Package ec2import imports snapshots from S3 before moto, which does not.
//
// What comes in is a handler that asks moto, and requests; what goes out is moto's
// answer, but for the import of snapshots and the dates of deprecation: those
// requests are answered here, as botocore's model has the answers. An import reads
// the object from moto's S3, unpacks the VMDK and writes its disk to a snapshot of
// moto's, so a test can compare what was imported byte by byte. No test can say by
// it what EC2 itself would refuse: the requests are held against AWS's model by
// package awsmodel.
package ec2import

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/publish/aws/snapshot"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/moto"
)

// Handler answers what moto does not, and asks next for the rest.
type Handler struct {
	t    testing.TB
	url  string // moto's
	next http.Handler

	mu    sync.Mutex
	tasks []*task
}

// New returns a Handler before next, which asks the moto at url.
func New(t testing.TB, url string, next http.Handler) *Handler {
	return &Handler{t: t, url: url, next: next}
}

// task is an import.
type task struct {
	ID          string `xml:"importTaskId"`
	Description string `xml:"description"`
	Detail      detail `xml:"snapshotTaskDetail"`
	Tags        []tag  `xml:"tagSet>item"`

	token, region string
	polls         int
}

type detail struct {
	Status     string `xml:"status"`
	Progress   string `xml:"progress,omitempty"`
	Message    string `xml:"statusMessage,omitempty"`
	SnapshotID string `xml:"snapshotId,omitempty"`
	Format     string `xml:"format"`
	Bucket     bucket `xml:"userBucket"`
}

type bucket struct {
	Name string `xml:"s3Bucket"`
	Key  string `xml:"s3Key"`
}

type tag struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

// Active are the imports that are neither done nor ended.
func (h *Handler) Active() (ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, one := range h.tasks {
		if one.Detail.Status == "active" {
			ids = append(ids, one.ID)
		}
	}
	return ids
}

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		h.next.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // cut off
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, err := url.ParseQuery(string(body))
	if err != nil {
		h.next.ServeHTTP(w, r)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch form.Get("Action") {
	case "ImportSnapshot":
		answer(w, "ImportSnapshotResponse", h.begin(form, regionOf(r)))
	case "DescribeImportSnapshotTasks":
		answer(w, "DescribeImportSnapshotTasksResponse", list{h.look(r.Context(), form, regionOf(r))})
	case "CancelImportTask":
		answer(w, "CancelImportTaskResponse", h.cancel(form.Get("ImportTaskId")))
	case "EnableImageDeprecation":
		answer(w, "EnableImageDeprecationResponse", taken{true})
	default:
		h.next.ServeHTTP(w, r)
	}
}

// taken is the answer to what was done at once.
type taken struct {
	Return bool `xml:"return"`
}

type list struct {
	Tasks []*task `xml:"importSnapshotTaskSet>item"`
}

// regionOf is the region that a request was signed for.
func regionOf(r *http.Request) string {
	if parts := strings.Split(r.Header.Get("Authorization"), "/"); len(parts) > 2 {
		return parts[2]
	}
	return ""
}

func answer(w http.ResponseWriter, name string, content any) {
	text, err := xml.Marshal(content)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// The content's own element becomes the answer's.
	inner := text[bytes.IndexByte(text, '>')+1 : bytes.LastIndex(text, []byte("</"))]
	w.Header().Set("Content-Type", "text/xml")
	_, _ = fmt.Fprintf(w, `<%s xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>1</requestId>%s</%s>`, name, inner, name)
}

// begin makes a task, or finds that of the same token.
func (h *Handler) begin(form url.Values, region string) *task {
	token := form.Get("ClientToken")
	if i := slices.IndexFunc(h.tasks, func(one *task) bool { return token != "" && one.token == token && one.region == region }); i >= 0 {
		return h.tasks[i]
	}
	made := &task{
		ID: fmt.Sprintf("import-snap-%08x", len(h.tasks)+1), Description: form.Get("Description"), token: token, region: region,
		Detail: detail{Status: "active", Progress: "0", Format: form.Get("DiskContainer.Format"), Bucket: bucket{
			form.Get("DiskContainer.UserBucket.S3Bucket"), form.Get("DiskContainer.UserBucket.S3Key"),
		}},
	}
	for i := 1; form.Has("TagSpecification.1.Tag." + strconv.Itoa(i) + ".Key"); i++ {
		at := "TagSpecification.1.Tag." + strconv.Itoa(i)
		made.Tags = append(made.Tags, tag{form.Get(at + ".Key"), form.Get(at + ".Value")})
	}
	h.tasks = append(h.tasks, made)
	return made
}

// look returns the tasks that a request asks for. An import takes two looks.
func (h *Handler) look(ctx context.Context, form url.Values, region string) (found []*task) {
	for _, one := range h.tasks {
		if id := form.Get("ImportTaskId.1"); one.region != region || id != "" && id != one.ID {
			continue
		}
		if one.polls++; one.Detail.Status == "active" && one.polls > 2 {
			one.finish(h.carryOut(context.WithoutCancel(ctx), one))
		}
		found = append(found, one)
	}
	return found
}

func (one *task) finish(id string, err error) {
	one.Detail.Progress = ""
	if err != nil {
		one.Detail.Status, one.Detail.Message = "deleted", err.Error()
		return
	}
	one.Detail.Status, one.Detail.SnapshotID = "completed", id
}

func (h *Handler) cancel(id string) *task {
	for _, one := range h.tasks {
		if one.ID == id && one.Detail.Status == "active" {
			one.finish("", fmt.Errorf("cancelled"))
		}
	}
	return &task{ID: id}
}

// carryOut writes the disk of the object to a snapshot.
func (h *Handler) carryOut(ctx context.Context, one *task) (id string, err error) {
	config := moto.Config(h.url, one.region)
	objects := s3.NewFromConfig(config, func(o *s3.Options) { o.UsePathStyle = true })
	object, err := objects.GetObject(ctx, &s3.GetObjectInput{Bucket: &one.Detail.Bucket.Name, Key: &one.Detail.Bucket.Key})
	if err != nil {
		return "", err
	}
	defer func() { _ = object.Body.Close() }()
	path := filepath.Join(h.t.TempDir(), "disk.vmdk")
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(file, object.Body); err != nil {
		return "", err
	}
	if err := file.Close(); err != nil {
		return "", err
	}
	packed, err := known.OpenFile(path, strings.ToLower(one.Detail.Format))
	if err != nil {
		return "", err
	}
	defer func() { _ = packed.Close() }()
	disk, err := packed.Unpack(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = disk.Close() }()
	client := ebs.NewFromConfig(config)
	started, err := client.StartSnapshot(ctx, &ebs.StartSnapshotInput{VolumeSize: aws.Int64(snapshot.VolumeSize(disk.Size()))})
	if err != nil {
		return "", err
	}
	once := func(ctx context.Context, request func(context.Context) error) error { return request(ctx) }
	upload := snapshot.Upload{Client: client, ID: *started.SnapshotId, Disk: disk, Retry: once}
	result, err := upload.Run(ctx)
	if err != nil {
		return "", err
	}
	return *started.SnapshotId, snapshot.Complete(ctx, client, *started.SnapshotId, result)
}
