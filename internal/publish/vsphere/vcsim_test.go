package vsphere

import (
	"bufio"
	"context"
	"crypto/sha1" //nolint:gosec // what ESXi answers with
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vapi/rest"
	_ "github.com/vmware/govmomi/vapi/simulator" // tags and content libraries
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"nodesmith.dev/nodesmith/api/v1alpha1"
	"nodesmith.dev/nodesmith/internal/format"
	"nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/format/ova"
	"nodesmith.dev/nodesmith/internal/publish"
	"nodesmith.dev/nodesmith/internal/publish/publishtest"
	"nodesmith.dev/nodesmith/internal/publish/publishtest/faultproxy"
)

// simulatorVariable tells a process of the test's binary that it is VMware's
// simulator of vCenter: govmomi's vcsim command is a module of its own that has
// no code but its flags.
const simulatorVariable = "NODESMITH_TEST_VCSIM"

func TestMain(m *testing.M) {
	if os.Getenv(simulatorVariable) != "" {
		if err := simulate(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(publishtest.Main(m, open))
}

// simulate runs the simulator until standard input ends.
func simulate() error {
	model := simulator.VPX()
	model.Pod = 1
	if err := model.Create(); err != nil {
		return err
	}
	defer model.Remove()
	model.Service.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	model.Service.RegisterEndpoints = true
	model.Service.Listen = &url.URL{User: url.UserPassword("user", "secret"), Host: "127.0.0.1:0"}
	server := model.Service.NewServer()
	defer server.Close()
	fmt.Println(server.URL.Host)
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// vcsim is a simulator in a process of its own, behind a proxy.
type vcsim struct {
	proxy  *faultproxy.Proxy
	direct *govmomi.Client
	rest   *rest.Client
	// arrived are the SHA-1s of uploads, as the proxy saw them pass.
	mu      sync.Mutex
	arrived []string
	ova     string
	options openOptions
	before  int    // virtual machines of the simulator's own
	data    string // where the simulator's datastores are
}

// openOptions are an argument of open.
type openOptions struct {
	OVA, CA  string
	Target   v1alpha1.VSphereTarget
	Password string
	Level    publish.Level
	Digest   digest.Digest
	// Hardware stands in for the field of Target: its JSON is a number.
	Hardware int
}

// open makes the publisher as the command line does.
func open(_ context.Context, args []string) (publish.Publisher, publish.Image, error) {
	var o openOptions
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return nil, publish.Image{}, err
	}
	pool := x509.NewCertPool()
	if o.CA != "" {
		data, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, publish.Image{}, err
		}
		pool.AppendCertsFromPEM(data)
	}
	disk, err := known.OpenFile(o.OVA, "")
	if err != nil {
		return nil, publish.Image{}, err
	}
	image := publish.Image{
		Name: "node", Reference: o.OVA, Infrastructure: "vsphere", Architecture: "amd64", Distro: "ubuntu", DistroVersion: "24.04",
		Kubernetes: "v1.34.0", Digest: o.Digest, Level: o.Level, Disk: disk,
		Open: func(context.Context, string) (publish.Content, error) { return openFile(o.OVA) },
	}
	o.Target.HardwareVersion = v1alpha1.Count(o.Hardware)
	access := Access{User: url.UserPassword("user", o.Password), CAs: pool, Retry: publish.Policy{Tries: 8, First: time.Millisecond, Longest: 20 * time.Millisecond}}
	return New(o.Target, access), image, nil
}

// file is a publish.Content.
type file struct{ *os.File }

func (f file) Size() int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

func openFile(path string) (publish.Content, error) {
	f, err := os.Open(path)
	return file{f}, err
}

// start starts a simulator and makes an OVA with so many bytes of data.
func start(t testing.TB, size int) *vcsim {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// It ends with its standard input, and removes its datastores then: the test's
	// context would kill it before.
	command := exec.Command(program) //nolint:noctx // the cleanup below ends it
	data := t.TempDir()
	command.Env = append(os.Environ(), simulatorVariable+"=1", "TMPDIR="+data)
	command.Stderr = io.Discard // it logs each fault that it answers
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = stdin.Close(), command.Wait() })
	line := bufio.NewScanner(stdout)
	if !line.Scan() {
		t.Fatal("the simulator did not start")
	}
	address := &url.URL{Scheme: "https", Host: line.Text(), Path: "/sdk"}
	v := &vcsim{data: data, proxy: faultproxy.Start(t, faultproxy.Forward(t, address.String(), nil), faultproxy.Options{TLS: true})}
	v.ova = pack(t, size)
	v.connect(t, address)
	v.proxy.Watch(v.watch)
	v.options = openOptions{
		OVA: v.ova, CA: v.trust(t, address), Password: "secret", Level: publish.Boot, Digest: digest.FromString(t.Name()),
		Target: v1alpha1.VSphereTarget{Server: strings.TrimPrefix(v.proxy.URL, "https://"), Datacenter: "DC0", Cluster: "DC0_C0", Networks: map[string]string{"nic0": "VM Network"}},
	}
	target := v1alpha1.PublishTarget{Spec: v1alpha1.PublishSpec{VSphere: []v1alpha1.VSphereTarget{v.options.Target}}}
	target.Default()
	v.options.Target = target.Spec.VSphere[0]
	v.before = len(v.machines(t))
	return v
}

// connect opens the test's own session, past the proxy, and has the simulator
// take uploads through the proxy.
func (v *vcsim) connect(t testing.TB, address *url.URL) {
	t.Helper()
	withUser := *address
	withUser.User = url.UserPassword("user", "secret")
	var err error
	if v.direct, err = govmomi.NewClient(t.Context(), &withUser, true); err != nil {
		t.Fatal(err)
	}
	v.rest = rest.NewClient(v.direct.Client)
	if err := v.rest.Login(t.Context(), withUser.User); err != nil {
		t.Fatal(err)
	}
	options := object.NewOptionManager(v.direct.Client, *v.direct.ServiceContent.Setting)
	if err := options.Update(t.Context(), []types.BaseOptionValue{&types.OptionValue{Key: "vcsim.server.url", Value: v.proxy.URL + "/sdk"}}); err != nil {
		t.Fatal(err)
	}
}

// trust writes the certificates of the proxy and of the simulator to a file.
func (v *vcsim) trust(t testing.TB, address *url.URL) string {
	t.Helper()
	conn, err := tls.Dial("tcp", address.Host, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // to learn its certificate
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var text []byte
	for _, c := range []*x509.Certificate{v.proxy.Server.Certificate(), conn.ConnectionState().PeerCertificates[0]} {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// watch takes the SHA-1 of each upload.
func (v *vcsim) watch(r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, "/nfc/") {
		return
	}
	r.Body = &summed{ReadCloser: r.Body, left: r.ContentLength, sum: sha1.New(), whole: func(sum string) { //nolint:gosec // what ESXi answers with
		v.mu.Lock()
		defer v.mu.Unlock()
		v.arrived = append(v.arrived, sum)
	}}
}

// summed is a body that tells its digest when all of it was read.
type summed struct {
	io.ReadCloser
	left  int64
	sum   hash.Hash
	whole func(string)
}

func (s *summed) Read(b []byte) (int, error) {
	n, err := s.ReadCloser.Read(b)
	_, _ = s.sum.Write(b[:n])
	if s.left -= int64(n); n > 0 && s.left == 0 {
		s.whole(hex.EncodeToString(s.sum.Sum(nil)))
	}
	return n, err
}

// pack makes an OVA with a disk of 64 MiB that has so many bytes of data.
func pack(t testing.TB, data int) string {
	t.Helper()
	dir := t.TempDir()
	raw := filepath.Join(dir, "disk.raw")
	content := make([]byte, data)
	state := uint64(88172645463325252) // xorshift: nothing that compresses
	for i := range content {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		content[i] = byte(state)
	}
	if err := os.WriteFile(raw, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(raw, 64<<20); err != nil {
		t.Fatal(err)
	}
	disk, err := known.OpenFile(raw, "raw")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = disk.Close() }()
	path := filepath.Join(dir, "node.ova")
	options := ova.Options{Name: "node", Product: ova.Product{Name: "Ubuntu", Version: "kube-v1.34.0", Properties: []ova.Property{
		{Key: "VERSION", Value: "v1.34.0+example.1"}, {Key: "DISTRO_NAME", Value: "ubuntu"}, {Key: "DISTRO_VERSION", Value: "24.04"},
		{Key: "DISTRO_ARCH", Value: "amd64"}, {Key: "KUBERNETES_SEMVER", Value: "v1.34.0"},
	}}}
	if _, err := (format.Converter{}).Convert(t.Context(), disk, []format.Target{{Path: path, New: options.New}}); err != nil {
		t.Fatal(err)
	}
	return path
}

// Args is the JSON of the options.
func (v *vcsim) Args() []string {
	text, err := json.Marshal(v.options)
	if err != nil {
		panic(err)
	}
	return []string{string(text)}
}

// Proxy is what the publisher sees of the simulator.
func (v *vcsim) Proxy() *faultproxy.Proxy { return v.proxy }

// machines are all virtual machines and templates.
func (v *vcsim) machines(t testing.TB) []mo.VirtualMachine {
	t.Helper()
	list, err := find.NewFinder(v.direct.Client).VirtualMachineList(t.Context(), "/DC0/vm/*")
	if err != nil {
		t.Fatal(err)
	}
	var refs []types.ManagedObjectReference
	for _, vm := range list {
		refs = append(refs, vm.Reference())
	}
	var all []mo.VirtualMachine
	if err := property.DefaultCollector(v.direct.Client).Retrieve(t.Context(), refs, []string{"name", "config", "snapshot", "customValue", "availableField"}, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// find returns a virtual machine by its name.
func (v *vcsim) find(t testing.TB, name string) *mo.VirtualMachine {
	t.Helper()
	for _, vm := range v.machines(t) {
		if vm.Name == name {
			return &vm
		}
	}
	return nil
}

// templateName is what the tests' target makes of the tests' image.
const templateName = "ubuntu-2404-kube-v1.34.0"

// Check looks at the inventory itself.
func (v *vcsim) Check(t testing.TB, image publish.Image, present bool) {
	t.Helper()
	all, want := v.machines(t), v.before
	if present {
		want++
	}
	if len(all) != want {
		var names []string
		for _, vm := range all {
			names = append(names, vm.Name)
		}
		t.Errorf("%d virtual machines, want %d: %s", len(all), want, strings.Join(names, ", "))
	}
	vm := v.find(t, templateName)
	if (vm != nil) != present {
		t.Fatalf("template %s present: %v, want %v", templateName, vm != nil, present)
	}
	tagged := v.tagged(t, image.Digest.String())
	if !present {
		if tagged != nil {
			t.Errorf("the tag is still there, at %v", tagged)
		}
		return
	}
	if len(tagged) != 1 || tagged[0] != vm.Self {
		t.Errorf("the tag is at %v", tagged)
	}
	v.checkTemplate(t, vm, image)
}

// tagged are the objects with the tag of a digest; nil if there is no such tag.
func (v *vcsim) tagged(t testing.TB, name string) []types.ManagedObjectReference {
	t.Helper()
	m := tags.NewManager(v.rest)
	all, err := m.GetTags(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range all {
		if tag.Name != name {
			continue
		}
		objects, err := m.ListAttachedObjects(t.Context(), tag.ID)
		if err != nil {
			t.Fatal(err)
		}
		refs := []types.ManagedObjectReference{}
		for _, o := range objects {
			refs = append(refs, o.Reference())
		}
		return refs
	}
	return nil
}

// checkTemplate holds that the template is what Cluster API and TKG look for.
func (v *vcsim) checkTemplate(t testing.TB, vm *mo.VirtualMachine, image publish.Image) {
	t.Helper()
	m := machine{VirtualMachine: *vm}
	if !vm.Config.Template {
		t.Error("it is no template")
	}
	if vm.Snapshot == nil || vm.Snapshot.CurrentSnapshot == nil {
		t.Error("linked clones have no snapshot to begin at")
	}
	properties := m.properties("Cluster API Provider (CAPI)") // as TKG spells it
	for key, want := range map[string]string{
		"VERSION": "v1.34.0+example.1", "DISTRO_NAME": "ubuntu", "DISTRO_VERSION": "24.04", "DISTRO_ARCH": "amd64", "KUBERNETES_SEMVER": "v1.34.0",
	} {
		if properties[key] != want {
			t.Errorf("OVF property %s is %q, want %q", key, properties[key], want)
		}
	}
	for key, want := range image.Tags() {
		if got := m.attributes()[key]; got != want {
			t.Errorf("custom attribute %s is %q, want %q", key, got, want)
		}
	}
	// The simulator throws uploads away: what passed the proxy last is what the
	// template was made of, and the simulator's own SHA-1 of it was compared by
	// the publisher.
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.arrived) == 0 || v.arrived[len(v.arrived)-1] != v.sent(t) {
		t.Errorf("uploads %v, want the last to be %s", v.arrived, v.sent(t))
	}
}

// sent is the SHA-1 of the OVA's disk.
func (v *vcsim) sent(t testing.TB) string {
	t.Helper()
	sum := sha1.Sum(v.packed(t)) //nolint:gosec // what ESXi answers with
	return hex.EncodeToString(sum[:])
}

// packed is the OVA's disk, as it lies there.
func (v *vcsim) packed(t testing.TB) []byte {
	t.Helper()
	f, err := openFile(v.ova)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	p, err := ova.Open(f, f.Size())
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(io.NewSectionReader(f, p.Embedded().Offset, p.Embedded().Length))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Use attaches the template's disk to another virtual machine: the simulator
// gives linked clones no parent, by which they would be found on a real one.
func (v *vcsim) Use(t testing.TB, _ publish.Image) func() {
	t.Helper()
	ctx := t.Context()
	template, user := v.find(t, templateName), v.find(t, "DC0_H0_VM0")
	m := machine{VirtualMachine: *template}
	vm := object.NewVirtualMachine(v.direct.Client, user.Self)
	devices, err := vm.Device(ctx)
	if err != nil {
		t.Fatal(err)
	}
	controller, err := devices.FindDiskController("")
	if err != nil {
		t.Fatal(err)
	}
	disk := devices.CreateDisk(controller, types.ManagedObjectReference{}, m.disks()[0])
	if err := vm.AddDevice(ctx, disk); err != nil {
		t.Fatal(err)
	}
	return func() {
		devices, err := vm.Device(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range devices.SelectByType((*types.VirtualDisk)(nil)) {
			if b, ok := d.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok && b.FileName == m.disks()[0] {
				if err := vm.RemoveDevice(ctx, true, d); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestSuite(t *testing.T) {
	publishtest.Run(t, publishtest.Suite{
		Open: open, Start: func(t testing.TB) publishtest.Server { return start(t, 1<<20) },
	})
}
