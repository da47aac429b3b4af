package vsphere

import (
	"context"
	"crypto/sha1" //nolint:gosec // what ESXi answers with
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	vfault "github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"golang.org/x/sync/errgroup"

	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/ova"
	"nodesmith.dev/nodesmith/internal/publish"
)

// importStep is the step that makes the virtual machine and sends its disk.
func (j *job) importStep(mine *machine) (publish.Step, error) {
	step := publish.Step{ID: "import", Action: publish.Create, Kind: "virtual machine", Do: j.importVM}
	switch {
	case mine != nil && mine.whole():
		return choose(true, step), nil
	case mine != nil:
		step.Action, step.Why = publish.Resume, "an earlier upload broke off: it is sent again"
	}
	var err error
	step.Bytes, err = dataBytes(j.image.Disk)
	return step, err
}

// archive is an open OVA.
type archive struct {
	publish.Content
	*ova.Package
	envelope *ovf.Envelope
}

// openOVA opens the image's OVA.
func (j *job) openOVA(ctx context.Context) (*archive, error) {
	content, err := j.image.Open(ctx, ova.Format.Name)
	if err != nil {
		return nil, fmt.Errorf("open the OVA: %w", err)
	}
	a := &archive{Content: content}
	if a.Package, err = ova.Open(content, content.Size()); err == nil {
		a.envelope, err = ovf.Unmarshal(strings.NewReader(string(a.Descriptor)))
	}
	if err == nil && a.envelope.VirtualSystem == nil {
		err = fmt.Errorf("the descriptor has no virtual machine: %w", format.ErrCorrupt)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the OVA: %w", err), content.Close())
	}
	return a, nil
}

// Close closes the file.
func (a *archive) Close() error { return a.Content.Close() }

// file returns a file of the package.
func (a *archive) file(name string) (*io.SectionReader, error) {
	for _, f := range a.Files {
		if f.Name == name {
			return io.NewSectionReader(a.Content, f.Offset, f.Size), nil
		}
	}
	return nil, fmt.Errorf("the OVA has no file %q: %w", name, format.ErrCorrupt)
}

// importVM makes the virtual machine and sends its disk. What an earlier try
// left is taken away first.
func (j *job) importVM(ctx context.Context, run *publish.Run) (err error) {
	f, err := j.look(ctx)
	if err != nil {
		return err
	}
	if f.mine != nil {
		if f.mine.whole() {
			return nil
		}
		if err := destroy(ctx, j.client, f.mine.Self); err != nil {
			return err
		}
	}
	a, err := j.openOVA(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	spec, err := j.importSpec(ctx, a)
	if err != nil {
		return err
	}
	if err := run.Note("name", importName(j.name, j.image.Digest)); err != nil {
		return err
	}
	lease, err := j.place.pool.ImportVApp(ctx, spec.ImportSpec, j.place.folder, nil)
	if err != nil {
		return duplicate(err)
	}
	info, err := lease.Wait(ctx, spec.FileItem)
	if err != nil {
		return duplicate(errors.Join(err, abort(ctx, lease)))
	}
	if err := run.Note("vm", info.Entity.Value); err != nil {
		return errors.Join(err, abort(ctx, lease))
	}
	if err := j.fill(ctx, run, a, lease, info); err != nil {
		return lost(errors.Join(err, abort(ctx, lease)))
	}
	return j.accept(ctx, a, info.Entity)
}

// duplicate is an error of making a virtual machine whose name is taken: by one
// that a call made whose answer was lost, and that the next try removes.
func duplicate(err error) error {
	if vfault.Is(err, &types.DuplicateName{}) {
		return publish.Temporary(err)
	}
	return err
}

// lost is an error of an upload: when the lease is gone, as when the session
// expired, the next try sends again.
func lost(err error) error {
	if gone(err) {
		return publish.Temporary(err)
	}
	return err
}

// abort gives an upload up, whatever became of the context.
func abort(ctx context.Context, lease *nfc.Lease) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := lease.Abort(ctx, nil); err != nil && !gone(err) && !vfault.Is(err, &types.InvalidState{}) {
		return fmt.Errorf("give the upload up: %w", err)
	}
	return nil
}

// importSpec has vSphere turn the descriptor into a virtual machine, and writes
// into its settings what it is.
func (j *job) importSpec(ctx context.Context, a *archive) (*types.OvfCreateImportSpecResult, error) {
	var names []string
	if a.envelope.Network != nil {
		for _, n := range a.envelope.Network.Networks {
			names = append(names, n.Name)
		}
	}
	networks, err := j.place.networks(ctx, j.target.Networks, names)
	if err != nil {
		return nil, err
	}
	name := importName(j.name, j.image.Digest)
	datastore, err := j.place.choose(ctx, j.client, name, j.image.Disk.Size())
	if err != nil {
		return nil, err
	}
	spec, err := ovf.NewManager(j.Client).CreateImportSpec(ctx, string(a.Descriptor), j.place.pool, datastore, &types.OvfCreateImportSpecParams{
		EntityName: name, NetworkMapping: networks, DiskProvisioning: j.target.Provisioning,
		OvfManagerCommonParams: types.OvfManagerCommonParams{Locale: "US"},
	})
	if err != nil {
		return nil, fmt.Errorf("have vSphere read the OVF descriptor: %w", err)
	}
	for _, e := range spec.Error {
		return nil, fault.New(fault.Remote, "", "vSphere refuses the OVF descriptor: %s", e.LocalizedMessage)
	}
	vm, ok := spec.ImportSpec.(*types.VirtualMachineImportSpec)
	if !ok {
		return nil, fmt.Errorf("the OVA is no single virtual machine: %w", format.ErrCorrupt)
	}
	for _, setting := range [][2]string{{digestSetting, j.image.Digest.String()}, {nameSetting, j.name}} {
		vm.ConfigSpec.ExtraConfig = append(vm.ConfigSpec.ExtraConfig, &types.OptionValue{Key: setting[0], Value: setting[1]})
	}
	return spec, nil
}

// fill sends the files that the lease waits for, and ends it when the vCenter
// has what was sent.
func (j *job) fill(ctx context.Context, run *publish.Run, a *archive, lease *nfc.Lease, info *nfc.LeaseInfo) error {
	var total int64
	for _, item := range info.Items {
		total += max(item.Size, 1)
	}
	var sent atomic.Int64
	group, sending := errgroup.WithContext(ctx)
	sending, stop := context.WithCancel(sending)
	defer stop()
	sums := map[string]*sums{}
	group.Go(func() error {
		defer stop()
		for _, item := range info.Items {
			sum, err := j.send(sending, run, a, item, &sent)
			if err != nil {
				return fmt.Errorf("send %s: %w", item.Path, err)
			}
			sums[item.DeviceId] = sum
		}
		return nil
	})
	group.Go(func() error {
		return renew(sending, lease, info, func() int32 { return int32(min(99, sent.Load()*100/max(total, 1))) })
	})
	if err := group.Wait(); err != nil {
		return err
	}
	if err := check(ctx, lease, info, sums); err != nil {
		return err
	}
	return lease.Complete(ctx)
}

// renew tells the vCenter now and then that the upload goes on: it takes the
// machine away otherwise.
func renew(ctx context.Context, lease *nfc.Lease, info *nfc.LeaseInfo, percent func() int32) error {
	interval := time.Duration(info.LeaseTimeout) * time.Second / 10
	ticker := time.NewTicker(max(interval, time.Second))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil // Wait returns the error of who cancelled
		case <-ticker.C:
			if err := lease.Progress(ctx, percent()); err != nil && ctx.Err() == nil && classify(err) == publish.Final {
				return fmt.Errorf("renew the lease: %w", err)
			}
		}
	}
}

// sums are digests of what was sent, in the kinds that vSphere knows.
type sums struct {
	size         int64
	sha1, sha256 hash.Hash
}

// send sends one file.
func (j *job) send(ctx context.Context, run *publish.Run, a *archive, item nfc.FileItem, sent *atomic.Int64) (*sums, error) {
	file, err := a.file(item.Path)
	if err != nil {
		return nil, err
	}
	s := &sums{size: file.Size(), sha1: sha1.New(), sha256: sha256.New()} //nolint:gosec // what ESXi answers with
	body := &progressReader{io.TeeReader(file, io.MultiWriter(s.sha1, s.sha256)), func(n int64) {
		sent.Add(n)
		run.Sent(n)
	}}
	upload := soap.Upload{Method: http.MethodPost, Type: "application/x-vnd.vmware-streamVmdk", ContentLength: file.Size()}
	if item.Create {
		upload.Method, upload.Headers = http.MethodPut, map[string]string{"Overwrite": "t"}
	}
	return s, j.Client.Upload(ctx, body, item.URL, &upload)
}

// progressReader reports what is read of it.
type progressReader struct {
	io.Reader
	report func(int64)
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if n > 0 {
		p.report(int64(n))
	}
	return n, err
}

// check holds what the vCenter says that it got against what was sent. It need
// not say anything: not every host keeps digests.
func check(ctx context.Context, lease *nfc.Lease, info *nfc.LeaseInfo, sent map[string]*sums) error {
	received, err := lease.GetManifest(ctx)
	if err != nil {
		return fmt.Errorf("ask for the digests of what arrived: %w", err)
	}
	for _, url := range info.DeviceUrl {
		s := sent[url.ImportKey]
		i := slices.IndexFunc(received, func(e types.HttpNfcLeaseManifestEntry) bool { return e.Key == url.Key })
		if s == nil || i < 0 {
			continue
		}
		got := received[i]
		want := map[string]string{"SHA1": hex.EncodeToString(s.sha1.Sum(nil)), "SHA256": hex.EncodeToString(s.sha256.Sum(nil))}
		damaged := got.Size != s.size ||
			got.Sha1 != "" && !strings.EqualFold(got.Sha1, want["SHA1"]) ||
			want[strings.ToUpper(got.ChecksumType)] != "" && !strings.EqualFold(got.Checksum, want[strings.ToUpper(got.ChecksumType)])
		if damaged {
			return publish.Temporary(fmt.Errorf("%s arrived damaged: %d bytes with SHA-1 %s, sent were %d with %s", url.TargetId, got.Size, got.Sha1, s.size, want["SHA1"]))
		}
	}
	return nil
}

// accept holds the OVF properties of what was imported against the descriptor's,
// by which Tanzu Kubernetes Grid finds templates, and marks it whole.
func (j *job) accept(ctx context.Context, a *archive, ref types.ManagedObjectReference) error {
	f, err := j.look(ctx)
	if err != nil {
		return err
	}
	if f.mine == nil || f.mine.Self != ref {
		return publish.Temporary(errNotThere)
	}
	for _, product := range a.envelope.VirtualSystem.Product {
		got := f.mine.properties(product.Category)
		for _, p := range product.Property {
			if p.Default != nil && got[p.Key] != *p.Default {
				return fault.New(fault.Remote, "", "the OVF property %s (%s) arrived as %q, not %q", p.Key, product.Category, got[p.Key], *p.Default)
			}
		}
	}
	return j.finish(ctx, object.NewVirtualMachine(j.Client, ref), f.mine.Config.InstanceUuid)
}
