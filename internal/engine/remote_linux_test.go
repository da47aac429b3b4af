package engine

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"

	"nodesmith.dev/nodesmith/internal/bundle"
	"nodesmith.dev/nodesmith/internal/engine/enginetest"
	"nodesmith.dev/nodesmith/internal/fault"
	"nodesmith.dev/nodesmith/internal/format"
	formats "nodesmith.dev/nodesmith/internal/format/known"
	"nodesmith.dev/nodesmith/internal/format/mapped"
	"nodesmith.dev/nodesmith/internal/format/pack"
	"nodesmith.dev/nodesmith/internal/testenv"
)

// kill ends a daemon at once, and unmounts what it leaves.
func kill(d *enginetest.Daemon) {
	d.Stop(syscall.SIGKILL)
	sweep(context.Background(), d.Root)
}

// remote opens the daemon with the fixture's inputs.
func (f *fixture) remote(t *testing.T, r Remote, observe func(*client.SolveStatus)) (*Engine, error) {
	t.Helper()
	e, err := Open(t.Context(), Options{Remote: r, Inputs: f.inputs.Blobs, Observe: observe})
	if err == nil {
		t.Cleanup(func() { _ = e.Close() })
	}
	return e, err
}

// packed is the graph that packs the disk of the guest's step.
func (f *fixture) packed(t *testing.T) llb.State {
	t.Helper()
	program, err := f.inputs.Content(t.Context(), "step-pack",
		bundle.File{Name: "step", Mode: 0o755, Path: testenv.GoProgram(t, "nodesmith.dev/nodesmith/cmd/step-pack")},
		bundle.File{Name: "config.json", Mode: 0o644, Data: []byte(`{"Disk": "/disk", "Trees": {"root": "/disk/tree"}, "Out": "/out/disk.packed"}`)})
	if err != nil {
		t.Fatal(err)
	}
	return llb.Scratch().Run(llb.Args([]string{"/program/step", "disk", "/program/config.json"}), llb.Network(pb.NetMode_NONE),
		llb.AddEnv("SOURCE_DATE_EPOCH", "0"), llb.AddMount("/program", program, llb.Readonly),
		llb.AddMount("/disk", f.step("disk"), llb.Readonly), llb.WithCustomName("step pack")).AddMount("/out", llb.Scratch())
}

// certificates writes PEM files: those of a CA, and a server's and a client's
// that it signed, the server's for buildkit.test.
func certificates(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	for serial, name := range []string{"ca", "server", "client"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		certificate := &x509.Certificate{
			SerialNumber: big.NewInt(int64(serial + 1)), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"buildkit.test"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: name == "ca", BasicConstraintsValid: true,
			KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		if ca == nil {
			ca, caKey = certificate, key
		}
		der, err := x509.CreateCertificate(rand.Reader, certificate, ca, &key.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for suffix, block := range map[string]*pem.Block{
			".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: pkcs8},
		} {
			if err := os.WriteFile(filepath.Join(dir, name+suffix), pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// tlsFrom returns the client's side of the certificates in dir.
func tlsFrom(dir string) TLS {
	return TLS{
		CA: filepath.Join(dir, "ca.pem"), Certificate: filepath.Join(dir, "client.pem"), Key: filepath.Join(dir, "client.key"),
		ServerName: "buildkit.test",
	}
}

// freeAddress returns an address on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "tcp://" + l.Addr().String()
}

// tlsDaemon runs a daemon that also listens on tcp:// with TLS.
func tlsDaemon(t *testing.T, dir string) (d *enginetest.Daemon, address string) {
	t.Helper()
	certificates(t, filepath.Join(dir, "tls"))
	address = freeAddress(t)
	return enginetest.Start(t, filepath.Join(dir, "daemon"), "--addr", address, "--tlscacert", filepath.Join(dir, "tls/ca.pem"),
		"--tlscert", filepath.Join(dir, "tls/server.pem"), "--tlskey", filepath.Join(dir, "tls/server.key")), address
}

// sumOf returns the digest of a disk's whole content.
func sumOf(t *testing.T, disk format.Source) string {
	t.Helper()
	hash := sha256.New()
	n, err := io.Copy(hash, io.NewSectionReader(disk, 0, disk.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d bytes, %x", n, hash.Sum(nil))
}

// mapped returns the digest of the disk of the guest's step, read where it lies.
func (f *fixture) mapped(t *testing.T) (sum string) {
	t.Helper()
	err := f.open(t, nil).Mounted(t.Context(), "embedded", []llb.State{f.step("disk")}, func(dirs []string) error {
		disk, err := mapped.Open(dirs[0], map[string]string{"root": filepath.Join(dirs[0], "tree")})
		if err != nil {
			return err
		}
		sum = sumOf(t, disk)
		return disk.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// unpacked returns the digest of a packed disk.
func unpacked(t *testing.T, path string) string {
	t.Helper()
	disk, err := formats.OpenFile(path, pack.Format.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	return sumOf(t, disk)
}

func TestARemoteEngineMakesTheSameDisk(t *testing.T) {
	f := newFixture(t)
	want := f.mapped(t)
	d, address := tlsDaemon(t, f.dir)
	for name, remote := range map[string]Remote{
		"unix":                           {Address: d.Address()},
		"tcp with TLS":                   {Address: address, TLS: tlsFrom(filepath.Join(f.dir, "tls"))},
		"the engine of a nodesmith":      {Address: "unix://" + filepath.Join(f.root(), "engine.sock")},
		"the same again, from its cache": {Address: d.Address()},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := f.remote(t, remote, nil)
			if err != nil {
				t.Fatal(err)
			}
			dest := t.TempDir()
			if err := e.Export(t.Context(), "remote", f.packed(t), dest); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dest, "disk.packed")
			if got := unpacked(t, path); got != want {
				t.Errorf("disk of %s, want %s", got, want)
			}
			if info, err := os.Stat(path); err != nil || info.Size() > 4<<20 {
				t.Errorf("%v, %v: holes came over the wire", info.Size(), err)
			}
			state, err := f.inputs.Content(t.Context(), "x", bundle.File{Name: "hello", Mode: 0o644, Data: []byte("world")})
			if err != nil {
				t.Fatal(err)
			}
			if text, err := e.ReadFile(t.Context(), "read", state, "hello"); err != nil || string(text) != "world" {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
}

func TestWhatIsWrongWithARemoteEngineIsSaid(t *testing.T) {
	f := newFixture(t)
	_, address := tlsDaemon(t, f.dir)
	good := tlsFrom(filepath.Join(f.dir, "tls"))
	certificates(t, filepath.Join(f.dir, "others"))
	other := filepath.Join(f.dir, "other.sock")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", other)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	unsigned, unnamed := good, good
	unsigned.Certificate, unsigned.Key = "", ""
	unnamed.ServerName = ""
	for name, test := range map[string]struct {
		remote Remote
		kind   fault.Kind
		want   string
	}{
		"no address":               {Remote{Address: "builder"}, fault.Usage, `"builder" is no address of an engine`},
		"an unknown kind":          {Remote{Address: "docker://x"}, fault.Usage, `"docker://x" is no address of an engine`},
		"TLS for a socket":         {Remote{Address: "unix:///x", TLS: good}, fault.Usage, "TLS is for tcp:// alone"},
		"a certificate, no key":    {Remote{Address: address, TLS: TLS{Certificate: "x"}}, fault.Usage, "go together"},
		"no such CA file":          {Remote{Address: address, TLS: TLS{CA: "/none.pem"}}, fault.Usage, "/none.pem: no such file"},
		"no socket":                {Remote{Address: "unix:///none.sock"}, fault.Network, "engine unix:///none.sock does not answer"},
		"nobody listens":           {Remote{Address: freeAddress(t)}, fault.Network, "connection refused"},
		"plain where TLS is asked": {Remote{Address: address}, fault.Network, "does not answer"},
		"another's CA":             {Remote{Address: address, TLS: tlsFrom(filepath.Join(f.dir, "others"))}, fault.Network, "certificate signed by unknown authority"},
		"another name":             {Remote{Address: address, TLS: unnamed}, fault.Network, "127.0.0.1"},
		"no client certificate":    {Remote{Address: address, TLS: unsigned}, fault.Network, "does not answer"},
		"no BuildKit":              {Remote{Address: "unix://" + other}, fault.Engine, "no BuildKit"},
		"no such container":        {Remote{Address: "docker-container://none"}, fault.Network, "docker-container://none does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.remote(t, test.remote, nil)
			if err == nil || fault.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("%v (%v), want %q (%v)", err, fault.KindOf(err), test.want, test.kind)
			}
			t.Logf("%v\n-> %s", err, fault.RemedyOf(err))
		})
	}
}

func TestAnEngineOfAnotherProcessorIsRefused(t *testing.T) {
	arm := []ocispecs.Platform{{OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "386"}}
	err := Remote{Address: "unix:///x"}.runs(arm)
	if fault.KindOf(err) != fault.Engine || err.Error() != "engine unix:///x runs linux/arm64, linux/386, not linux/amd64" {
		t.Error(err)
	}
	for _, variant := range []string{"", "v2"} {
		amd := ocispecs.Platform{OS: "linux", Architecture: "amd64", Variant: variant}
		if err := (Remote{}).runs(append(arm, amd)); (err == nil) != (variant == "") {
			t.Errorf("amd64 %q: %v", variant, err)
		}
	}
}

func TestABuildGoesOnAfterItsDaemonWasKilled(t *testing.T) {
	f := newFixture(t)
	d := enginetest.Start(t, filepath.Join(f.dir, "daemon"))
	var once sync.Once
	killed := make(chan struct{})
	r := &ran{names: map[string]bool{}}
	e, err := f.remote(t, Remote{Address: d.Address()}, func(event *client.SolveStatus) {
		if len(event.Logs) > 0 { // the second step runs
			once.Do(func() {
				go func() { defer close(killed); kill(d) }()
			})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Solve(t.Context(), "first step", f.step("sparse")); err != nil {
		t.Fatal(err)
	}
	graph := llb.Merge([]llb.State{f.step("sparse"), f.step("slow")})
	err = e.Solve(t.Context(), "both", graph)
	if fault.KindOf(err) != fault.Network || !strings.Contains(err.Error(), "both: the connection to engine "+d.Address()+" is lost") {
		t.Fatalf("%v (%v)", err, fault.KindOf(err))
	}
	<-killed
	again := enginetest.Start(t, d.Root)
	if e, err = f.remote(t, Remote{Address: again.Address()}, r.watch); err != nil {
		t.Fatal(err)
	}
	dest := t.TempDir()
	if err := e.Export(t.Context(), "both", graph, dest); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(dest, "slow")); err != nil || string(data) != "done" {
		t.Errorf("the second step's result: %q, %v", data, err)
	}
	if r.names["step sparse"] || !r.names["step slow"] {
		t.Errorf("the next build ran %v, want the step that was cut off alone", r.names)
	}
}
